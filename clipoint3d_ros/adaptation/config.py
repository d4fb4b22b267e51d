"""A training's recipe, as `config/train/*.yaml` hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clipoint3d_ros.adaptation.transport import TransportConfig
from clipoint3d_ros.clip.network import NetworkConfig
from clipoint3d_ros.pretraining.config import read_sections

PRECISIONS = ("fp32", "bf16")
OPTIMISERS = ("adamw", "sgd")
TARGET_LOSSES = ("conf", "transport", "proto", "agree")  # those that look at the target


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (METHOD 5); 0 leaves one out and saves its time."""

    ce: float = 1.0  # cross-entropy on source
    ortho: float = 1.0  # the point encoder's alignment, both domains
    conf: float = 1.0  # entropy over the kept views, both domains
    transport: float = 1.0  # optimal transport between the domains
    proto: float = 1.0  # prototype alignment of the target
    agree: float = 0.0  # the target's other views with those that face the sensor
    proto_temperature: float = 0.07  # divides the cosines of the prototype alignment
    smoothing: float = 0.0  # of the source's labels

    def __post_init__(self) -> None:
        wrong = [n for n in ("ce", "ortho", *TARGET_LOSSES) if not 0 <= getattr(self, n) < 1e6]
        if wrong:
            raise ValueError(f"loss weights {', '.join(wrong)} must be 0 or more")
        if not self.proto_temperature > 0 or not 0 <= self.smoothing < 1:
            raise ValueError("proto_temperature must be above 0 and smoothing in [0, 1)")

    @property
    def sees_target(self) -> bool:
        return any(getattr(self, name) > 0 for name in TARGET_LOSSES)

    def blind(self) -> LossConfig:
        """The same without what looks at the target."""
        return replace(self, **dict.fromkeys(TARGET_LOSSES, 0.0))


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained."""

    shots: int = 64  # labelled source objects a class
    probe: int = 16  # further labelled source objects a class, on which the best step is chosen
    steps: int = 400  # of the optimiser
    objects: int = 32  # source objects of a step, and as many of the target
    views: int = 3  # drawn of each object in a step
    patches: int = 0  # occupied patches of a view that take part in a step; 0 takes all
    rear_views: float = 0.5  # how likely a view from behind a sensor's cloud is drawn, against 1 of a facing one
    points: int = 1024  # of each cloud that is rendered
    scans: int = 8  # of each source object from where the target's sensor stood; 0 keeps sources complete
    misshape: float = 0.25  # how much a scan's proportions differ from the source object's: few shots vary too little
    scan_share: float = 0.8  # of the source objects of a step that are scans
    cut_share: float = 0.5  # of the clouds of which a part is missing, and of those with strays
    unknown_size: float = 0.15  # share of the objects whose size is withheld
    optimiser: str = "adamw"  # adamw or sgd
    learning_rate: float = 1e-3  # at its highest; half a cosine takes it to a hundredth
    warmup: int = 20  # steps
    weight_decay: float = 0.01
    ema: float = 0.98  # decay a step of the average that is kept
    precision: str = "fp32"  # fp32 or bf16
    views_at_once: int = 0  # the memory cap: views of one pass, whose activations are computed again; 0 takes all
    target_statistics: bool = False  # let target passes move the point encoder's BatchNorm, as the released code does
    probe_every: int = 50  # steps
    # Standard errors by which the kept step must be better than the frozen model on the probe set, seen as the target's
    # sensor would see it; else there is no gap to close, and the frozen model stays. 0 always keeps the training.
    certain: float = 3.0
    statistics: int = 2  # looks at each source object for the class statistics beside the words; 0 leaves these out
    keep_margin: float = 0.02  # of probe score, by which the last step may stay behind the best one and yet be kept
    checkpoint_every: int = 50  # steps
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("shots", "probe", "steps", "objects", "views", "points", "probe_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, but is {getattr(self, name)}")
        if self.objects < 2:
            raise ValueError("training.objects must be at least 2: batch statistics of one object say nothing")
        if self.views > 10:
            raise ValueError(f"training.views is {self.views}, but there are 10 views")
        if self.statistics < 0:
            raise ValueError(f"training.statistics must be 0 or more looks, but is {self.statistics}")
        if self.scans < 0 or self.views_at_once < 0 or self.patches < 0 or self.checkpoint_every < 1:
            raise ValueError("scans, patches and views_at_once must be 0 or more, checkpoint_every at least 1")
        for name in ("scan_share", "cut_share", "unknown_size", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"training.{name} must lie in [0, 1], but is {getattr(self, name)}")
        if self.precision not in PRECISIONS or self.optimiser not in OPTIMISERS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, optimiser one of {', '.join(OPTIMISERS)}")
        if not 0 <= self.misshape < 1 or not 0 <= self.keep_margin <= 1:
            raise ValueError(f"misshape {self.misshape} must lie in [0, 1), keep_margin {self.keep_margin} in [0, 1]")
        if not self.certain >= 0:
            raise ValueError(f"training.certain must be 0 or more standard errors, but is {self.certain}")
        if not self.learning_rate > 0:
            raise ValueError(f"training.learning_rate must be above 0, but is {self.learning_rate}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training but its data."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.network.frozen:
            raise ValueError("tuning 'none' with context 0 trains nothing; choose lora, or a context of 4")

    def seeded(self, seed: int) -> Recipe:
        return replace(self, training=replace(self.training, seed=seed))


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: the YAML file, sections `network`, `losses`, `transport`, `training`; what it leaves out keeps its
            default.
        changes: "section.key=value" each, the value as in YAML.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a key that does not exist, or a value of another type; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}; config/train holds this package's own")
    kinds = {"network": NetworkConfig, "losses": LossConfig, "transport": TransportConfig, "training": TrainingConfig}
    return Recipe(**read_sections(path, kinds, changes))
