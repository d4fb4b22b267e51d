"""`clipoint3d evaluate`, offline and through the real node, with a tiny untrained model and with the embedded one."""

import argparse
import json
import sys

import pytest
import yaml
from bundles import small_bundle
from labelled import labelled_bag, scene_folder, untrained_backbone

from clipoint3d_ros.cli import main
from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.commands import answering, evaluate
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.evaluation import playing
from clipoint3d_ros.evaluation.bags import Topics
from clipoint3d_ros.evaluation.scoring import score
from clipoint3d_ros.resources import asset, config_file

FRAMES = [{"2": "box", "3": "can"}, {"2": "can", "5": "bottle"}, {"4": "box"}, {"7": "mug", "8": "mug"}]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return untrained_backbone(tmp_path_factory.mktemp("models") / "untrained")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, backbone):
    folder = tmp_path_factory.mktemp("bundles") / "adapter"
    return small_bundle(folder, load_backbone(backbone, device="cpu"), ["can", "box", "mug"], version=12)


@pytest.fixture
def bag(tmp_path):
    return labelled_bag(tmp_path / "bag", FRAMES)


def needs_ros():
    pytest.importorskip("rclpy", reason="the replay needs ROS 2's Python packages (make setup)")
    pytest.importorskip("vision_msgs.msg", reason="the replay needs vision_msgs (make setup)")


def needs_embedded_model():
    try:
        asset("clipoint3d-tiny")
    except FileNotFoundError as error:
        pytest.skip(f"no embedded model yet: {error}")


def figures_of(tmp_path, *words, code=0):
    file = tmp_path / "figures.json"
    file.unlink(missing_ok=True)
    assert main(["evaluate", *map(str, words), "--json", str(file)]) == code
    return json.loads(file.read_text()) if code == 0 else None


def but_time(figures):
    return {key: value for key, value in figures.items() if key != "latency_ms"}


def test_offline_scores_a_bag(tmp_path, bag, backbone, capsys):
    figures = figures_of(tmp_path, bag, "--offline", "--backbone", backbone)
    assert figures["classes"] == ["box", "can", "tin", "book", "pot", "bowl", "mug", "carton"]
    assert (figures["objects"], figures["instances"], figures["frames"], figures["dropped_frames"]) == (6, 7, 4, 0)
    assert sum(map(sum, figures["confusion"]["matrix"])) == 6
    assert figures["adapted"] is None
    said = capsys.readouterr().out
    assert "4 frames, 0 dropped; 6 objects scored of 7" in said
    assert "macro accuracy" in said


