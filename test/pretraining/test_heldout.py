"""What is fitted and counted on held-out objects."""

import numpy as np
import pytest
import torch

from clipoint3d_ros.pretraining import heldout
from clipoint3d_ros.pretraining.config import CorpusConfig


def test_temperature_is_recovered():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=rng) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert heldout.fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.15)


def test_macro_accuracy_counts_classes_evenly():
    assert heldout.macro_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == 0.5


def test_the_unknown_logit_parts_listed_from_unlisted_classes():
    # An object's own class has the logit 6, all others 0: a list with it has the energy log(e⁶ + 7), one without log 8.
    labels = torch.arange(40).repeat(5)
    logits = 6.0 * torch.nn.functional.one_hot(labels, 40).float()
    fitted = heldout.fit_unknown_logit(logits, labels)
    assert np.log(8) < fitted < 6.02
    assert fitted == pytest.approx((np.log(8) + 6.02) / 2, abs=0.1), "both sides weigh the same"
    assert fitted == heldout.fit_unknown_logit(logits, labels), "the draw is fixed"


def test_held_out_objects_are_seen_by_all_sensors_whatever_the_training_saw():
    told = heldout.held_out_config(CorpusConfig(sensors=(), floor_sensors=(), faults=0.5, frequent=("box",), seed=3))
    standard = CorpusConfig()
    assert (told.sensors, told.floor_sensors) == (standard.sensors, standard.floor_sensors)
    assert told.faults == 0
    assert told.frequent == ()
    assert told.seed == 3 + heldout.HELD_OUT_SEED
