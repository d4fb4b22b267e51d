"""Tier 1 without a source, on a toy stream: the robot keeps the frozen answers, the table lets candidates go."""

from types import SimpleNamespace

import numpy as np
from streams_made import Toy

from clipoint3d_ros.evaluation.streams.ours import StatisticsConfig
from clipoint3d_ros.evaluation.streams.peers.frozen import Frozen, FrozenConfig
from clipoint3d_ros.evaluation.streams.words_alone import UnvouchedConfig, WordsAlone


def begun(config):
    toy = Toy()
    words = toy.setting.classifier
    words.backbone = SimpleNamespace(scale=words.scale, temperature=1.0)
    _, stream = toy.stream(200)
    return toy, stream, WordsAlone(toy.setting, config)


def test_as_the_robot_runs_it_the_frozen_answers_stay():
    toy, stream, online = begun(StatisticsConfig())
    frozen = Frozen(toy.setting, FrozenConfig())
    for seen in stream:
        assert np.array_equal(online.answer(seen), frozen.answer(seen))
    assert online.companion.live is None
    assert len(online.companion.learned) > 0


def test_unvouched_candidates_go_live_and_move_the_answers():
    toy, stream, online = begun(UnvouchedConfig())
    frozen = Frozen(toy.setting, FrozenConfig())
    moved = [np.abs(online.answer(seen) - frozen.answer(seen)).max() for seen in stream]
    assert max(moved[:4]) == 0, "nothing is live yet"
    assert online.companion.live is not None
    assert max(moved) > 1e-3
