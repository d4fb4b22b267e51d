"""A frozen model on scene folders, without a bag."""

import numpy as np
import pytest
from labelled import CLASSES, scene_folder, tabletop, untrained_backbone

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.descriptions import read_classes
from clipoint3d_ros.evaluation import zero_shot
from clipoint3d_ros.evaluation.answers import survey
from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.evaluation.offline import replay_offline
from clipoint3d_ros.evaluation.recording import record
from clipoint3d_ros.evaluation.scoring import score
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.recognition import UNKNOWN, Recognition


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = untrained_backbone(tmp_path_factory.mktemp("models") / "untrained")
    return Classifier(load_backbone(str(folder), device="cpu"), read_classes(CLASSES))


@pytest.fixture
def folder(tmp_path):
    scene_folder(tmp_path / "scenes")
    return tmp_path / "scenes"


@pytest.mark.parametrize("selection", ["auto", "entropy", "all"])
def test_the_answers_are_those_of_the_recorded_bag(tmp_path, folder, classifier, selection):
    config = PerceptionConfig(classes=CLASSES, selection=selection)
    served = classifier.with_config(config.classifier)
    record(tmp_path / "bag", scene_folder(tmp_path / "again"))
    bags = [LabelledBag(tmp_path / "bag")]
    replayed = replay_offline(bags, served, config)
    answers = zero_shot.answer({"m": served}, zero_shot.read_objects(folder))["m"]
    told = answers.recognitions["sensor" if selection == "auto" else selection]
    frames = list(survey(bags, config.segments))
    offline = [replayed.frozen[f.key].objects[o.id] for f in frames for o in f.objects]
    assert [r.label for r in told] == [a.label for a in offline]
    np.testing.assert_allclose([r.score for r in told], [a.score for a in offline], atol=1e-5)

    whole, figures = score(frames, replayed), zero_shot.figures(served, answers)
    assert figures["accuracy"] == whole["frozen"]["accuracy"]
    assert figures["macro_accuracy"] == whole["frozen"]["macro_accuracy"]
    assert figures["accuracy_interval"] == pytest.approx(whole["intervals"]["frozen"]["accuracy"])
    assert figures["ece"] == pytest.approx(whole["frozen"]["ece"], abs=1e-4)
    assert figures["confusion"] == whole["confusion"]


def test_only_named_objects_are_cut_out_levelled_with_the_sensor_at_the_origin():
    scene = tabletop("s", ["box", "", "can"])
    objects = zero_shot.named_objects(scene)
    assert [o.name for o in objects] == ["box", "can"]
    assert [len(o.points) for o in objects] == [400, 400]
    distance = np.linalg.norm(objects[0].points, axis=1)
    assert (distance > 0.85).all(), "the camera stands at the origin, about a metre away"
    assert (distance < 1.3).all()


def told(name, classes, share=0.9):
    probabilities = np.full(len(classes), (1 - share) / (len(classes) - 1))
    probabilities[classes.index(name)] = share
    return Recognition(name, share, probabilities, 0.0, classes)


def test_figures_by_hand(classifier):
    answered = ["box", "mug", "mug", "can", "box"]
    recognitions = tuple(told(name, CLASSES, 0.5 if i == 4 else 0.9) for i, name in enumerate(answered))
    answers = zero_shot.Answers(
        ("a", "a", "b", "b", "b"),
        ("box", "box", "box", "can", "bottle"),
        dict.fromkeys(zero_shot.SELECTIONS, recognitions),
    )
    figures = zero_shot.figures(classifier, answers)
    assert figures["accuracy"] == 2 / 4
    assert figures["macro_accuracy"] == pytest.approx((1 / 3 + 1) / 2)
    assert figures["per_class"]["mug"] == {"n": 0, "accuracy": None}
    assert figures["confusions"] == [{"truth": "box", "answer": "mug", "count": 2, "n": 3}]
    assert (figures["unknown"]["n"], figures["unknown"]["known"], figures["unknown"]["auroc"]) == (1, 4, 1.0)
    assert figures["unknown"]["auroc_by"].keys() == {"score", "max_probability", "entropy"}
    # Scene a: 1 of 2 right, scene b: 1 of 2 right: whatever scenes are drawn, accuracy stays.
    assert figures["accuracy_interval"] == [0.5, 0.5], "scenes are drawn, not objects"


def test_an_object_too_small_to_judge_does_not_pass_for_a_known_one(classifier):
    even = np.full(len(CLASSES), 1 / len(CLASSES))
    small = Recognition(UNKNOWN, 1 - even[0], even, float(np.log(len(CLASSES))), CLASSES)
    answers = zero_shot.Answers(
        ("a", "a"), ("box", "camel"), dict.fromkeys(zero_shot.SELECTIONS, (told("box", CLASSES, 0.5), small))
    )
    areas = zero_shot.figures(classifier, answers)["unknown"]["auroc_by"]
    assert areas == {"score": 1.0, "max_probability": 1.0, "entropy": 1.0}


def test_an_object_too_small_to_judge_is_wrong_and_not_calibrated(classifier):
    clouds = [[zero_shot.NamedObject("s", "box", np.ones((3, 3), np.float32))]]
    answers = zero_shot.answer({"m": classifier}, clouds)["m"]
    figures = zero_shot.figures(classifier, answers)
    assert (figures["accuracy"], figures["ece"]) == (0.0, None)
    assert sum(map(sum, figures["confusion"]["matrix"])) == 0


def test_scenes_without_any_of_the_classes_are_refused_in_words(folder, classifier):
    other = Classifier(classifier.backbone, read_classes(["camel"]), ClassifierConfig())
    answers = zero_shot.answer({"m": other}, zero_shot.read_objects(folder))["m"]
    with pytest.raises(ValueError, match="among the classes camel; the scenes name bottle, box, can"):
        zero_shot.figures(other, answers)


def test_models_answer_each_for_itself(folder, classifier):
    other = Classifier(classifier.backbone, read_classes(["box", "bottle"]), ClassifierConfig())
    both = zero_shot.answer({"a": classifier, "b": other}, zero_shot.read_objects(folder))
    assert both["a"].names == both["b"].names == ("box", "can", "bottle", "box", "can", "box", "can")
    assert both["b"].recognitions["all"][0].classes == ("box", "bottle")