def test_a_bundle_is_scored_beside_its_frozen_model(tmp_path, bag, backbone, bundle, capsys, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    words = [bag, "--offline", "--classes", classes_file(tmp_path)]
    both = figures_of(tmp_path, *words, "--bundle", bundle.name, "--report", tmp_path / "report")
    said = capsys.readouterr().out
    alone = figures_of(tmp_path, *words, "--backbone", backbone)
    assert both["frozen"] == alone["frozen"], "the frozen model's figures are those it has by itself"
    assert both["intervals"]["frozen"] == alone["intervals"]["frozen"]
    assert set(both["adapted"]) == {"accuracy", "macro_accuracy", "answered_accuracy", "ece"}
    assert both["adapted"] != both["frozen"]
    assert both["adapter_versions"] == [12]
    assert [w["adapter_version"] for w in both["windows"]] == [12]
    assert all(0 <= w["adapted"] <= 1 for w in both["windows"])
    assert [w["frozen"] for w in both["windows"]] == [w["frozen"] for w in alone["windows"]]
    for name, row in both["per_class"].items():
        assert (row["n"], row["frozen"]) == (alone["per_class"][name]["n"], alone["per_class"][name]["frozen"])
        assert (row["adapted"] is None) == (row["n"] == 0)
    assert alone["adapted"] is None
    assert alone["adapter_versions"] == [0]
    header = next(line.split() for line in said.splitlines() if line.startswith("class "))
    assert header == ["class", "objects", "frozen", "adapted"]
    assert "truth \\ adapted" in said
    assert "adapter version 12" in said
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<th>frozen</th><th>adapted</th>" in page
    assert "Version 12 answered throughout." in page
    assert "bundle: adapter" in page
    assert [entry["version"] for entry in both["adapter_timeline"]] == [12]


def test_classes_and_backbone_are_the_bundle_s_where_none_are_named(tmp_path, bag, bundle):
    figures = figures_of(tmp_path, bag, "--offline", "--bundle", bundle)
    assert figures["classes"] == ["can", "box", "mug"]
    assert figures["objects"] == 6


def classes_file(tmp_path):
    (tmp_path / "own.yaml").write_text("classes: [box, can, mug, bottle]\n")
    return tmp_path / "own.yaml"


def test_several_bags_are_scored_together(tmp_path, bag, backbone):
    other = labelled_bag(tmp_path / "other", [{"2": "box"}], seed=1)
    figures = figures_of(tmp_path, bag, other, "--offline", "--backbone", backbone)
    assert (figures["objects"], figures["frames"]) == (7, 5)


def test_bags_one_by_one_give_the_figures_of_one_run_over_all(tmp_path, bag, bundle, capsys):
    night = [bag, labelled_bag(tmp_path / "other", FRAMES[::-1], seed=1), labelled_bag(tmp_path / "third", FRAMES[:2])]
    words = ["--offline", "--bundle", bundle]
    asked = answering.asked(parsed(*night, *words))
    at_once = answering._together(night, asked)
    figures = figures_of(tmp_path, tmp_path / "*", *words, "--work", tmp_path / "work", "--report", tmp_path / "report")
    assert figures["bags"][0]["frozen"] != figures["bags"][1]["frozen"]
    rows = figures.pop("bags")
    assert but_time(figures) == but_time(score(at_once.frames, at_once.replayed))
    assert [row["bag"] for row in rows] == [str(path) for path in night]
    assert sum(row["objects"] for row in rows) == figures["objects"]
    assert "Recording by recording" in (tmp_path / "report" / "index.html").read_text()
    assert str(tmp_path / "third") in capsys.readouterr().out
    kept = figures_of(tmp_path, tmp_path / "*", *words, "--resume", tmp_path / "work", "--jobs", "2")
    assert kept["latency_ms"] == figures["latency_ms"], "finished bags are not played again"


def test_a_bag_that_fails_does_not_end_the_others(tmp_path, bag, backbone, capsys):
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"no bag")
    words = [bag, broken, "--offline", "--backbone", backbone, "--json", tmp_path / "figures.json"]
    assert main(["evaluate", *map(str, words)]) == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["objects"] == 6
    assert [bool(row["failed"]) for row in figures["bags"]] == [False, True]
    said = capsys.readouterr().err
    assert f"failed: {broken} cannot be read" in said
    assert f"1 of 2 bags failed and are not in the figures: {broken}" in said
    figures_of(tmp_path, broken, tmp_path / "none", "--offline", "--backbone", backbone, code=1)
    assert "none of the 2 bags could be answered" in capsys.readouterr().err


def test_only_a_plain_sequence_with_a_companion_shares_its_nodes():
    several = ["a", "b", "--adapt", "statistics"]
    assert not answering.is_fleet(parsed(*several), 2)
    assert answering.is_fleet(parsed(*several, "--jobs", "2"), 2)
    assert answering.is_fleet(parsed(*several, "--work", "w"), 2)
    assert answering.is_fleet(parsed("a", "b"), 2)
    assert not answering.is_fleet(parsed("a"), 1)


