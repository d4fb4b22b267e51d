"""The adaptation node's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipoint3d_ros.adaptation.companion import CompanionConfig
from clipoint3d_ros.adaptation.gate import GateConfig
from clipoint3d_ros.adaptation.guard import GuardConfig
from clipoint3d_ros.adaptation.memory import MemoryConfig
from clipoint3d_ros.adaptation.online import FollowConfig
from clipoint3d_ros.adaptation.reference import ReferenceConfig
from clipoint3d_ros.clip.backbone import PATCHES
from clipoint3d_ros.clip.descriptions import named_classes
from clipoint3d_ros.nodes.node_config import SHARED_NAMES, NodeConfig, stable_ids
from clipoint3d_ros.nodes.parameters import annotated_yaml, parameter
from clipoint3d_ros.recognition.tracks import TrackerConfig

HEADING = """Parameters of the adaptation node: every one, with its default.
`backbone`, `pretrained`, `patches` and `classes` must be perception's; the launch file gives both nodes the same."""
MODES = ("statistics", "gradient")
GLANCE_S = 60.0  # for which a sensor may look away and find an object to be the one that was there


@dataclass(frozen=True)
class AdaptationConfig(NodeConfig):
    """One field a parameter; the sub-configurations of the rooms below are made from it."""

    # the model
    backbone: str = parameter(
        "", "as perception's: open_clip model name or local-dir: folder; empty: clipoint3d-tiny", live=False
    )
    pretrained: str = parameter("", "as perception's: weight tag or checkpoint file for 'backbone'", live=False)
    patches: str = parameter(
        "trained", "as perception's: the patches of a view that take part", choices=PATCHES, live=False
    )
    classes: tuple[str, ...] = parameter(
        (), "as perception's: class names or one description file; empty: the eight tabletop classes", live=False
    )
    device: str = parameter("", "torch device; empty: a GPU where there is one", live=False)
    # what it does
    mode: str = parameter(
        "statistics",
        "statistics: class statistics follow the robot's objects, no gradients, no clouds kept; gradient: LoRA (and "
        "prompts, by the recipe) is trained as well, in a thread of low priority within duty_cycle; in one process "
        "with perception it also waits for the frame in hand, a second at most",
        choices=MODES,
        live=False,
    )
    perception: str = parameter("perception", "name of the perception node, in the same namespace", live=False)
    source: str = parameter(
        "procedural",
        "labelled objects that anchor and judge, as KIND[:PATH]: procedural, folders:FOLDER, scenes:FOLDER, …; where "
        "it lacks a class nothing learned goes live",
        live=False,
    )
    shots: int = parameter(64, "source objects a class", unit="objects", low=1, high=10000, live=False)
    probe: int = parameter(16, "further ones a class, for the guard", unit="objects", low=1, high=10000, live=False)
    duty_cycle: float = parameter(0.2, "most of one core's time that adapting may take", low=0.001, high=1)
    max_power_w: float = parameter(
        0.0,
        "pause while the board draws more, by its largest power rail; without a sensor it is warned of instead; 0: "
        "never",
        unit="W",
        low=0,
        high=1000,
    )
    max_memory_mb: float = parameter(
        0.0,
        "pause while this process holds more: what is resident, and what torch reserved on a GPU; 0: never",
        unit="MB",
        low=0,
        high=1e6,
    )
    # memory and gate
    objects: int = parameter(256, "most objects remembered", unit="objects", low=1, high=100000, live=False)
    per_class: int = parameter(32, "most of one predicted class", unit="objects", low=1, high=100000, live=False)
    memory_mb: float = parameter(64.0, "most that memory takes", unit="MB", low=0.1, high=100000, live=False)
    max_age_s: float = parameter(
        900.0, "objects not seen for so long are forgotten", unit="s", low=1, high=1e6, live=False
    )
    max_entropy: float = parameter(0.4, "least certain answer learned from, share of log C", low=0, high=1, live=False)
    min_agreement: float = parameter(0.5, "least share of views that agree", low=0, high=1, live=False)
    min_points: int = parameter(64, "fewest points learned from", unit="points", low=1, high=1000000, live=False)
    min_familiarity: float = parameter(
        0.5, "least probability that the object is of any class", low=0, high=1, live=False
    )
    stable_ids: bool = stable_ids()
    # candidates and the guard
    every: int = parameter(16, "remembered objects from one candidate to the next", unit="objects", low=1, high=100000)
    anchor: float = parameter(
        300.0, "remembered objects of a class that weigh as much as its source", unit="objects", low=1, high=1e6,
        live=False,
    )  # fmt: skip
    probe_loss: float = parameter(0.02, "most that the probe set may fall below the anchor", low=0, high=1, live=False)
    least_variety: float = parameter(
        0.5,
        "least effective number of answered classes, beyond one; share of the frozen model's",
        low=0,
        high=1,
        live=False,
    )
    entropy_rise: float = parameter(
        0.15, "most that held-out entropy may rise over the frozen model's, share of log C", low=0, high=1, live=False
    )
    most_drift: float = parameter(
        0.2, "largest share of the probe set answered otherwise than by the anchor", low=0, high=1, live=False
    )
    rejections: int = parameter(
        5, "rejections in a row after which the frozen model is taken back", low=1, high=1000, live=False
    )
    # tier 2
    recipe: str = parameter("", "training recipe of mode gradient; empty: config/train/online.yaml", live=False)
    burst: int = parameter(20, "steps from one candidate to the next", unit="steps", low=1, high=100000)
    least_objects: int = parameter(16, "remembered objects before training begins", unit="objects", low=1, high=100000)
    # hand-over
    hand_over_s: float = parameter(5.0, "shortest time between two hand-overs", unit="s", low=0, high=3600)
    save_s: float = parameter(180.0, "shortest time between two copies to disk", unit="s", low=1, high=1e6)
    keep: int = parameter(3, "bundles kept in memory and on disk each", unit="bundles", low=1, high=1000, live=False)
    live_folder: str = parameter("", "where live bundles are; empty: a RAM-backed folder of this user", live=False)
    state_folder: str = parameter(
        "", "where bundles, memory and a lasting pause are kept; empty: ~/.ros/clipoint3d_ros/<node name>", live=False
    )
    learned_log: str = parameter(
        "", "JSON-lines file of what was learned from (stamp, id, class, gate figures); empty: none", live=False
    )
    keep_clouds: bool = parameter(False, "save the remembered objects' clouds with the memory, too")

    @property
    def companion(self) -> CompanionConfig:
        return CompanionConfig(
            GateConfig(self.max_entropy, self.min_agreement, self.min_points, self.min_familiarity),
            MemoryConfig(self.objects, self.per_class, self.memory_mb, self.max_age_s),
            FollowConfig(self.anchor),
            GuardConfig(
                self.probe_loss,
                self.least_variety,
                self.entropy_rise,
                self.most_drift,
                rejections=self.rejections,
            ),
            self.every,
        )

    @property
    def tracker(self) -> TrackerConfig:
        """Places say something for long in a frame that is known to stand still, ids where they last."""
        return TrackerConfig(
            forget_s=GLANCE_S if self.fixed_frame else TrackerConfig.forget_s,
            ids_last_s=GLANCE_S if self.stable_ids else 0.0,
        )

    @property
    def reference(self) -> ReferenceConfig:
        return ReferenceConfig(shots=self.shots, probe=self.probe)

    @property
    def class_source(self) -> str | list[str] | None:
        """`classes` as `read_classes` takes it."""
        return named_classes(self.classes)


def default_file() -> str:
    """The text of config/adaptation.yaml."""
    return annotated_yaml(AdaptationConfig, HEADING, "adaptation", SHARED_NAMES)


if __name__ == "__main__":
    Path(__file__).parents[2].joinpath("config", "adaptation.yaml").write_text(default_file())
