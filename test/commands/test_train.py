"""`train` from folders and scenes to a bundle that serves, and its refusals."""

import json
import sys

import numpy as np
import pytest
from domains_made import looks, solids
from labelled import scene_folder

from clipoint3d_ros import cli
from clipoint3d_ros.adaptation import outcome, trainer
from clipoint3d_ros.clip.bundle import read_meta
from clipoint3d_ros.recognition.classifier import Classifier

pytestmark = pytest.mark.usefixtures("quick_probes")
LOSSES = {"ce", "ortho", "conf", "transport", "proto", "agree"}
RECIPE = """
network: {rank: 2, context: 0}
transport: {unbalanced: 0.5, iterations: 20}
training: {shots: 2, probe: 1, steps: 3, objects: 4, views: 2, points: 64, scans: 2, warmup: 1,
           probe_every: 2, checkpoint_every: 1, certain: 0.0}
"""


@pytest.fixture(scope="module")
def domains(tmp_path_factory):
    """Clouds of boxes and cans in folders, and scenes with boxes, cans and others."""
    place = tmp_path_factory.mktemp("domains")
    objects = solids(each=3, classes=("box", "can"))
    for i, (cloud, label) in enumerate(zip(objects.clouds, objects.labels, strict=True)):
        folder = place / "shapes" / objects.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{i}.npy", cloud)
    scene_folder(place / "scenes")
    (place / "tiny.yaml").write_text(RECIPE)
    return place


@pytest.fixture
def words(domains, small_model_folder, tmp_path):
    """A command that works, to which a test adds its own words."""
    return [
        *("train", "--source", f"folders:{domains / 'shapes'}", "--target", f"scenes:{domains / 'scenes'}"),
        *("--classes", "box,can", "--recipe", str(domains / "tiny.yaml"), "--backbone"),
        *(f"local-dir:{small_model_folder}", "--device", "cpu", "--out", str(tmp_path / "adapter")),
    ]


def without(words, option):
    at = words.index(option)
    return words[:at] + words[at + 2 :]


def log(folder):
    return [json.loads(line) for line in (folder / "adapter.run" / "log.jsonl").read_text().splitlines()]


def refused(words, capsys, code=1):
    """The sentence with which a command ends."""
    assert cli.main(words) == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("clipoint3d train: ")
    return told


def test_train_stops_goes_on_and_leaves_a_bundle_that_serves(words, tmp_path, capsys):
    words += ["--weight", "agree=0.5", "--weight", "proto=0", "--set", "training.seed=4", "--variant", "V"]
    assert cli.main([*words, "--stop-at", "1", "--json", str(tmp_path / "told.json")]) == 0
    out = capsys.readouterr().out
    assert "source: 4 labelled objects, probe set: " in out
    assert "target: 10 unlabelled objects of scenes" in out
    assert "8 scans" in out
    assert "stopped after step 1; run the same command without --stop-at to go on" in out
    assert not (tmp_path / "told.json").exists()
    assert read_meta(tmp_path / "adapter")["version"] == 1, "the best so far serves while training goes on"
    assert cli.main([*words, "--json", str(tmp_path / "figures" / "told.json")]) == 0
    assert f"bundle in {tmp_path / 'adapter'}" in capsys.readouterr().out

    told = json.loads((tmp_path / "figures" / "told.json").read_text())
    meta = read_meta(tmp_path / "adapter")
    assert told["version"] == meta["version"] == told["step"] + 1
    assert told["temperature"] == meta["temperature"]
    assert told["objects"] == 2 * trainer.PROBE_SCANS
    assert 0 <= told["macro_accuracy"] <= 1
    recipe = meta["training"]["recipe"]
    assert recipe["losses"]["agree"] == 0.5
    assert recipe["losses"]["proto"] == 0.0
    assert recipe["training"]["seed"] == 4
    assert recipe["network"]["variant"] == "V"
    assert recipe["training"]["shots"] == 2, "what is not changed is the file's"

    steps = log(tmp_path)
    assert [line["step"] for line in steps] == [1, 2, 3], "one line a step"
    assert all(set(line) >= {"loss", "accuracy", *LOSSES} - {"ortho", "proto"} for line in steps)
    assert not any("proto" in line for line in steps)
    assert [line["step"] for line in steps if "probe" in line] == [2, 3]

    classifier = Classifier.load(bundle=tmp_path / "adapter", device="cpu")
    assert classifier.classes == ("box", "can")
    assert classifier.version == meta["version"]
    objects = looks(each=1)
    answers = classifier.classify(objects.clouds, viewpoint=objects.viewpoints)
    assert {a.label for a in answers} <= {"box", "can"}
    assert all(np.isfinite(a.probabilities).all() and a.frozen is not None for a in answers)


