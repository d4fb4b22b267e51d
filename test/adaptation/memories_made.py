"""Made for the tests of the memory: sightings whose stamps and features follow from their tracks."""

import numpy as np

from clipoint3d_ros.adaptation.memory import Memory, MemoryConfig
from clipoint3d_ros.adaptation.sighting import Sighting

WIDTH, CLASSES = 16, 4


def sighting(track=1, label=0, stamp_s=None, feature=None, classes=CLASSES, **change):
    """Of a track whose stamp and feature follow from its number."""
    random = np.random.default_rng(abs(track)).normal(size=WIDTH)
    told = {
        "stamp_s": float(track) if stamp_s is None else stamp_s, "track": track, "id": f"segment {track}",
        "label": label, "feature": random if feature is None else feature, "logits": np.arange(classes) / 3,
        "entropy": 0.5, "agreement": 0.75, "familiarity": 0.9, "points": 200, "elevation": 0.6, "distance": 0.8,
    }  # fmt: skip
    return Sighting(**{**told, **change})


def filled(labels, **config):
    """A memory after sightings of tracks 1, 2, … with these labels."""
    memory = Memory(MemoryConfig(**config))
    for track, label in enumerate(labels, 1):
        assert memory.admit(sighting(track, label, classes=max(CLASSES, max(labels) + 1))) == ""
    return memory


def tracks(memory):
    return [held.track for held in memory.sightings()]


def state(memory):
    """All that it holds, for comparison."""
    return [(vars(one) | {"arrays": (one.feature.tobytes(), one.logits.tobytes())}) for one in memory.sightings()]


def check(memory):
    """What holds of any memory at any time."""
    held, config = memory.sightings(), memory.config
    stamps = [one.stamp_s for one in held]
    assert stamps == sorted(stamps)
    assert len(held) == len(memory) <= config.objects
    assert len({one.track for one in held}) == len(held), "a track has two entries"
    assert memory.nbytes == sum(one.nbytes for one in held) <= config.megabytes * 2**20
    assert max(memory.counts(64), default=0) <= config.per_class
    assert not held or stamps[-1] - stamps[0] <= config.max_age_s + 1
