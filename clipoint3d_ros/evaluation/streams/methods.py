"""The methods of the table by name, with their settings and what tuning tries of these.

A further method is one more `Method` in `METHODS`: a class that is an `Online`, made from a `Setting` and a frozen
dataclass of its own settings.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from clipoint3d_ros.evaluation.streams import gradient_alone, ours, words_alone
from clipoint3d_ros.evaluation.streams.online import Online, Setting
from clipoint3d_ros.evaluation.streams.peers.frozen import Frozen, FrozenConfig
from clipoint3d_ros.evaluation.streams.peers.offline import Offline, OfflineConfig
from clipoint3d_ros.evaluation.streams.peers.rotta import Rotta, RottaConfig
from clipoint3d_ros.evaluation.streams.peers.stata import StatA, StatAConfig
from clipoint3d_ros.evaluation.streams.peers.tda import Tda, TdaConfig
from clipoint3d_ros.evaluation.streams.peers.tent import Tent, TentConfig
from clipoint3d_ros.evaluation.streams.peers.uni_adapter import UniAdapter, UniAdapterConfig


@dataclass(frozen=True)
class Method:
    """One row of the table.

    name: in the table. told: what it is. make: of a setting and a configuration. config: the published settings.
    grid: {field of the configuration: values that tuning tries}; all their combinations are.
    gradient: runs the vision tower itself, so that long streams take hours on a CPU.
    bundle: answers by an adapter that was trained beforehand, and needs one.
    uses: modules besides that of `make` whose source decides its answers; runs on disk are used again only while
        none of these has changed.
    """

    name: str
    told: str
    make: Callable[[Setting, Any], Online]
    config: Any
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    gradient: bool = False
    bundle: bool = False
    uses: tuple[str, ...] = ()

    def source(self) -> str:
        """A short hash of the code that makes its answers."""
        told = hashlib.sha256()
        for name in (self.make.__module__, *self.uses):
            told.update(inspect.getsource(importlib.import_module(name)).encode())
        return told.hexdigest()[:16]


FROZEN = "frozen"
_TIER_1 = tuple(
    f"clipoint3d_ros.{name}"
    for name in (
        *(
            f"adaptation.{part}"
            for part in (
                *("companion", "gate", "guard", "memory", "online", "reference", "sighting", "statistics"),
                *("clouds", "probing"),
            )
        ),
        "recognition.calibration",
        "recognition.familiarity",
        "recognition.selection",
        "recognition.statistics",
    )
)
_TIER_2 = tuple(
    f"clipoint3d_ros.{name}"
    for name in (
        *(
            f"adaptation.{part}"
            for part in (
                *("gradient", "trainer", "objective", "batches", "losses", "transport", "prototypes"),
                *("priors", "config"),
            )
        ),
        *(f"clip.{part}" for part in ("network", "peft", "point_encoder", "prompts", "text")),
    )
)
_TIERS = (*_TIER_1, *_TIER_2)
_TOWER = "clipoint3d_ros.evaluation.streams.peers.tower"

METHODS: tuple[Method, ...] = (
    Method(FROZEN, "the model as it is", Frozen, FrozenConfig()),
    Method(
        "TENT",
        "entropy minimisation, object by object",
        Tent,
        TentConfig(),
        {"learning_rate": (1e-5, 1e-4, 1e-3)},
        gradient=True,
        uses=(_TOWER,),
    ),
    Method(
        "TDA",
        "caches of certain and of doubtful objects",
        Tda,
        TdaConfig(),
        {"shots": (3, 8), "alpha": (0.5, 1.0, 2.0, 4.0), "beta": (3.0, 5.0, 8.0), "negative_alpha": (0.0, 0.117)},
    ),
    Method(
        "StatA",
        "anchored Gaussians",
        StatA,
        StatAConfig(),
        {"alpha": (1.0, 10.0, 30.0), "temperature": (0.005, 0.01, 0.02, 0.05), "soft": (False, True)},
    ),
    Method(
        "Uni-Adapter",
        "cluster centres with smoothed labels",
        UniAdapter,
        UniAdapterConfig(),
        {"centres": (8, 30), "beta": (20.0, 150.0), "threshold": (0.5, 0.8, 0.95), "smoothing": (0.05, 0.11, 0.3)},
    ),
    Method(
        "RoTTA",
        "balanced memory, student and teacher",
        Rotta,
        RottaConfig(),
        {"learning_rate": (1e-4, 1e-3), "follow": (1e-3, 0.05), "every": (16, 64)},
        gradient=True,
        uses=(_TOWER,),
    ),
    Method(
        "ours: anchor alone",
        "the class statistics of the source, which tier 1 begins with, and nothing learned",
        ours.Anchor,
        ours.StatisticsConfig(),
        uses=_TIER_1,
    ),
    Method(
        "ours: statistics",
        "tier 1, as the adaptation node runs it",
        ours.Statistics,
        ours.StatisticsConfig(),
        uses=_TIER_1,
    ),
    Method(
        "ours: words unvouched",
        "tier 1 from the words, without a source, and every candidate going live that the label-free checks let pass",
        words_alone.WordsAlone,
        words_alone.UnvouchedConfig(),
        uses=(ours.__name__, *_TIER_1),
    ),
    Method(
        "ours: gradient alone",
        "tier 2 without class statistics: words through the trained network, once the guard lets one pass",
        gradient_alone.GradientAlone,
        ours.GradientConfig(),
        gradient=True,
        uses=(ours.__name__, *_TIERS),
    ),
    Method(
        "ours: gradient unguarded",
        "the same with every candidate going live, to tell what the guard keeps away",
        gradient_alone.GradientAlone,
        gradient_alone.UnguardedConfig(),
        gradient=True,
        uses=(ours.__name__, *_TIERS),
    ),
    Method(
        "ours: both tiers",
        "tier 1 and 2, as the adaptation node runs them",
        ours.BothTiers,
        ours.GradientConfig(),
        gradient=True,
        uses=_TIERS,
    ),
    Method("CLIPoint3D offline", "adapted beforehand, then left alone", Offline, OfflineConfig(), bundle=True),
)


def find_methods(names: str | None) -> tuple[Method, ...]:
    """Methods by name, separated by commas; None gives all. The frozen one always comes first, for it is the measure.

    Raises:
        ValueError: a name that no method has.
    """
    known = {method.name: method for method in METHODS}
    wanted = list(known) if names is None else [word.strip() for word in names.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"no method '{unknown[0]}'; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys([FROZEN, *wanted]))


def load_settings(path: str | Path) -> dict[str, Any]:
    """{method: its configuration} as a tuned file has them; methods that it does not name keep the published ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML of this form, an unknown method or setting, or a value of another type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no settings of methods at {path}; write them with `benchmark streams --tune {path}`")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(section, dict) for section in content.values()):
        raise ValueError(f"{path} must hold one section of settings a method")
    known = {method.name: method for method in METHODS}
    settings = {name: method.config for name, method in known.items()}
    for name, section in content.items():
        if name not in known:
            raise ValueError(f"{path} has settings of '{name}'; methods are {', '.join(known)}")
        settings[name] = changed(known[name].config, section, f"{path}, {name}")
    return settings


def changed(config: Any, values: Mapping[str, Any], where: str) -> Any:
    """A configuration with some values changed.

    Raises:
        ValueError: a setting it does not have, or a value of another type; `where` begins the sentence.
    """
    there = {f.name: type(getattr(config, f.name)) for f in fields(config)}
    for key, value in values.items():
        if key not in there:
            raise ValueError(f"{where}: there is no setting '{key}'; settings are {', '.join(there) or 'none'}")
        wanted = (int, float) if there[key] is float else (there[key],)
        if not isinstance(value, wanted) or (isinstance(value, bool) and there[key] is not bool):
            raise ValueError(f"{where}: '{key}' must be of type {there[key].__name__}, but is {value!r}")
    return replace(config, **{key: there[key](value) for key, value in values.items()})
