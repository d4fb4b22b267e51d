"""One pass through the tower serves any list of classes."""

import numpy as np
import pytest
from corpora import corpus_of

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import describe
from clipoint3d_ros.pretraining.tower_pass import BATCH, judge, look
from clipoint3d_ros.recognition.classifier import Classifier

CLASSES = ("box", "can", "mug")


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.mark.parametrize("seen", [False, True])
def test_a_judgement_is_what_the_classifier_says(backbone, seen):
    corpus = corpus_of(CLASSES)
    rows = np.flatnonzero(corpus.camera == seen)
    clouds = list(corpus.points[rows].astype(np.float32))
    eyes = np.stack([c.mean(0) for c in clouds]) + np.array([0, np.sin(0.5), np.cos(0.5)]) if seen else None
    told = look(backbone, corpus, corpus.camera == seen)
    for names in (CLASSES, ("camel", "sofa")):
        said = Classifier(backbone, describe(names)).classify(clouds, up=(0, 1, 0), viewpoint=eyes)
        judged = judge(told, describe(names))
        np.testing.assert_allclose(judged.probabilities, [r.probabilities for r in said], atol=1e-5)
        assert judged.cosines.shape == (len(rows), len(names))
        assert (np.abs(judged.cosines) <= 1 + 1e-6).all()
    np.testing.assert_array_equal(told.labels, corpus.labels[rows])


def test_batches_change_nothing_and_progress_counts_every_object(backbone):
    corpus = corpus_of(CLASSES, each=BATCH // 2)
    steps = []
    told = look(backbone, corpus, ~corpus.camera, steps.append)
    assert len(told.parts) == 2, "48 objects in batches of 32"
    assert sum(steps) == len(told.labels) == 48
    few = np.zeros(len(corpus.labels), bool)
    few[40:44] = True
    alone = judge(look(backbone, corpus, few), describe(CLASSES)).probabilities
    np.testing.assert_allclose(judge(told, describe(CLASSES)).probabilities[40:44], alone, atol=1e-5)


def test_complete_and_seen_objects_do_not_mix(backbone):
    corpus = corpus_of(CLASSES)
    with pytest.raises(ValueError, match="12 objects are chosen; choose some that are all complete or all seen"):
        look(backbone, corpus, np.ones(12, bool))
    with pytest.raises(ValueError, match="0 objects"):
        look(backbone, corpus, np.zeros(12, bool))
