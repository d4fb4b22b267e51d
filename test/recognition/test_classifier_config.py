"""A classifier's configuration: what cannot be is refused; a class has its own threshold or the one for all."""

import pytest

from clipoint3d_ros.recognition.config import ClassifierConfig, thresholds


@pytest.mark.parametrize(
    "settings",
    [
        {"selection": "best"},
        {"points": 0},
        {"unknown_below": 1.5},
        {"unknown_below_class": (("box", -0.1),)},
        {"temperature": 0.0},
        {"max_views": 0},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match=r"must|none of"):
        ClassifierConfig(**settings)


def test_a_class_has_its_own_threshold_or_the_one_for_all():
    config = ClassifierConfig(unknown_below=0.2, unknown_below_class=(("mug", 0.7), ("can", 0.0)))
    assert thresholds(config, ["box", "mug", "can"]).tolist() == [0.2, 0.7, 0.0]
    with pytest.raises(ValueError, match="names 'mug', but the classes are box, can"):
        thresholds(config, ["box", "can"])
