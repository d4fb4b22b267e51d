"""`clipoint3d benchmark streams`, end to end with a tiny untrained model."""

import json

import pytest
from labelled import tabletop, untrained_backbone

from clipoint3d_ros.cli import main
from clipoint3d_ros.commands import benchmark_streams
from clipoint3d_ros.datasets.scenes import write_folder
from clipoint3d_ros.evaluation.streams.pools import Sizes

ROW_KEYS = {
    "stream", "start", "method", "views", "seeds", "objects", "known", "accuracy", "macro_accuracy", "gain",
    "gain_ci95", "gain_by_seed", "micro_gain", "micro_gain_ci95", "regret", "window", "regret_by_seed", "macro_regret",
    "worse_windows", "windows", "forgetting", "ece", "ece_frozen", "half_gain_objects", "ms", "ms_ratio",
    "update_ms", "update_ratio", "score_ece", "score_ece_frozen",
    "false_accept", "false_accept_frozen", "auroc_unknown", "auroc_unknown_frozen", "not_finite",
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(untrained_backbone(tmp_path_factory.mktemp("models") / "untrained"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    write_folder(folder, (tabletop(name, ["box", "can", ""], seed=i) for i, name in enumerate(("learn1", "test1"))))
    (folder / "classes.yaml").write_text("classes: [box, can]\n")
    return folder


@pytest.fixture
def words(tmp_path, real, backbone, monkeypatch):
    small = Sizes(known=12, unknown=6, each=2, worn=1, long=40, probe=2, resolution=0.25)
    monkeypatch.setattr(benchmark_streams, "_sizes", lambda _: small)

    def made(*more):
        given = ["--backbone", backbone, "--device", "cpu", "--classes", real / "classes.yaml", "--seeds", "0"]
        return ["benchmark", "streams", *map(str, [*given, "--cache", tmp_path / "cache", *more])]

    return made


def test_the_table_of_streams(tmp_path, words, real, capsys):
    out = [tmp_path / "new" / f"s.{kind}" for kind in ("json", "md", "png")]
    given = ["--scenes", real, "--streams", "real-classes,unknown-50", "--methods", "TDA,StatA"]
    assert main(words(*given, "--json", out[0], "--markdown", out[1], "--plot", out[2])) == 0
    figures = json.loads(out[0].read_text())
    assert (figures["benchmark"], figures["views"], figures["classes"]) == ("streams", "entropy", ["box", "can"])
    assert figures["settings"].keys() == {"frozen", "TDA", "StatA"}
    assert [(r["stream"], r["method"]) for r in figures["rows"]] == [
        (stream, method) for stream in ("real-classes", "unknown-50") for method in ("frozen", "TDA", "StatA")
    ]
    assert all(row.keys() == ROW_KEYS for row in figures["rows"])
    assert [r["objects"] for r in figures["rows"]] == [4] * 3 + [12] * 3
    assert figures["rows"][-1]["known"] == 6
    assert len(figures["curves"]) == 6
    assert "real-classes, local-dir:" in capsys.readouterr().out
    assert "| StatA |" in out[1].read_text()
    assert out[2].read_bytes().startswith(b"\x89PNG")


def test_without_real_scenes_their_streams_are_left_out_in_a_sentence(tmp_path, words, capsys, monkeypatch):
    monkeypatch.setenv("CLIPOINT3D_SCENES", str(tmp_path / "absent"))
    assert main(words("--streams", "real,iid", "--methods", "frozen")) == 0
    told = capsys.readouterr()
    assert "streams of real scenes are left out" in told.err
    assert "real-iid" not in told.out
    assert main(words("--streams", "real", "--methods", "frozen")) == 1
    assert "nothing is left to run" in capsys.readouterr().err


def test_tuning_writes_settings_that_the_table_takes(tmp_path, words, capsys, monkeypatch):
    from clipoint3d_ros.evaluation.streams import tuning

    monkeypatch.setattr(tuning, "STREAMS", ("iid",))
    file = tmp_path / "new" / "peers.yaml"
    assert main(words("--methods", "StatA", "--tune", file)) == 0
    assert "StatA: " in capsys.readouterr().out
    assert "StatA:" in file.read_text()
    assert main(words("--streams", "iid", "--methods", "StatA", "--settings", file)) == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--seeds", "0,one"], 2, "must be whole numbers separated by commas"),
        (["--seeds", "1,1"], 2, "must not repeat"),
        (["--jobs", "0"], 2, "--jobs must be at least 1"),
        (["--streams", "night"], 1, "no stream 'night'; there are real-iid"),
        (["--methods", "TDA2"], 1, "no method 'TDA2'; there are frozen, TENT"),
        (["--methods", "CLIPoint3D offline"], 2, "name it with --bundle"),
        (["--settings", "absent.yaml"], 1, "no settings of methods at absent.yaml"),
        (["--device", "banana"], 1, "device 'banana' cannot be used here"),
        (["--scenes", "absent"], 1, "absent is no scene folder"),
        (["--tune", "f.yaml", "--json", "f.json"], 2, "--tune writes settings only"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_a_sentence(words, capsys, more, code, said):
    assert main(words(*more)) == code
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert not told.out


def test_sizes_follow_what_is_asked_for(capsys):
    from argparse import Namespace

    made = benchmark_streams._sizes(Namespace(long=12_000, objects=100))
    assert (made.known, made.unknown, made.each, made.long) == (100, 50, 8, 12_000)
    assert benchmark_streams._sizes(Namespace(long=10_000, objects=1000)) == Sizes()