def parsed(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args(list(map(str, words)))


def test_own_classes_and_topics(tmp_path, backbone):
    (tmp_path / "mine.yaml").write_text("classes: [bottle, can]\n")
    bag = labelled_bag(tmp_path / "bag", FRAMES, Topics("/camera/objects", "/labels"))
    words = [bag, "--offline", "--backbone", backbone, "--classes", tmp_path / "mine.yaml", "--truth-topic", "/labels"]
    figures = figures_of(tmp_path, *words, "--points-topic", "/camera/objects")
    assert figures["classes"] == ["bottle", "can"]
    assert figures["objects"] == 3
    assert figures_of(tmp_path, *words)["objects"] == 3, "the only topic of clouds needs no option"


def test_where_no_object_is_of_a_class_it_fails_in_words(tmp_path, bag, backbone, capsys):
    words = [bag, "--offline", "--backbone", backbone, "--classes", "kettle", "--json", tmp_path / "figures.json"]
    assert main(["evaluate", *map(str, words)]) == 1
    said = capsys.readouterr().err
    assert "none of the 7 objects is scored: the truth names 7 by other names than kettle, and 0 by none" in said
    assert json.loads((tmp_path / "figures.json").read_text())["objects"] == 0


def test_settings_of_the_node_reach_the_offline_pipeline(tmp_path, bag, backbone):
    words = [bag, "--offline", "--backbone", backbone]
    few = figures_of(tmp_path, *words, "--param", "min_points:=1000")
    assert few["unknown"]["rate"] == 1
    assert few["frozen"] == {"accuracy": 0, "macro_accuracy": 0, "answered_accuracy": None, "ece": None}
    ignored = figures_of(tmp_path, *words, "--param", "ignore_instances:=[2]")
    assert ignored["objects"] == 6
    assert sum(map(sum, ignored["confusion"]["matrix"])) == 4


def test_patches_are_those_the_node_would_serve(backbone):
    for patches, without_empty in (("occupied", True), ("all", False)):
        words = ["bag", "--offline", "--backbone", backbone, "--device", "cpu", "--param", f"patches:={patches}"]
        parameters = answering.asked(parsed(*words)).parameters
        served = playing._classifier(yaml.safe_dump(parameters)).backbone
        assert served.preprocessing.drop_empty == without_empty, f"patches: {patches} says nothing offline"
    playing.forget_model()


def test_through_the_nodes_tracks_may_be_fused(bag):
    assert answering.asked(parsed(bag, "--param", "fuse_tracks:=true")).config.fuse_tracks


def test_a_cloud_the_node_refuses_is_a_dropped_frame(tmp_path, bag, backbone):
    figures = figures_of(tmp_path, bag, "--offline", "--backbone", backbone, "--param", "max_segments:=1")
    assert figures["dropped_frames"] == 3
    assert figures["objects"] == 6


def test_the_report_is_one_page_with_everything_in_it(tmp_path, bag, backbone, capsys):
    words = ["--offline", "--backbone", backbone, "--param", "points:=512", "--report", tmp_path / "report"]
    figures_of(tmp_path, bag, *words)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    page = (tmp_path / "report" / "index.html").read_text()
    for alt in ("accuracy over time", "reliability", "confusion matrices", "depth views"):
        assert f'<img alt="{alt}"' in page
    for note in (
        "adaptation: off",
        "pace: offline, without the nodes",
        f"model: {backbone}",
        "parameters: points:=512",
    ):
        assert note in page
    assert str(tmp_path / "report" / "index.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "notes"),
    [
        (
            ["--adapt", "statistics", "--wait"],
            {"adaptation": "statistics", "pace": "in step, the next frame after the answer"},
        ),
        (["--rate", "0.5"], {"model": "clipoint3d-tiny, embedded", "pace": "0.5 × the bag's pace"}),
        (["--bundle", "b"], {"model": "the bundle's", "bundle": "b"}),
        (["--backbone", "ViT-B-16", "--pretrained", "openai"], {"model": "ViT-B-16 (openai)"}),
    ],
)
def test_the_report_says_how_the_answers_came_about(words, notes):
    assert evaluate._notes(parsed("bag", *words)).items() >= notes.items()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bundle", "b"], "b' is no bundle: it has no bundle.json"),
        (["--bundle", "b", "--classes", "mug"], "b' is no bundle: it has no bundle.json"),
        (["--adapt", "statistics"], "--adapt statistics starts from the frozen model and needs both nodes"),
        (["--pretrained", "openai"], "needs the --backbone"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--timeout", "nan"], "--timeout must be above 0"),
        (["--unknown-below", "2"], "--unknown-below must lie in"),
        (["--jobs", "0"], "--jobs must be at least 1, but is 0"),
        (["--jobs", "2", "--ray", "auto"], "leave one out"),
        (["--truth-topic", "/none"], "no topic /none"),
        (["--points-topic", "/ground_truth"], "not sensor_msgs"),
        (["--classes", "/no/file.yaml"], "no class file"),
        (["--classes", __file__], "does not end in .yaml or .yml"),
        (["--param", "points"], "must read NAME:=VALUE"),
        (["--param", "points:=many"], "'points' is 'many'"),
        (["--param", "pionts:=9"], "no parameter 'pionts'"),
        (["--param", "unknown_below:=0.4"], "see --unknown-below"),
        (["--param", "bundle:=x"], "see --bundle"),
        (["--param", "gravity_frame:=map"], "need TF"),
        (["--param", "max_age_s:=1"], "older than any limit"),
        (["--param", "input_form:=boxes"], "needs a topic of boxes"),
        (["--param", "fuse_tracks:=true"], "set it to false (--param fuse_tracks:=false)"),
        (["--backbone", "local-dir:/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_words(tmp_path, bag, capsys, words, said):
    figures_of(tmp_path, bag, "--offline", *words, code=1)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "figures.json").exists()


@pytest.mark.parametrize("mode", ["statistics", "gradient"])
def test_a_companion_starts_from_the_frozen_model_and_not_from_a_bundle(tmp_path, bag, bundle, capsys, mode):
    figures_of(tmp_path, bag, "--bundle", bundle, "--adapt", mode, code=1)
    assert (
        f"--adapt {mode} starts from the frozen model and needs both nodes: leave --bundle and --offline out"
        in capsys.readouterr().err
    )


def test_a_missing_bag_is_said_in_words(tmp_path, capsys):
    figures_of(tmp_path, tmp_path / "none", "--offline", code=1)
    assert "no bag at" in capsys.readouterr().err
    figures_of(tmp_path, tmp_path / "none*", "--offline", code=1)
    assert f"no bag matches '{tmp_path / 'none*'}'" in capsys.readouterr().err


def test_without_ros_the_replay_says_what_to_do(tmp_path, bag, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "clipoint3d_ros.evaluation.replay", None)
    figures_of(tmp_path, bag, code=1)
    assert "run `make setup`, source your ROS installation, or evaluate with --offline" in capsys.readouterr().err


def test_figures_are_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "deep" / "f.json"
    evaluate.write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        evaluate.write_json(file, {"a": float("nan")})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [p.name for p in file.parent.iterdir()] == ["f.json"]


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "--help"])
    assert caught.value.code == 0
    assert "example:" in capsys.readouterr().out


@pytest.mark.ros
@pytest.mark.slow
def test_the_node_and_the_offline_pipeline_give_identical_answers(tmp_path, backbone):
    needs_ros()
    scene_folder(tmp_path / "scenes", count=4)
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]) == 0
    words = [tmp_path / "bag", "--backbone", backbone, "--device", "cpu"]
    through_the_node = figures_of(tmp_path, *words, "--wait")
    assert through_the_node["dropped_frames"] == 0
    assert but_time(through_the_node) == but_time(figures_of(tmp_path, *words, "--offline"))
    at_rate = figures_of(tmp_path, *words)
    assert but_time(at_rate) == but_time(through_the_node), "2 Hz is a pace the node can bear"


