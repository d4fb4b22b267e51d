"""Cells on disk: computed once, by whichever process."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipoint3d_ros.clip.backbone import WEIGHTS_FILE
from clipoint3d_ros.commands.benchmark_adaptation import ScenesTable
from clipoint3d_ros.evaluation import processes
from clipoint3d_ros.evaluation.adaptation import runs
from clipoint3d_ros.evaluation.adaptation.looking import Looks
from clipoint3d_ros.evaluation.adaptation.methods import Method
from clipoint3d_ros.evaluation.adaptation.runs import Cell, Plan, Start, run_all, run_cell


@dataclass
class Made:
    """Methods that note what they were run for and say something of their own; call number `fail_at` breaks."""

    asked: int = 0
    ran: list = field(default_factory=list)
    fail_at: int | None = None
    failure: Exception = field(default_factory=lambda: RuntimeError("killed"))

    def method(self, name, **more):
        def run(task):
            self.asked += 1
            if self.asked - 1 == self.fail_at:
                raise self.failure
            self.ran.append((name, task.backbone.name, task.recipe.training.seed))
            return Looks(torch.full((1, 10, 3), float(len(self.ran))), torch.full((1, 10), 0.1))

        return Method(name, "made up", run, **more)

    def find(self, names):
        known = {
            "frozen": self.method("frozen", seeded=False),
            "3D": self.method("3D", clip=False),
            "ours": self.method("ours"),
        }
        return tuple(known[name] for name in names.split(","))


@pytest.fixture
def made(monkeypatch):
    made = Made()
    monkeypatch.setattr(runs, "find", made.find)
    return made


@pytest.fixture(scope="module")
def starts(backbone, tmp_path_factory):
    """The small model, and a copy of it under another name with another weight."""
    folder = backbone.name.removeprefix("local-dir:")
    other = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(folder, other)
    weights = load_file(other / WEIGHTS_FILE)
    weights["logit_scale"] = weights["logit_scale"] + 0.1
    save_file(weights, other / WEIGHTS_FILE)
    return Start(f"local-dir:{folder}"), Start(f"local-dir:{other}")


@pytest.fixture
def plan(tmp_path, column, recipe, starts):
    def make():
        return (column,)

    return Plan(make, starts[:1], ("frozen", "3D", "ours"), (0, 1), recipe, tmp_path / "cache", "cpu")


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[c].logits, second[c].logits) and torch.equal(first[c].facing, second[c].facing) for c in first
    )


def test_the_second_time_everything_comes_from_disk(made, plan):
    first = run_all(plan, 1)
    assert len(made.ran) == len(first) == 5
    made.fail_at = 5
    assert same(run_all(plan, 1), first)
    assert len(list(plan.cache.iterdir())) == 5, "nothing half written is left"


def test_a_killed_run_goes_on_where_it_stopped(made, plan):
    made.fail_at = 3
    with pytest.raises(RuntimeError, match="killed"):
        run_all(plan, 1)
    begun, made.fail_at = list(made.ran), None
    assert len(run_all(plan, 1)) == 5
    assert len(made.ran) == 5
    assert len(set(made.ran)) == 5, "nothing was computed twice"
    assert made.ran[:3] == begun


def test_what_no_seed_or_no_start_changes_is_computed_once(made, plan, starts):
    plan = replace(plan, starts=starts)
    found = run_all(plan, 1)
    names = [start.name for start in starts]
    assert sorted(made.ran) == sorted(
        [("frozen", n, 0) for n in names]
        + [("3D", names[0], s) for s in (0, 1)]
        + [("ours", n, s) for n in names for s in (0, 1)]
    )
    frozen, encoder, ours = made.find("frozen,3D,ours")
    for start in starts:
        for seed in (0, 1):
            assert Cell(0, start, "frozen", seed).of(frozen, plan) == Cell(0, start, "frozen", 0)
            assert Cell(0, start, "3D", seed).of(encoder, plan) == Cell(0, starts[0], "3D", seed)
            assert Cell(0, start, "ours", seed).of(ours, plan) == Cell(0, start, "ours", seed)
            for method in (frozen, encoder, ours):
                assert Cell(0, start, method.name, seed).of(method, plan) in found


def test_a_3d_encoders_result_serves_whatever_start_comes_first(made, plan, starts):
    run_all(replace(plan, methods=("3D",)), 1)
    run_all(replace(plan, methods=("3D",), starts=starts[::-1]), 1)
    assert len(made.ran) == 2


def test_a_result_is_of_one_recipe_seed_start_method_and_data(made, plan, starts, column):
    cell = Cell(0, starts[0], "ours", 0)
    run_cell(plan, cell)
    steps = replace(plan.recipe, training=replace(plan.recipe.training, steps=3))
    fewer = replace(column, target=column.target.take(range(2)))
    run_cell(plan, replace(cell, seed=1))
    run_cell(plan, replace(cell, start=starts[1]))
    run_cell(plan, replace(cell, method="frozen"))
    run_cell(replace(plan, recipe=steps), cell)
    run_cell(replace(plan, make=lambda: (fewer,)), cell)
    assert len(made.ran) == 6
    run_cell(plan, cell)
    assert len(made.ran) == 6


def test_progress_is_told_after_each_cell(made, plan):
    told = []
    run_all(plan, 1, lambda: told.append(len(made.ran)))
    assert told == [1, 2, 3, 4, 5]


def test_a_failure_is_told_before_the_cells_that_wait(made, plan, monkeypatch):
    """Threads stand in for processes, one at a time."""
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda jobs, *_, **__: ThreadPoolExecutor(1))
    made.fail_at = 0
    plan = replace(plan, methods=("ours",), seeds=tuple(range(60)))
    with pytest.raises(RuntimeError, match="killed"):
        run_all(plan, 2)
    assert made.asked < 60, "all cells were computed first"


def test_a_process_that_died_is_told_in_a_sentence(made, plan, monkeypatch):
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda jobs, *_, **__: ThreadPoolExecutor(1))
    made.fail_at, made.failure = 1, BrokenProcessPool("terminated abruptly")
    with pytest.raises(ChildProcessError, match=r"one of 2 processes died.*cache, so run it again with fewer --jobs"):
        run_all(plan, 2)


def test_cells_come_in_the_plans_order_whoever_finished_first(made, plan, monkeypatch):
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda jobs, *_, **__: ThreadPoolExecutor(3))
    assert list(run_all(plan, 3)) == plan.cells(1)


def test_starts_are_titled_with_their_weights():
    assert Start("ViT-B-16", "openai").title == "ViT-B-16 openai"
    assert Start("clipoint3d-tiny").title == "clipoint3d-tiny"


@pytest.mark.slow
def test_two_processes_say_what_one_says(tmp_path, scene_dir, starts, recipe):
    (tmp_path / "classes.yaml").write_text("classes: [box, can, bowl]\n")
    make = ScenesTable(str(tmp_path / "classes.yaml"), str(scene_dir), "learn*", "test[12]", "procedural", 3, False)
    plan = Plan(make, starts[:1], ("zero-shot", "LoRA only"), (0, 1), recipe, tmp_path / "one", "cpu")
    told = []
    two = run_all(replace(plan, cache=tmp_path / "two"), 2, lambda: told.append(1))
    assert len(told) == 3
    one = run_all(plan, 1)
    assert list(one) == list(two)
    for cell, looks in one.items():
        torch.testing.assert_close(two[cell].logits, looks.logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(two[cell].facing, looks.facing)
    stored = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert stored[0] == stored[1], "they find each other's results"
