"""What is fitted and counted on held-out objects."""

import numpy as np

from clipoint3d_ros.pretraining import heldout
from clipoint3d_ros.pretraining.config import CorpusConfig


def test_macro_accuracy_counts_classes_evenly():
    assert heldout.macro_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == 0.5


def test_held_out_objects_are_seen_by_all_sensors_whatever_the_training_saw():
    told = heldout.held_out_config(CorpusConfig(sensors=(), floor_sensors=(), faults=0.5, frequent=("box",), seed=3))
    standard = CorpusConfig()
    assert (told.sensors, told.floor_sensors) == (standard.sensors, standard.floor_sensors)
    assert told.faults == 0
    assert told.frequent == ()
    assert told.seed == 3 + heldout.HELD_OUT_SEED