@pytest.mark.ros
@pytest.mark.slow
def test_nodes_side_by_side_give_what_one_gives(tmp_path, bag, backbone):
    needs_ros()
    words = [bag, labelled_bag(tmp_path / "other", FRAMES[::-1], seed=1), "--backbone", backbone, "--device", "cpu"]
    side_by_side = figures_of(tmp_path, *words, "--wait", "--jobs", "2")
    assert side_by_side["dropped_frames"] == 0
    assert but_time(side_by_side) == but_time(figures_of(tmp_path, *words, "--offline"))


@pytest.mark.ros
@pytest.mark.slow
def test_the_node_and_the_offline_pipeline_score_a_bundle_alike(tmp_path, backbone, bundle, monkeypatch):
    needs_ros()
    scene_folder(tmp_path / "scenes", count=4)
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]) == 0
    monkeypatch.chdir(bundle.parent)
    words = [tmp_path / "bag", "--bundle", bundle.name, "--device", "cpu"]
    through_the_node = figures_of(tmp_path, *words, "--wait")
    assert through_the_node["dropped_frames"] == 0
    assert through_the_node["adapter_versions"] == [12]
    assert through_the_node["adapted"] is not None
    assert but_time(through_the_node) == but_time(figures_of(tmp_path, *words, "--offline"))
    frozen = figures_of(tmp_path, tmp_path / "bag", "--offline", "--backbone", backbone, "--device", "cpu")
    own = figures_of(tmp_path, *words, "--offline", "--classes", config_file("classes/tabletop.yaml"))
    assert own["frozen"] == frozen["frozen"]


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["statistics", "gradient"])
def test_beside_a_companion_every_frame_is_answered_by_both_models(tmp_path, backbone, monkeypatch, mode):
    needs_ros()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "two.yaml").write_text("classes:\n  - box\n  - can\n")
    scene_folder(tmp_path / "scenes", count=4)
    assert main(["record", "--scenes", str(tmp_path / "scenes"), str(tmp_path / "bag")]) == 0
    words = [tmp_path / "bag", "--backbone", backbone, "--classes", tmp_path / "two.yaml", "--device", "cpu"]
    figures = figures_of(tmp_path, *words, "--wait", "--adapt", mode)
    alone = figures_of(tmp_path, *words, "--offline")
    assert figures["dropped_frames"] == 0
    assert figures["frozen"] == alone["frozen"], "the companion changed what the frozen model answers"
    assert figures["adapted"]["answered_accuracy"] is not None
    assert figures["objects"] == alone["objects"] > 0


