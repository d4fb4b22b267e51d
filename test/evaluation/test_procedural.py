"""The benchmark on procedural objects, with corpora made at once and an untrained model."""

from pathlib import Path

import pytest
from corpora import corpus_of

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.evaluation import benchmark_tables as tables
from clipoint3d_ros.evaluation import procedural
from clipoint3d_ros.evaluation.procedural import HeldOutObjects, Vocabulary
from clipoint3d_ros.pretraining.corpus import SENSOR_NAMES
from clipoint3d_ros.pretraining.heldout import HELD_OUT_SEED

WORDS = Vocabulary(
    describe(["box", "can", "mug", "camel"]), describe(["box", "can"]), describe(["egg", "tray"]), {"mug": "cup"}
)


@pytest.fixture(scope="module")
def figures(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    objects = HeldOutObjects(corpus_of(WORDS.trained.names, each=4), corpus_of(WORDS.unseen.names, each=3, seed=1))
    return procedural.figures(backbone, WORDS, objects)


def test_every_object_is_counted_where_it_belongs(figures):
    assert figures["complete"]["n"] == 16
    assert (figures["sensors"]["all"]["n"], figures["faulty"]["n"]) == (8, 8)
    assert sum(figures["sensors"][name]["n"] for name in figures["sensors"] if name != "all") == 8
    assert [figures["visibility"][name]["n"] for name in ("whole", "partly")] == [4, 4]
    assert [figures["selections"][name]["n"] for name in ("sensor", "entropy", "all")] == [8, 8, 8]
    assert figures["selections"]["sensor"] == figures["sensors"]["all"]
    assert figures["unseen"]["classes"] == ["egg", "tray"]
    assert (figures["unseen"]["complete"]["n"], figures["unseen"]["sensors"]["n"]) == (6, 3)
    assert figures["synonyms"]["words"]["mug"]["n"] == 4


def test_known_are_the_tabletop_classes_and_unknown_all_others(figures):
    household, unseen = figures["rejection"]["household"], figures["rejection"]["unseen"]
    assert (household["known"], household["n"]) == (4, 4), "box and can against mug and camel"
    assert (unseen["known"], unseen["n"]) == (4, 3)
    assert list(household["auroc_by"]) == ["score", "max_probability", "entropy", "energy", "max_cosine"]
    assert household["auroc"] == household["auroc_by"]["score"]
    assert all(0 <= area <= 1 for area in unseen["auroc_by"].values())


def test_tables_have_a_column_a_model(figures):
    quick = {"ratio": 12.0, "model_ms": 30.0, "reference_ms": 360.0, "reference": "ViT-B-16 (random)", "rounds": 3}
    whole = {"count": 4, "classes": 4, "models": {m: {**figures, "speed": quick} for m in ("a", "b")}}
    shown, card = tables.shapes_summary(whole), tables.shapes_markdown(whole)
    for text in (shown, card):
        assert "mug → cup" in text
        assert "with segmentation faults" in text
        assert "partly in sight" in text
        assert "names alone" in text
        assert "12.0" in text
    columns = [line.count("|") for line in card.splitlines() if line.startswith("| unknown, score")]
    assert columns == [5]
    assert "times as fast" not in tables.shapes_summary({**whole, "models": {"a": {**figures, "speed": None}}})


def test_the_benchmark_draws_what_no_training_and_no_temperature_saw():
    config = procedural._config(3, 16, 8)
    assert config.seed not in (0, HELD_OUT_SEED)
    assert (config.complete, config.tabletop_scenes, config.floor_scenes) == (3, 48, 24)
    assert set(config.floor_sensors) == set(SENSOR_NAMES)
    with pytest.raises(ValueError, match="--count must be at least 1, but is 0"):
        procedural.held_out_objects(WORDS, 0, Path("nowhere"), 0)