def test_stopped_and_gone_on_it_is_the_adapter_of_one_go(words, tmp_path):
    assert cli.main([*words, "--stop-at", "2"]) == 0
    assert cli.main(words) == 0
    assert cli.main([*without(words, "--out"), "--out", str(tmp_path / "once")]) == 0
    weights = [(tmp_path / name / "adapter.safetensors").read_bytes() for name in ("adapter", "once")]
    assert weights[0] == weights[1]


def test_a_training_that_gains_nothing_certain_says_so_and_answers_as_the_frozen_model(words, tmp_path, capsys):
    assert cli.main([*words, "--set", "training.certain=1e6"]) == 0
    assert "no certain gain on the probe set: the bundle answers as the frozen model does" in capsys.readouterr().out
    assert read_meta(tmp_path / "adapter")["version"] == 1
    objects = looks(each=1)
    classifier = Classifier.load(bundle=tmp_path / "adapter", device="cpu")
    for answer in classifier.classify(objects.clouds, viewpoint=objects.viewpoints):
        np.testing.assert_allclose(answer.probabilities, answer.frozen.probabilities, atol=1e-5)


def test_statistics_that_help_are_served_where_the_training_gained_nothing(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(outcome, "gain", lambda before, after: (1.0, 0.1))
    monkeypatch.setattr(trainer, "gain", lambda before, after: (0.0, 0.1))
    assert cli.main([*words, "--set", "training.certain=2.0"]) == 0
    assert "answers as the frozen model does" not in capsys.readouterr().out
    assert read_meta(tmp_path / "adapter")["version"] == 1
    classifier = Classifier.load(bundle=tmp_path / "adapter", device="cpu")
    assert classifier.statistics.count.tolist() == [2 * 2] * 2, "two scans of two shots of either class"
    objects = looks(each=1)
    answers = classifier.classify(objects.clouds, viewpoint=objects.viewpoints)
    assert max(abs(a.probabilities - a.frozen.probabilities).max() for a in answers) > 1e-3


def test_a_source_alone_needs_no_target(words, tmp_path):
    assert cli.main([*without(words, "--target"), "--steps", "1", "--shots", "1", "--seed", "2"]) == 0
    assert set(log(tmp_path)[0]) & LOSSES == {"ce"}
    recipe = read_meta(tmp_path / "adapter")["training"]["recipe"]
    assert (recipe["training"]["steps"], recipe["training"]["shots"], recipe["training"]["seed"]) == (1, 1, 2)


def test_what_the_targets_objects_are_changes_nothing(words, domains, tmp_path):
    other = tmp_path / "scenes"
    scene_folder(other)
    index = json.loads((other / "scenes.json").read_text())
    for scene in index.values():
        scene["classes"] = {k: {"box": "can", "can": "box"}.get(v, v) for k, v in scene["classes"].items()}
    (other / "scenes.json").write_text(json.dumps(index))
    assert index != json.loads((domains / "scenes" / "scenes.json").read_text())
    for name, scenes in (("adapter", domains / "scenes"), ("other", other)):
        renamed = without(without(words, "--target"), "--out")
        assert cli.main([*renamed, "--target", f"scenes:{scenes}", "--steps", "1", "--out", str(tmp_path / name)]) == 0
    weights = [(tmp_path / name / "adapter.safetensors").read_bytes() for name in ("adapter", "other")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--weight", "conf"], "--weight conf must read LOSS=W with a loss of ce, ortho, conf"),
        (["--weight", "entropy=1"], "--weight entropy=1 must read LOSS=W with a loss of ce, ortho, conf"),
        (["--weight", "conf=much"], "'conf' of"),
        (["--weight", "conf=-1"], "loss weights conf must be 0 or more"),
        (["--set", "training.stepps=3"], "unknown key 'stepps'"),
        (["--set", "steps=3"], "'steps=3' is no change; write it as training.steps=800"),
        (["--set", "training.steps=0"], "training.steps must be at least 1, but is 0"),
        (["--steps", "-2"], "training.steps must be at least 1, but is -2"),
        (["--source", "shapes"], "domain 'shapes' is of no known kind; write procedural, folders:DIR"),
        (["--target", "scenes:"], "domain 'scenes:' is not written as its kind demands: write scenes:DIR"),
        (["--target", "scenes:absent"], "absent"),
        (["--classes", "box,can,unicorn"], "has no object of unicorn"),
        (["--recipe", "absent.yaml"], "no recipe at absent.yaml; config/train holds this package's own"),
        (["--device", "banana"], "device 'banana' cannot be used here"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--backbone", "local-dir:absent"], "no open_clip_config.json in absent"),
        (["--set", "network.heads=7", "--set", "network.context=4"], "cannot be shared by 7 attention heads"),
    ],
)
def test_what_does_not_fit_is_answered_with_a_sentence(words, given, told, capsys, tmp_path):
    for option in [word for word in given if word in words]:
        words = without(words, option)
    assert told in refused(words + given, capsys)
    assert not (tmp_path / "adapter").exists(), "nothing is written"


def test_a_variant_that_is_none_is_a_usage_error(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--variant", "X"])
    assert stop.value.code == 2
    assert "--variant" in capsys.readouterr().err


def test_a_loss_of_the_target_without_one_is_refused(words, capsys):
    assert "look at a target; name one" in refused([*without(words, "--target"), "--weight", "conf=1"], capsys)


def test_a_folder_that_holds_something_else_is_left_alone(words, capsys, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "thesis.tex").write_text("years of work")
    assert "is no bundle and holds thesis.tex" in refused(words, capsys)
    assert (tmp_path / "adapter" / "thesis.tex").read_text() == "years of work"


def test_a_checkpoint_of_another_recipe_is_not_gone_on_with(words, capsys):
    assert cli.main([*words, "--stop-at", "1"]) == 0
    told = "of another recipe, backbone, choice of patches, class list or data"
    assert told in refused([*words, "--weight", "conf=0.3"], capsys)


def test_a_finished_training_does_not_become_one_of_other_patches(words, capsys, tmp_path):
    assert cli.main(words) == 0
    before = (tmp_path / "adapter" / "bundle.json").read_bytes()
    assert "choice of patches" in refused([*words, "--patches", "all"], capsys)
    assert (tmp_path / "adapter" / "bundle.json").read_bytes() == before
    assert cli.main([*words, "--patches", "trained"]) == 0, "as it was asked for the first time"


def test_a_loss_that_is_not_finite_ends_in_a_sentence_and_leaves_the_bundle(words, capsys, tmp_path):
    told = refused([*words, "--set", "training.learning_rate=1e30", "--set", "training.warmup=0"], capsys)
    assert "is not finite" in told
    assert "lower training.learning_rate" in told
    assert read_meta(tmp_path / "adapter")["version"] == 1


def test_without_the_package_tensorboard_its_option_is_refused_before_training(words, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("it trains"))
    told = refused([*words, "--tensorboard", str(tmp_path / "board")], capsys)
    assert "--tensorboard needs the package tensorboard" in told
    assert "pip install tensorboard" in told
    assert not (tmp_path / "adapter").exists()


def test_tensorboard_gets_the_losses(words, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert cli.main([*words, "--tensorboard", str(tmp_path / "board")]) == 0
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    lines = log(tmp_path)
    for name in ("loss", "ce", "transport", "probe"):
        told = [(line["step"], line[name]) for line in lines if name in line]
        assert [(e.step, round(e.value, 5)) for e in events.Scalars(name)] == [
            (step, pytest.approx(value, abs=2e-5)) for step, value in told
        ]