@pytest.mark.ros
@pytest.mark.slow
def test_a_bundle_of_another_backbone_is_quoted_from_the_node(tmp_path, bag, bundle, backbone, capsys):
    needs_ros()
    other = untrained_backbone(tmp_path / "other", seed=1)
    figures_of(tmp_path, bag, "--bundle", bundle, "--backbone", other, code=1)
    said = capsys.readouterr().err
    assert "cannot configure" in said
    assert f"belongs to backbone '{backbone}'" in said
    assert f"this backbone is '{other}'" in said


@pytest.mark.ros
@pytest.mark.slow
def test_a_node_that_finds_no_weights_is_quoted(tmp_path, bag, capsys):
    needs_ros()
    figures_of(tmp_path, bag, "--backbone", "local-dir:/nowhere", code=1)
    said = capsys.readouterr().err
    assert "cannot configure" in said
    assert "/nowhere" in said


@pytest.mark.slow
def test_the_embedded_model_recognises_the_real_test_scenes(tmp_path):
    needs_embedded_model()
    folder = scenes.default_scenes_dir()
    if not (folder / "scenes.json").exists():
        pytest.skip(f"no real scenes at {folder}; set CLIPOINT3D_SCENES to their folder")
    assert main(["record", "--scenes", str(folder), str(tmp_path / "bag"), "--only", "test*"]) == 0
    figures = figures_of(tmp_path, tmp_path / "bag", "--offline")
    assert figures["frozen"]["macro_accuracy"] >= 0.7


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--loop", "1", "--offline"], "--offline"),
        (["--loop", "1", "--jobs", "2"], "leave --jobs out"),
        (["--loop", "0"], "above 0"),
        (["--loop", "1", "--limit", "0"], "limit"),
    ],
)
def test_a_long_run_refuses_what_does_not_fit_it(bag, capsys, words, sentence):
    needs_ros()
    assert main(["evaluate", str(bag), *words]) == 1
    assert sentence in capsys.readouterr().err


