"""Tier 1 without a source, where every candidate goes live that passes the checks which need no label: no robot runs
this, and the table shows why."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipoint3d_ros.adaptation.companion import CompanionConfig
from clipoint3d_ros.adaptation.guard import GuardConfig
from clipoint3d_ros.adaptation.reference import Reference, words_alone
from clipoint3d_ros.evaluation.streams.online import Setting
from clipoint3d_ros.evaluation.streams.ours import Statistics, StatisticsConfig


@dataclass(frozen=True)
class UnvouchedConfig(StatisticsConfig):
    """The guard's other limits are the robot's."""

    companion: CompanionConfig = field(default_factory=lambda: CompanionConfig(guard=GuardConfig(least_probe=0)))


class WordsAlone(Statistics):
    """Class statistics that begin as what the words say, and follow the robot's objects from there."""

    def _begin(self, setting: Setting) -> Reference:
        backbone = setting.classifier.backbone
        return words_alone(setting.classifier.text, self._scale, backbone.temperature, "none is asked for")
