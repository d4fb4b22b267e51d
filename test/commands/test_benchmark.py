"""`clipoint3d benchmark`, with a tiny untrained model and, where it is there, the embedded one on real scenes."""

import json

import numpy as np
import pytest
from corpora import corpus_of
from labelled import scene_folder, tabletop, untrained_backbone

from clipoint3d_ros.cli import main
from clipoint3d_ros.datasets import graspnet, pointda
from clipoint3d_ros.datasets.pointda import DatasetWarning
from clipoint3d_ros.datasets.scenes import default_scenes_dir, write_folder
from clipoint3d_ros.evaluation import procedural
from clipoint3d_ros.evaluation.adaptation import runs
from clipoint3d_ros.evaluation.adaptation.methods import Method
from clipoint3d_ros.resources import EMBEDDED


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(untrained_backbone(tmp_path_factory.mktemp("models") / "untrained"))


@pytest.fixture
def folder(tmp_path):
    scene_folder(tmp_path / "scenes")
    return tmp_path / "scenes"


RECIPE = """\
network: {rank: 2, context: 2, points: 32}
transport: {unbalanced: 0.5}
training:
  {shots: 2, probe: 1, steps: 2, objects: 4, views: 2, points: 64, scans: 1, warmup: 0}
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory, backbone):
    """The words of a table's command that keep it tiny, with an empty cache: recipe, model, one seed."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "recipe.yaml").write_text(RECIPE)

    def words(cache, *more):
        given = ["--recipe", folder / "recipe.yaml", "--backbone", backbone, "--device", "cpu", "--jobs", "1"]
        return [str(word) for word in (*given, "--seeds", "0", "--cache", cache, *more)]

    return words


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Scenes named as the real ones are: two to adapt to, three to score; and two classes."""
    folder = tmp_path_factory.mktemp("real")
    names = ("learn1", "learn2", "test1", "test2", "test3")
    write_folder(folder, (tabletop(name, ["box", "can", "", "bottle"], seed=i) for i, name in enumerate(names)))
    (folder / "classes.yaml").write_text("classes: [box, can]\n")
    return folder


def scenes_words(real, *more):
    return ["benchmark", "scenes", "--scenes", str(real), "--classes", str(real / "classes.yaml"), *map(str, more)]


def test_scenes_with_two_models_side_by_side(tmp_path, folder, backbone, capsys, monkeypatch):
    other = untrained_backbone(tmp_path / "other", seed=1)
    words = ["--scenes", folder, "--zero-shot", "--score-on", "s[01]", "--device", "cpu"]
    words += ["--backbone", backbone, "--backbone", other]
    words += ["--json", tmp_path / "out" / "f.json", "--markdown", tmp_path / "out" / "f.md"]
    assert main(["benchmark", "scenes", *map(str, words)]) == 0
    figures = json.loads((tmp_path / "out" / "f.json").read_text())
    assert (figures["scenes"], figures["objects"], figures["score_on"]) == (2, 4, "s[01]")
    assert list(figures["models"]) == [backbone, str(other)]
    first, second = figures["models"].values()
    assert first["checksum"] != second["checksum"]
    assert first["unknown"]["n"] == 1, "a bottle is none of the tabletop classes"
    assert list(first["selections"]) == ["sensor", "entropy", "all"]
    assert first["selections"]["sensor"]["accuracy"] == first["accuracy"]
    said = capsys.readouterr().out
    assert "4 objects in 2 scenes (s[01])" in said
    card = (tmp_path / "out" / "f.md").read_text()
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    assert f"| {backbone} | sensor * |" in card


def test_a_glob_that_matches_nothing_names_scenes_there_are(folder, backbone, capsys):
    words = ["--scenes", str(folder), "--zero-shot", "--score-on", "test*", "--backbone", backbone]
    assert main(["benchmark", "scenes", *words]) == 1
    assert "matches 'test*': it has s0, s1, s2" in capsys.readouterr().err


def test_weights_belong_to_the_backbone_before_them(capsys):
    for words in (["--pretrained", "openai"], ["--backbone", "A", "--pretrained", "x", "--pretrained", "y"]):
        with pytest.raises(SystemExit) as stop:
            main(["benchmark", "scenes", "--zero-shot", *words])
        assert stop.value.code == 2
        assert "must follow the --backbone" in capsys.readouterr().err


def test_a_model_named_twice_is_refused(folder, backbone, capsys):
    words = ["--scenes", str(folder), "--zero-shot", "--backbone", backbone, "--backbone", backbone]
    assert main(["benchmark", "scenes", *words]) == 1
    assert "is named twice" in capsys.readouterr().err


def test_the_embedded_model_on_a_few_real_scenes(tmp_path):
    if not (default_scenes_dir() / "scenes.json").is_file():
        pytest.skip(f"no real scenes at {default_scenes_dir()}; set CLIPOINT3D_SCENES")
    words = ["--zero-shot", "--score-on", "test1*", "--device", "cpu"]
    assert main(["benchmark", "scenes", *words, "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["scenes"] >= 5
    assert list(figures["models"]) == list(EMBEDDED), "they are there without being asked for"
    assert figures["models"][EMBEDDED[0]]["macro_accuracy"] > 0.6


METHODS = ["zero-shot", "linear probe", "CLIPoint3D-B"]
ROW_KEYS = {
    "protocol", "start", "method", "views", "policy", "seeds", "objects", "scenes", "accuracy", "accuracy_std",
    "accuracy_by_seed", "accuracy_ci95", "macro_accuracy", "macro_std", "macro_by_seed", "macro_ci95", "per_class",
    "gain", "gain_ci95", "gain_base", "over_frozen", "over_frozen_ci95", "over_frozen_base",
}  # fmt: skip


def test_the_table_of_adaptation_methods_on_scenes(tmp_path, real, table, backbone, capsys):
    out = [tmp_path / "new" / f"t.{kind}" for kind in ("json", "md", "png")]
    words = table(tmp_path / "cache", "--methods", ",".join(METHODS), "--seeds", "0,1", "--set", "training.steps=1")
    words += ["--json", out[0], "--markdown", out[1], "--plot", out[2]]
    assert main(scenes_words(real, *words)) == 0
    figures = json.loads(out[0].read_text())
    told = {"benchmark": "scenes", "adapt_on": "learn*", "score_on": "test*", "source": "procedural"}
    assert {key: figures[key] for key in told} == told
    assert (figures["recipe"]["training"]["steps"], figures["recipe"]["training"]["shots"]) == (1, 2)
    found = figures["rows"]
    assert [(r["views"], r["method"]) for r in found] == [(v, m) for v in ("ten", "sensor") for m in METHODS]
    for row in found:
        assert row.keys() == ROW_KEYS
        assert (row["start"], row["objects"], row["scenes"]) == (backbone, 6, 3), "bottles are of no class"
        assert row["seeds"] == ([0] if row["method"] == "zero-shot" else [0, 1])
        assert 0 <= row["macro_ci95"][0] <= row["macro_ci95"][1] <= 1
        assert row["gain_base"] == "linear probe"
    by_views = figures["views"]
    assert [row["policy"] for row in by_views][:4] == ["entropy", "sensor", "all", "random-5"]
    assert [row["policy"] for row in by_views][4:] == [f"first-{k}" for k in range(1, 11)]
    assert {row["method"] for row in by_views} == {"CLIPoint3D-B"}
    ten = next(r for r in found if (r["method"], r["views"]) == ("CLIPoint3D-B", "ten"))
    assert by_views[0]["accuracy_by_seed"] == by_views[-1]["accuracy_by_seed"] == ten["accuracy_by_seed"]
    said = capsys.readouterr().out
    assert f"{backbone}, ten views; adapted on learn*: 6 objects in 3 scenes" in said
    card = out[1].read_text()
    assert all(card.count(f"| {method} |") == 2 for method in METHODS)
    assert out[2].read_bytes().startswith(b"\x89PNG")


def test_halves_are_two_columns_that_score_each_object_once(tmp_path, real, table, capsys):
    words = table(tmp_path / "cache", "--methods", "zero-shot", "--halves", "--json", tmp_path / "t.json")
    assert main(scenes_words(real, *words)) == 0
    found = [row for row in json.loads((tmp_path / "t.json").read_text())["rows"] if row["views"] == "ten"]
    assert [row["protocol"] for row in found] == [f"learn* and {half} scenes of test*" for half in ("even", "odd")]
    assert sorted(row["scenes"] for row in found) == [1, 2]
    assert sum(row["objects"] for row in found) == 6
    assert main(scenes_words(real, *words, "--adapt-on", "learn*,test2")) == 2
    assert "--adapt-on and --score-on share test2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--seeds", "0,one"], 2, "--seeds 0,one must be whole numbers separated by commas, such as 0,1,2"),
        (["--seeds", "1,1"], 2, "--seeds must not repeat"),
        (["--jobs", "0"], 2, "--jobs must be at least 1"),
        (["--methods", "CLIPoint4D"], 1, "no method 'CLIPoint4D'; there are zero-shot, PointCLIP"),
        (["--backbone", "{backbone}"], 2, "a --backbone is named twice"),
        (["--set", "training.stepz=3"], 1, "stepz"),
        (["--recipe", "absent.yaml"], 1, "no recipe at absent.yaml"),
        (["--adapt-on", "night*"], 1, "matches 'night*': it has learn1, learn2, test1, test2, test3"),
        (["--score-on", "night*"], 1, "matches 'night*'"),
        (["--selection", "sensor"], 2, "--selection sensor is of --zero-shot; the table of adaptation methods has ten"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_a_sentence(tmp_path, real, table, backbone, capsys, words, code, said):
    words = [word.format(backbone=backbone) for word in words]
    assert main(scenes_words(real, *table(tmp_path / "cache", "--methods", "zero-shot"), *words)) == code
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert not told.out, "nothing was measured"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--plot", "t.png"],
        ["--methods", "official"],
        ["--halves"],
        ["--seeds", "0"],
        ["--set", "training.steps=1"],
        ["--recipe", "absent.yaml"],
        ["--jobs", "2"],
    ],
)
def test_what_frozen_models_do_not_know_is_refused_before_anything_is_read(tmp_path, real, capsys, words):
    out = tmp_path / "f.json"
    assert main(scenes_words(real, "--zero-shot", *words, "--json", out)) == 2
    said = f"only the table of adaptation methods knows {words[0]}; leave that or --zero-shot away"
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_training_that_diverges_is_told_in_a_sentence(tmp_path, real, table, capsys, monkeypatch):
    def diverges(task):
        raise FloatingPointError("the loss of step 3 is not finite; lower training.learning_rate")

    broken = Method("LoRA only", "diverges", diverges)
    monkeypatch.setattr(runs, "find", lambda names: (broken,))
    assert main(scenes_words(real, *table(tmp_path / "cache", "--methods", "LoRA only"))) == 1
    said = capsys.readouterr().err
    assert "clipoint3d benchmark: the loss of step 3 is not finite; lower training.learning_rate" in said


def test_classes_that_no_scored_object_is_of_are_said(tmp_path, real, table, capsys):
    (tmp_path / "other.yaml").write_text("classes: [bed, sofa]\n")
    words = table(tmp_path / "cache", "--methods", "zero-shot", "--classes", tmp_path / "other.yaml")
    assert main(scenes_words(real, *words)) == 1
    assert "nothing to score of 'learn*'" in capsys.readouterr().err


def write_pointda(root):
    """Two clouds a class: ModelNet's train split, both of ShapeNet's."""
    rng = np.random.default_rng(0)
    for place in ("modelnet/{}/train", "shapenet/{}/train", "shapenet/{}/test"):
        for name in pointda.CLASSES:
            folder = root / place.format(name)
            folder.mkdir(parents=True)
            for i in range(2):
                np.save(folder / f"{name}_{i}.npy", rng.normal(size=(30, 3)).astype(np.float32))


def write_graspnet(root):
    """Two clouds a class: two domains' train splits, one's test split, of two scenes."""
    rng = np.random.default_rng(0)
    for place in ("train/Synthetic/kinect", "train/Real/kinect", "test/Real/kinect"):
        for label in range(len(graspnet.CLASSES)):
            (root / place / str(label)).mkdir(parents=True)
            for scene in (3, 4):
                np.savetxt(root / place / str(label) / f"scene_{scene:04d}_0000.xyz", rng.normal(size=(30, 3)))


@pytest.mark.filterwarnings(f"ignore::{DatasetWarning.__module__}.{DatasetWarning.__name__}")
@pytest.mark.parametrize(
    ("kind", "write", "pair", "views", "scenes"),
    [
        ("pointda", write_pointda, "modelnet:shapenet", ["ten"], 20),
        ("graspnet", write_graspnet, "Synthetic/Kinect:real/kinect", ["ten", "sensor"], 2),
    ],
)
def test_the_table_from_domain_to_domain(tmp_path, table, capsys, kind, write, pair, views, scenes):
    write(tmp_path / "root")
    words = table(tmp_path / "cache", "--methods", "zero-shot,LoRA only", "--set", "training.shots=1")
    words += ["--root", tmp_path / "root", "--pairs", pair, "--json", tmp_path / "t.json"]
    assert main(["benchmark", kind, *map(str, words)]) == 0
    figures = json.loads((tmp_path / "t.json").read_text())
    assert (figures["benchmark"], figures["root"]) == (kind, str(tmp_path / "root"))
    found = figures["rows"]
    assert [(r["views"], r["method"]) for r in found] == [(v, m) for v in views for m in ("zero-shot", "LoRA only")]
    assert {row["protocol"] for row in found} == {pair.lower().replace(":", " → ")}
    assert {(row["objects"], row["scenes"]) for row in found} == {(20, scenes)}
    assert found[0]["gain_base"] == "LoRA only"
    assert figures["views"] == [], "the method shown by its views was not asked for"
    assert "LoRA only" in capsys.readouterr().out


@pytest.mark.parametrize("pairs", ["modelnet", "modelnet:kitti", "scannet:scannet", "modelnet:scannet,", ":"])
def test_pairs_that_are_no_pairs_of_domains_are_refused(tmp_path, table, capsys, pairs):
    assert main(["benchmark", "pointda", "--root", str(tmp_path), "--pairs", pairs, *table(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "must be SOURCE:TARGET of two different of modelnet, shapenet, scannet" in said


def test_a_root_that_is_not_there_is_named(tmp_path, table, capsys):
    words = ["--root", str(tmp_path / "absent"), "--pairs", "modelnet:scannet", "--methods", "zero-shot"]
    assert main(["benchmark", "pointda", *words, *table(tmp_path / "cache")]) == 1
    assert "the root of PointDA-10 is its folder PointDA_data" in capsys.readouterr().err


def test_shapes_with_the_shipped_class_files(tmp_path, small_model_folder, capsys, monkeypatch, full_disk):
    asked = []

    def made(words, count, cache, workers):
        asked.append((count, cache, workers))
        return procedural.HeldOutObjects(corpus_of(words.trained.names, each=1), corpus_of(words.unseen.names, each=1))

    monkeypatch.setattr(procedural, "held_out_objects", made)
    words = ["--backbone", f"local-dir:{small_model_folder}", "--device", "cpu", "--rounds", "0", "--count", "7"]
    words += ["--cache", tmp_path / "cache", "--workers", "1", "--json", tmp_path / "f.json"]
    assert main(["benchmark", "shapes", *map(str, words), "--markdown", str(tmp_path / "f.md")]) == 0
    assert asked == [(7, tmp_path / "cache", 1)]
    figures = json.loads((tmp_path / "f.json").read_text())
    model = figures["models"][f"local-dir:{small_model_folder}"]
    assert (figures["count"], figures["classes"], model["speed"]) == (7, 42, None)
    assert len(model["unseen"]["classes"]) == 10
    assert model["unseen"]["complete"]["chance"] == 0.1
    assert len(model["synonyms"]["words"]) >= 10
    assert "other household classes" in capsys.readouterr().out
    assert "| bottle → flask | 1 |" in (tmp_path / "f.md").read_text()
    before = (tmp_path / "f.md").read_text()
    full_disk()
    again = [word for word in words if word not in ("--json", tmp_path / "f.json")]
    assert main(["benchmark", "shapes", *map(str, again), "--markdown", str(tmp_path / "f.md")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert (tmp_path / "f.md").read_text() == before


def test_shapes_refuse_what_cannot_be(capsys, backbone):
    assert main(["benchmark", "shapes", "--rounds", "-1"]) == 2
    assert "--rounds must be 0 or more, but is -1" in capsys.readouterr().err
    assert main(["benchmark", "shapes", "--count", "0", "--backbone", backbone]) == 1
    assert "--count must be at least 1, but is 0" in capsys.readouterr().err