def test_a_long_run_writes_figures_and_a_page_and_needs_no_truth(tmp_path, bag, backbone, capsys):
    needs_ros()
    words = ["--backbone", backbone, "--device", "cpu", "--truth-topic", "/none", "--loop", "0.001", "--rate", "5"]
    file, report = tmp_path / "soak.json", tmp_path / "report"
    assert main(["evaluate", str(bag), *words, "--json", str(file), "--report", str(report)]) == 0
    figures = json.loads(file.read_text())
    assert figures["loops"] > 1
    assert figures["frames"]["answered"] == figures["frames"]["sent"] > 0
    assert "Memory" in (report / "index.html").read_text()
    assert "good: nothing wrong" in capsys.readouterr().out


def words_of(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args(list(map(str, words)))


def test_a_parameter_file_is_taken_and_options_win_over_it(tmp_path, bag):
    file = tmp_path / "my.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    device: cuda:0\n    patches: occupied\n    autostart: false\n"
        "/**/perception:\n  ros__parameters:\n    top_k: 2\n    unknown_below: 0.4\n    classes: ''\n"
        "    unknown_below_class: [box=0.5]\n"
        "/**/adaptation:\n  ros__parameters:\n    every: 5\n"
    )
    given = ["--params-file", file, "--adapt", "statistics", "--device", "cpu", "--param", "top_k:=1", bag]
    asked = answering.asked(words_of(*given))
    assert asked.parameters == {"device": "cpu", "patches": "occupied", "top_k": 1, "unknown_below": 0.0}
    assert asked.companion == {"device": "cuda:0", "patches": "occupied", "every": 5}
    assert answering.asked(words_of("--params-file", file, "--device", "cpu", bag)).companion == {}


def test_an_empty_word_of_a_parameter_file_is_the_empty_list_that_the_node_takes_it_for(tmp_path, bag):
    file = tmp_path / "my.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    viewpoint: ''\n    ignore_instances: ''\n    bundle: ''\n    classes: ''\n"
    )
    asked = answering.asked(parsed(bag, "--params-file", file, "--backbone", "ViT-B-16"))
    assert (asked.config.viewpoint, asked.config.ignore_instances) == ((), ())
    assert asked.parameters.keys() == {"viewpoint", "ignore_instances", "backbone", "unknown_below"}


def test_a_parameter_file_that_a_node_could_not_use_is_refused(tmp_path, bag, capsys):
    file = tmp_path / "my.yaml"
    file.write_text("adaptation:\n  ros__parameters:\n    duty_cycle: 2.0\n")
    assert main(["evaluate", "--adapt", "statistics", "--params-file", str(file), str(bag)]) == 1
    assert "'duty_cycle' is 2.0; it must be 0.001 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("others", [["--offline"], ["--jobs", "2"], ["--ray", "auto"]])
def test_a_replay_that_is_seen_is_one_at_a_time_and_through_the_nodes(bag, others, capsys):
    assert main(["evaluate", "--namespace", "replay", *others, str(bag)]) == 1
    assert "one replay at a time" in capsys.readouterr().err
