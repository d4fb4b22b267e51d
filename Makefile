# `make help` lists what there is. Every target sets the environment up first; from the second time on at once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

ACTIVATE := source env/activate.sh
# Waiting threads of libgomp would spin on cores that the nodes under test need. Plugins are named rather than found: a
# sourced ROS brings its own, some of them too old for this pytest.
PYTEST := OMP_WAIT_POLICY=PASSIVE PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -p pytest_timeout -p xdist
# Side by side: much of a node's test is waiting. Each worker takes half, and then half of what is left, so that the
# models that a file shares are rarely made twice; torch takes one core in each. At most four, of about 2 GB each.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal
CACHE := $${XDG_CACHE_HOME:-$$HOME/.cache}/clipoint3d_ros

.PHONY: help setup demo test check clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup:  ## make the environment (.venv, a link into the cache)
	@env/setup.sh

demo: setup  ## objects in a cluttered scene, recognised: a table and pictures in demo_output/
	@$(ACTIVATE); python -m clipoint3d_ros demo

check: setup  ## ruff and mypy
	@$(ACTIVATE); ruff check .; ruff format --check .; mypy; echo "checks passed"

test: check  ## the checks, then every test; PYTEST_ARGS="-m 'not slow'" for the quick ones
	@$(ACTIVATE); OMP_NUM_THREADS=1 $(PYTEST) $(PARALLEL) $(PYTEST_ARGS)

clean:  ## remove what builds and tests leave, and the link to the environment
	@rm -rf build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_output
	@find clipoint3d_ros test launch env -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -L .venv ]; then rm .venv; fi

distclean: clean  ## also remove this package's environments from the cache (some gigabytes each)
	@rm -rf "$(CACHE)"
