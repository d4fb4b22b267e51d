"""The perception node's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipoint3d_ros.clip.backbone import PATCHES
from clipoint3d_ros.clip.descriptions import named_classes
from clipoint3d_ros.nodes.node_config import SHARED_NAMES, CloudNodeConfig, stable_ids
from clipoint3d_ros.nodes.parameters import ParameterError, annotated_yaml, parameter
from clipoint3d_ros.nodes.pointcloud import FORMS, INSTANCE_FIELDS, SegmentConfig
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.onnx_tower import RUNTIMES
from clipoint3d_ros.recognition.precision import PRECISIONS
from clipoint3d_ros.recognition.tracks import TrackerConfig

HEADING = """Parameters of the perception node: every one, with its default.
Pass this file (or your own, with only what you change) as `params_file`; names match in any namespace."""


@dataclass(frozen=True)
class PerceptionConfig(CloudNodeConfig):
    """One field a parameter; the sub-configurations of the rooms below are made from it."""

    # the model
    backbone: str = parameter(
        "",
        "open_clip model name or local-dir: folder; empty: the bundle's, else the embedded clipoint3d-tiny",
        live=False,
    )
    pretrained: str = parameter("", "open_clip weight tag or checkpoint file for 'backbone'", live=False)
    bundle: str = parameter(
        "",
        "folder of an adapter bundle of the same backbone; set it again to read it again, and to empty for the frozen "
        "model. A live change keeps the classes",
    )
    classes: tuple[str, ...] = parameter(
        (),
        "class names, or one path of a YAML description file; empty: the bundle's, else the eight tabletop classes",
    )
    device: str = parameter("", "torch device such as cpu or cuda:0; empty: a GPU where there is one", live=False)
    runtime: str = parameter(
        "torch",
        "what runs the vision tower; onnxruntime writes it as ONNX once, which takes a minute, and keeps it",
        choices=RUNTIMES,
        live=False,
    )
    patches: str = parameter(
        "trained",
        "patches of a view that go through the tower: as its weights were trained, the occupied ones alone, or all; a "
        "bundle must have been trained so",
        choices=PATCHES,
        live=False,
    )
    # recognition
    points: int = parameter(1024, "points per object after resampling", unit="points", low=16, high=65536)
    resampling: str = parameter(
        "random",
        "how those points are chosen: a fixed random subset, or farthest points for even cover",
        choices=("random", "farthest"),
    )
    selection: str = parameter(
        "auto",
        "which depth views decide: those facing the sensor, the certain ones, or all; auto: sensor where known",
        choices=("auto", "sensor", "entropy", "all"),
    )
    unknown_below: float = parameter(
        0.0,
        "best class's score below which the answer is 'unknown'; 0 always answers",
        unit="probability",
        low=0,
        high=1,
    )
    unknown_below_class: tuple[str, ...] = parameter(
        (),
        "the same for single classes, in place of unknown_below: words NAME=VALUE such as mug=0.6; "
        "`clipoint3d thresholds BAG` proposes them from a labelled bag",
        unit="probability",
    )
    fuse_tracks: bool = parameter(
        False, "whether an object that stands still is judged by its last sightings together, rather than by each alone"
    )
    stable_ids: bool = stable_ids()
    reuse_still: bool = parameter(
        False,
        "whether an object that has neither moved nor changed for up to two seconds is judged by its last look, rather "
        "than looked at again",
    )
    top_k: int = parameter(3, "hypotheses per detection, best first", unit="classes", low=1, high=1000)
    max_views: int = parameter(
        640,
        "depth views through the vision tower at once; lower it if memory is short",
        unit="views",
        low=1,
        high=100000,
    )
    precision: str = parameter(
        "fp32",
        "number format of the tower's blocks; auto measures what is quickest on this device",
        choices=PRECISIONS,
    )
    graphs: bool = parameter(
        False,
        "on an NVIDIA GPU: whether the blocks of the tower are recorded as CUDA graphs, one a size of pass, and played "
        "back; those of 1 to 16 objects at configure, others when first met",
    )
    first_views: int = parameter(
        0,
        "views looked at first, the rest only of objects these leave in doubt; 0: all at once. With 2 a tower "
        "looks at three views of ten, and one fewer of 309 real objects was right",
        unit="views",
        low=0,
        high=10,
    )
    sure_below: float = parameter(
        0.3,
        "with first_views: entropy, as a share of the classes' greatest, below which views that agree leave no doubt",
        low=0,
        high=1,
    )
    min_points: int = parameter(16, "objects of fewer finite points are 'unknown'", unit="points", low=1, high=1000000)
    temperature: float = parameter(
        0.0, "divides the logits before the softmax; 0: the model's own, fitted on held-out data", low=0, high=100
    )
    # objects in the cloud
    input_form: str = parameter(
        "auto",
        "labelled points, one cloud per object, or boxes on ~/input/boxes; auto: boxes if published, else labelled "
        "if the cloud has a label field, else one object if the cloud is unorganised",
        choices=FORMS,
    )
    instance_field: tuple[str, ...] = parameter(INSTANCE_FIELDS, "fields tried in order for each point's object number")
    ignore_instances: tuple[int, ...] = parameter((0, 1), "object numbers that are background or table")
    max_segments: int = parameter(
        512, "more objects than this mean a wrong label field: the cloud is refused", unit="objects", low=1, high=100000
    )

    def check(self) -> None:
        """Raises ParameterError for what a field's own limits cannot tell."""
        super().check()
        if len(set(self.classes)) < len(self.classes):
            raise ParameterError(f"'classes' names one class twice: {', '.join(self.classes)}")
        class_thresholds(self.unknown_below_class)

    @property
    def classifier(self) -> ClassifierConfig:
        return ClassifierConfig(
            points=self.points,
            resampling=self.resampling,
            selection=self.selection,
            unknown_below=self.unknown_below,
            unknown_below_class=class_thresholds(self.unknown_below_class),
            max_views=self.max_views,
            precision=self.precision,
            graphs=self.graphs,
            first_views=self.first_views,
            sure_below=self.sure_below,
            min_points=self.min_points,
            temperature=self.temperature or None,
            runtime=self.runtime,
        )

    @property
    def follows(self) -> bool:
        """Whether it is to be known which segments of successive clouds are one object."""
        return self.fuse_tracks or self.reuse_still

    @property
    def tracker(self) -> TrackerConfig:
        return TrackerConfig(ids_last_s=TrackerConfig.forget_s if self.stable_ids else 0.0)

    @property
    def segments(self) -> SegmentConfig:
        return SegmentConfig(self.input_form, self.instance_field, self.ignore_instances, self.max_segments)

    @property
    def class_source(self) -> str | list[str] | None:
        """`classes` as Classifier takes it: None, a description file's path, or the names."""
        return named_classes(self.classes)


def class_thresholds(words: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """The parameter `unknown_below_class` as pairs of a name and a number.

    Raises:
        ParameterError: a word that is not NAME=VALUE with a value from 0 to 1, or a name twice.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, value = (part.strip() for part in word.rpartition("="))
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not (name and 0 <= number <= 1):
            raise ParameterError(
                f"'unknown_below_class' has '{word}'; each must read NAME=VALUE, the value from 0 to 1, such as mug=0.6"
            )
        if name in found:
            raise ParameterError(f"'unknown_below_class' names '{name}' twice")
        found[name] = number
    return tuple(found.items())


def default_file() -> str:
    """The text of config/perception.yaml."""
    return annotated_yaml(PerceptionConfig, HEADING, "perception", SHARED_NAMES)


if __name__ == "__main__":
    Path(__file__).parents[2].joinpath("config", "perception.yaml").write_text(default_file())
