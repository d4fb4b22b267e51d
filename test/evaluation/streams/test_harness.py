"""The benchmark end to end on a tiny case: cells, runs on disk, rows, tables, plots, tuning."""

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import small_bundle
from labelled import scene_folder, untrained_backbone
from streams_made import CLASSES, SIZES

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.evaluation.adaptation.runs import Start
from clipoint3d_ros.evaluation.streams import harness, tables, tuning
from clipoint3d_ros.evaluation.streams.harness import Cell, Plan, cells_of, run_all, run_cell
from clipoint3d_ros.evaluation.streams.methods import METHODS, find_methods, load_settings
from clipoint3d_ros.evaluation.streams.ours import GradientConfig, StatisticsConfig
from clipoint3d_ros.evaluation.streams.peers.rotta import RottaConfig
from clipoint3d_ros.evaluation.streams.peers.tda import TdaConfig
from clipoint3d_ros.evaluation.streams.plots import plot
from clipoint3d_ros.evaluation.streams.pools import real_pool
from clipoint3d_ros.evaluation.streams.rows import curves, rows
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.resources import config_file

FAST = ("frozen", "TDA", "StatA", "Uni-Adapter")


@pytest.fixture(scope="module")
def plan(small_model_folder, streams_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    scene_folder(folder / "scenes", count=2)
    names = json.loads((folder / "scenes" / "scenes.json").read_text())
    renamed = {f"test{i}": entry for i, entry in enumerate(names.values())}
    (folder / "scenes" / "scenes.json").write_text(json.dumps(renamed))
    for old, new in zip(names, renamed, strict=True):
        (folder / "scenes" / "scenes" / f"{old}.npz").rename(folder / "scenes" / "scenes" / f"{new}.npz")
    classes = folder / "classes.yaml"
    classes.write_text("classes: [" + ", ".join(CLASSES.names) + "]\n")
    return Plan(
        (Start(f"local-dir:{small_model_folder}"),),
        ("real-iid", "real-scenes", "iid", "unknown-30", "corruption", "long"),
        FAST,
        (0, 1),
        streams_cache,
        sizes=SIZES,
        scenes=str(folder / "scenes"),
        classes=str(classes),
        settings=(("RoTTA", RottaConfig(capacity=4, every=2)),),
        device="cpu",
    )


@pytest.fixture(scope="module")
def runs(plan):
    cells, left_out = cells_of(plan)
    assert left_out == []
    return run_all(plan, cells)


def test_every_stream_is_answered_by_every_method_in_every_order(plan, runs):
    assert len(runs) == 6 * 4 * 2
    for cell, run in runs.items():
        assert run.probabilities.shape == (len(run.rows), 3), cell
        assert np.isfinite(run.probabilities).all()
        assert (run.step_ms > 0).all()
        assert run.encode_ms > 0
        base = runs[replace(cell, method="frozen")]
        assert np.array_equal(run.rows, base.rows), "all methods meet the same stream"
    assert len(runs[Cell("long", plan.starts[0], "TDA", 0)].rows) == SIZES.long


def test_rows_are_measured_against_the_frozen_model(plan, runs):
    found = rows(plan, runs)
    assert [(r["stream"], r["method"]) for r in found] == [(s, m) for s in plan.streams for m in FAST]
    for row in found:
        assert row["gain_ci95"][0] <= row["gain"] <= row["gain_ci95"][1]
        assert row["seeds"] == [0, 1]
        assert row["not_finite"] == 0
        if row["method"] == "frozen":
            assert (row["gain"], row["regret"], row["worse_windows"], row["forgetting"]) == (0, 0, 0, 0)
            assert row["ece"] == row["ece_frozen"]
        if row["stream"].startswith("unknown"):
            assert row["objects"] - row["known"] == round(0.3 * row["objects"])
            assert 0 <= row["false_accept"] <= 1
        else:
            assert row["false_accept"] is None
    json.dumps({"rows": found, "curves": curves(runs)})


def test_forgetting_counts_from_the_frozen_model_also_where_the_method_began_elsewhere(plan, runs):
    changed = dict(runs)
    for seed in plan.seeds:
        cell = Cell("iid", plan.starts[0], "TDA", seed)
        changed[cell] = replace(runs[cell], probe=(0.5, 0.5))
        frozen = replace(cell, method="frozen")
        changed[frozen] = replace(runs[frozen], probe=(0.75, 0.75))
    row = next(r for r in rows(plan, changed) if (r["stream"], r["method"]) == ("iid", "TDA"))
    assert row["forgetting"] == pytest.approx(-0.25)


def test_both_regrets_are_told(plan, runs):
    found = rows(plan, runs)
    head = tables._stream(found[:1])[0]
    (row,) = tables._stream([{**found[0], "regret": 1.25, "macro_regret": 13.5}])[1:]
    assert (row[head.index("regret")], row[head.index("macro regret")]) == ("1.2", "13.5")


def test_encoding_is_timed_with_the_views_that_count(plan, monkeypatch):
    asked = []
    given = Classifier.with_config
    monkeypatch.setattr(Classifier, "with_config", lambda self, config: asked.append(config) or given(self, config))
    for views in ("entropy", "sensor"):
        assert harness._encode_ms(replace(plan, views=views), plan.starts[0], "simulated") > 0
    assert {config.selection for config in asked} <= {"entropy", "sensor"}
    assert "sensor" in {config.selection for config in asked}


def test_bundles_that_differ_in_their_statistics_alone_are_two(tmp_path):
    for name, told in (("one", b"temperature 1"), ("same", b"temperature 1"), ("other", b"temperature 2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter.safetensors").write_bytes(b"weights")
        (tmp_path / name / "bundle.json").write_bytes(told)
    one, same, other = (harness.bundle_checksums(str(tmp_path / name)) for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_an_answer_that_is_no_number_counts_as_wrong_and_is_told(plan, runs):
    broken = dict(runs)
    cell = Cell("iid", plan.starts[0], "TDA", 0)
    broken[cell] = replace(runs[cell], probabilities=np.full_like(runs[cell].probabilities, np.nan))
    row = next(r for r in rows(plan, broken) if (r["stream"], r["method"]) == ("iid", "TDA"))
    assert row["not_finite"] == SIZES.known
    assert row["gain"] < 0


def test_a_finished_run_is_read_and_a_killed_one_is_made_again(plan, runs, monkeypatch):
    cell = Cell("iid", plan.starts[0], "StatA", 1)
    monkeypatch.setattr(harness, "_write", lambda *_: pytest.fail("a finished run was made again"))
    again = run_cell(plan, cell)
    assert np.array_equal(again.probabilities, runs[cell].probabilities)
    assert again.probe == runs[cell].probe
    monkeypatch.undo()
    changed = replace(plan, settings=(("StatA", replace(plan.config("StatA"), alpha=77.0)),))
    other = run_cell(changed, cell)
    assert not np.array_equal(other.probabilities, again.probabilities), "other settings are another run"
    assert not list(plan.cache.glob("run-*.part.npz"))


def test_methods_with_gradients_run_on_real_streams_and_on_others_only_by_name(plan):
    every = replace(plan, methods=("TENT", "RoTTA", "CLIPoint3D offline"), streams=("real-iid", "iid"))
    cells, left_out = cells_of(every)
    assert {c.stream for c in cells if c.method == "TENT"} == {"real-iid"}
    assert len(left_out) == 3
    assert any("TENT is left out of the simulated streams" in told for told in left_out)
    assert any("no --bundle was named" in told for told in left_out)
    cells, left_out = cells_of(replace(every, named=True))
    assert {c.stream for c in cells if c.method == "TENT"} == {"real-iid", "iid"}
    cells, left_out = cells_of(replace(every, scenes=None))
    assert {c.stream for c in cells} == {"iid"}
    assert any("--scenes" in told for told in left_out)


@pytest.mark.parametrize("method", ["TENT", "RoTTA"])
def test_methods_with_gradients_end_to_end(plan, method):
    run = run_cell(plan, Cell("real-scenes", plan.starts[0], method, 0))
    assert np.isfinite(run.probabilities).all()
    assert np.allclose(run.probabilities.sum(1), 1, atol=1e-4)


def test_the_offline_method_answers_by_its_bundle(plan, tmp_path):
    backbone = load_backbone(plan.starts[0].name, device="cpu")
    folder = small_bundle(tmp_path / "bundle", backbone, CLASSES.names)
    with_bundle = replace(plan, bundle=str(folder), methods=("CLIPoint3D offline",), streams=("real-iid",), seeds=(0,))
    cells, left_out = cells_of(with_bundle)
    assert left_out == []
    run = run_all(with_bundle, cells)[Cell("real-iid", plan.starts[0], "CLIPoint3D offline", 0)]
    pool = real_pool(CLASSES, plan.scenes)
    served = Classifier.load(folder, plan.starts[0].name, device="cpu", config=ClassifierConfig(selection="entropy"))
    said = served.classify([pool.cloud(row) for row in run.rows], pool.objects.up, pool.objects.viewpoints[run.rows])
    assert np.allclose(run.probabilities, [answer.probabilities for answer in said], atol=1e-3)


def test_a_bundle_of_another_backbone_leaves_its_method_out_in_a_sentence(plan, tmp_path, small_model_folder):
    other = load_backbone(untrained_backbone(tmp_path / "other", seed=5), device="cpu")
    folder = small_bundle(tmp_path / "bundle", other, CLASSES.names)
    cells, left_out = cells_of(replace(plan, bundle=str(folder), methods=("CLIPoint3D offline",)))
    assert {cell.method for cell in cells} == {"frozen"}
    assert "fits none of the backbones" in left_out[0]


def test_tables_and_plots_of_it(plan, runs, tmp_path):
    figures = {"rows": rows(plan, runs), "curves": curves(runs)}
    said = tables.summary(figures)
    assert "unknown-30, local-dir:" in said
    assert "All streams together" in said
    lines = [line for line in tables.markdown(figures).splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
    assert sum(line.startswith("| StatA |") for line in lines) == 7
    plot(figures, tmp_path / "new" / "p.png")
    assert (tmp_path / "new" / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_two_processes_give_the_same_runs_as_one(plan, runs):
    few = replace(plan, streams=("real-iid",), methods=("frozen", "StatA"), seeds=(7,))
    cells, _ = cells_of(few)
    before = set(plan.cache.glob("run-*.npz"))
    together = run_all(few, cells, jobs=2)
    for path in set(plan.cache.glob("run-*.npz")) - before:
        path.unlink()
    alone = run_all(few, cells)
    assert list(together) == list(alone) == cells
    assert all(np.array_equal(together[cell].probabilities, alone[cell].probabilities) for cell in cells)


def test_tuning_tries_the_grid_on_other_scenes_and_what_it_writes_is_read(plan, tmp_path, monkeypatch):
    small = replace(find_methods("TDA")[-1], grid={"alpha": (0.5, 2.0)})
    monkeypatch.setattr(tuning, "find_methods", lambda _: (small,))
    monkeypatch.setattr(tuning, "STREAMS", ("iid", "classes"))
    seen = []
    whole = tuning.harness.run_all
    monkeypatch.setattr(tuning.harness, "run_all", lambda own, cells: seen.append(own) or whole(own, cells))
    tried = tuning.tune(plan)
    assert tried["TDA"].count == 2
    assert tried["TDA"].gain >= tried["TDA"].published
    assert all(own.scenes is None and own.sizes.seed == SIZES.seed + tuning.SEED for own in seen)
    tuning.write_settings(tmp_path / "peers.yaml", tried)
    assert load_settings(tmp_path / "peers.yaml")["TDA"] == tried["TDA"].config
    assert load_settings(tmp_path / "peers.yaml")["StatA"] == find_methods("StatA")[-1].config


def test_grids_name_settings_there_are_and_begin_with_the_published_ones():
    for method in METHODS:
        if method.grid:
            tried = list(tuning.grid(method))
            assert tried[0] == method.config
            assert len(tried) == len(set(tried)) <= 49


def test_settings_that_do_not_fit_are_refused_in_words(tmp_path):
    def refused(text, match):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(ValueError, match=match):
            load_settings(tmp_path / "s.yaml")

    refused("TDAA: {alpha: 1.0}", "has settings of 'TDAA'; methods are frozen, TENT")
    refused("TDA: {alfa: 1.0}", "there is no setting 'alfa'; settings are shots, alpha")
    refused("TDA: {shots: many}", "'shots' must be of type int, but is 'many'")
    refused("TDA: 3", "one section of settings a method")
    refused("TDA: {", "is not YAML")
    with pytest.raises(FileNotFoundError, match="--tune"):
        load_settings(tmp_path / "absent.yaml")
    (tmp_path / "s.yaml").write_text("TDA: {alpha: 1}")
    assert load_settings(tmp_path / "s.yaml")["TDA"] == TdaConfig(alpha=1.0)


def test_a_run_depends_on_the_code_that_made_it(monkeypatch):
    told = {method.name: method.source() for method in METHODS}
    assert told.pop("ours: anchor alone") == told["ours: statistics"], "one code, whose runs are told apart by name"
    assert told.pop("ours: gradient unguarded") == told["ours: gradient alone"]
    assert len(set(told.values())) == len(told)
    tent = find_methods("TENT")[-1]
    assert replace(tent, uses=()).source() != tent.source(), "the tower's code counts too"


def imports(name):
    """The modules of this package that one imports."""
    tree = ast.parse(Path(harness.__file__).parents[2].joinpath(*name.split(".")).with_suffix(".py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clipoint3d_ros."):
            yield node.module.removeprefix("clipoint3d_ros.")


def test_a_run_of_both_tiers_depends_on_all_that_trains():
    used = {name.removeprefix("clipoint3d_ros.") for name in find_methods("ours: both tiers")[-1].uses}
    reached, new = set(), {"adaptation.gradient"}
    while new:
        reached |= new
        new = {found for name in new for found in imports(name) if found.startswith("adaptation.")} - reached
    assert {"adaptation.losses", "adaptation.transport", "adaptation.batches"} < reached
    assert reached - {"adaptation.store"} <= used, "but what writes files"
    assert {"clip.network", *(name for name in imports("clip.network") if "." in name)} <= used | {
        "clip.backbone",
        "clip.sentences",
        "clip.tower",
    }, "the tower is every method's, and what it remembers changes nothing"


def key(plan, method):
    """What a run of a method is kept by."""
    cell, classifier = Cell("real-iid", plan.starts[0], method, 0), harness._classifier(plan, plan.starts[0])
    pool = harness._pool(plan, "real")
    return harness._key(plan, cell, classifier, pool, np.arange(4))


def test_a_run_of_both_tiers_depends_on_what_its_recipe_says(plan, tmp_path, monkeypatch):
    recipe = shutil.copy(config_file("train/online.yaml"), tmp_path / "own.yaml")
    named = replace(plan, settings=(("ours: both tiers", GradientConfig(recipe=str(recipe))),))
    before, published = key(named, "ours: both tiers"), key(plan, "ours: both tiers")
    assert before == published, "the same recipe, wherever it lies"
    recipe.write_text(recipe.read_text() + "\n# a remark\n")
    assert key(named, "ours: both tiers") == before, "a remark changes nothing"
    recipe.write_text(recipe.read_text().replace("objects: 8", "objects: 9"))
    assert key(named, "ours: both tiers") != before
    others = {name: key(plan, name) for name in ("frozen", "TENT", "ours: statistics")}
    monkeypatch.setattr(harness, "config_file", lambda _: recipe)
    assert key(plan, "ours: both tiers") != published
    assert {name: key(plan, name) for name in others} == others


@pytest.mark.parametrize("config", [StatisticsConfig, GradientConfig])
def test_a_source_of_files_has_runs_and_references_of_its_state_alone(plan, tmp_path, config):
    method = "ours: statistics" if config is StatisticsConfig else "ours: both tiers"
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "a.npy").write_bytes(b"one")
    own = replace(plan, settings=((method, config(source=f"folders:{tmp_path}")),))
    told, before = own.config(method), key(own, method)
    assert (own.config(method), key(own, method)) == (told, before), "nothing changed"
    assert told.references != plan.config(method).references
    (tmp_path / "box" / "b.npy").write_bytes(b"two")
    assert own.config(method).references != told.references
    assert key(own, method) != before
    assert plan.config(method) == config(), "procedural sources are as they were"
