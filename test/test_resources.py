"""Configuration and assets are found from a checkout, a pip install and a colcon install; absence is said in words."""

from __future__ import annotations

import importlib.util
import shutil
import site
import sys
import sysconfig
from pathlib import Path

import pytest

from clipoint3d_ros import resources

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The module as if installed in a site-packages folder, with no checkout, prefix or workspace around it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(site, "getuserbase", lambda: str(tmp_path / "user"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "local") if name == "data" else "")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return module_in(tmp_path / "site-packages")


def module_in(packages: Path):
    package = packages / "clipoint3d_ros"
    package.mkdir(parents=True)
    shutil.copy2(resources.__file__, package)
    spec = importlib.util.spec_from_file_location("installed_resources", package / "resources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def share(prefix: Path) -> Path:
    folder = prefix / "share" / "clipoint3d_ros" / "config"
    folder.mkdir(parents=True)
    (folder / "perception.yaml").write_text("{}\n")
    return folder


def test_a_checkout_uses_its_own_configuration():
    assert resources.config_dir() == ROOT / "config"
    assert resources.config_file("classes/tabletop.yaml").is_file()


def test_a_pip_install_finds_it_in_the_environment(installed, tmp_path):
    folder = share(tmp_path / "prefix")
    assert installed.config_file("perception.yaml") == folder / "perception.yaml"


@pytest.mark.parametrize("base", ["user", "local"])
def test_a_pip_install_outside_an_environment_finds_it(installed, tmp_path, base):
    folder = share(tmp_path / base)
    assert installed.config_dir() == folder


@pytest.mark.parametrize("packages", ["lib/python3.12/site-packages", "local/lib/python3.10/dist-packages", "."])
def test_an_install_finds_what_came_with_it_before_another_s(installed, tmp_path, packages):
    share(tmp_path / "prefix")
    base = tmp_path / "home"
    module = module_in(base / packages)
    folder = share(base / packages.partition("lib")[0])
    assert module.config_dir() == folder


def test_a_colcon_install_finds_it_through_the_ament_path(installed, tmp_path, monkeypatch):
    folder = share(tmp_path / "overlay")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'nothing'}:{tmp_path / 'overlay'}")
    assert installed.config_dir() == folder


def test_a_foreign_config_folder_in_site_packages_is_not_ours(installed, tmp_path):
    (tmp_path / "site-packages" / "config").mkdir()
    with pytest.raises(FileNotFoundError, match="no config folder of clipoint3d_ros"):
        installed.config_dir()


def test_a_missing_file_names_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"no file 'nothing\.yaml'.*classes/tabletop\.yaml"):
        resources.config_file("nothing.yaml")


def test_a_missing_asset_says_so(installed):
    with pytest.raises(FileNotFoundError, match=r"no asset 'nothing'.*there are none"):
        installed.asset("nothing")
