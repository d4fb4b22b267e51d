"""The segmenter node's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipoint3d_ros.geometry.segmentation.clusters import ClusterConfig
from clipoint3d_ros.geometry.segmentation.crop import CropConfig
from clipoint3d_ros.geometry.segmentation.plane import PlaneConfig
from clipoint3d_ros.geometry.segmentation.segment import SegmenterConfig
from clipoint3d_ros.nodes.node_config import SHARED_NAMES, CloudNodeConfig
from clipoint3d_ros.nodes.parameters import ParameterError, annotated_yaml, parameter
from clipoint3d_ros.recognition.tracks import TrackerConfig

HEADING = """Parameters of the segmenter node: every one, with its default.
Pass what you change of it in `params_file`, beside perception's; names match in any namespace."""


@dataclass(frozen=True)
class SegmenterNodeConfig(CloudNodeConfig):
    """One field a parameter; the sub-configurations of the rooms below are made from it."""

    # range crop
    min_range: float = parameter(0.2, "nearer points are left out", unit="m", low=0, high=100)
    max_range: float = parameter(
        2.5,
        "farther points are left out; a little beyond the far edge of the table is best",
        unit="m",
        low=0.1,
        high=1000,
    )
    # support planes
    max_tilt: float = parameter(
        15.0, "how far a support plane may lean from the horizontal", unit="degrees", low=0, high=90
    )
    plane_thickness: float = parameter(
        0.006, "points so near to a support plane belong to it", unit="m", low=0.0005, high=0.2
    )
    plane_noise: float = parameter(
        0.002,
        "thickness that the sensor's noise adds at a range of 1 m from 1 m above; it grows with range times height",
        unit="m",
        low=0,
        high=0.1,
    )
    min_plane_area: float = parameter(
        0.2, "what is seen of a support plane at least; less is an object's lid", unit="m²", low=0.001, high=1000
    )
    max_planes: int = parameter(2, "support planes at most, the largest first", unit="planes", low=1, high=20)
    plane_margin: float = parameter(
        0.02, "how far objects may reach over the seen edge of their plane", unit="m", low=0, high=10
    )
    max_height: float = parameter(0.6, "points higher above their plane are background", unit="m", low=0.01, high=100)
    hypotheses: int = parameter(100, "random planes tried for each support plane", unit="planes", low=1, high=100000)
    seed: int = parameter(0, "of the random planes: one seed and cloud always give one answer", low=0, high=2**31 - 1)
    # clusters
    voxel: float = parameter(
        0.007, "grid on which points are clustered; larger is quicker", unit="m", low=0.001, high=1
    )
    gap: float = parameter(
        0.013,
        "voxels no farther apart hang together; at most one and a half to two voxels",
        unit="m",
        low=0.001,
        high=2,
    )
    fold: float = parameter(
        0.13,
        "how sharply a surface folds inwards where objects that touch are cut apart, as a share of its surroundings' "
        "spread; lower cuts more, 0 never",
        low=0,
        high=1,
    )
    fold_steps: int = parameter(
        4, "how far those surroundings reach, from neighbour to neighbour", unit="voxels", low=2, high=50
    )
    min_part: float = parameter(
        0.055, "smaller pieces between folds, such as a handle, stay with what they touch", unit="m", low=0, high=10
    )
    min_points: int = parameter(100, "points of an object at least", unit="points", low=1, high=1000000)
    max_points: int = parameter(200000, "points of an object at most", unit="points", low=1, high=100000000)
    min_size: float = parameter(0.02, "an object's longest side at least", unit="m", low=0, high=100)
    max_size: float = parameter(0.6, "an object's longest side at most", unit="m", low=0.01, high=1000)
    # ids over frames
    max_move: float = parameter(
        0.10, "an object seen again no farther away keeps its number", unit="m", low=0.001, high=10
    )
    forget_s: float = parameter(2.0, "an object not seen for so long gets a new number", unit="s", low=0.01, high=3600)
    # what is published
    objects_only: bool = parameter(
        False, "whether only objects' points are published, which is less to send, or the whole cloud with its shape"
    )

    def check(self) -> None:
        """Raises ParameterError for what a field's own limits cannot tell."""
        super().check()
        for low, high in (("min_range", "max_range"), ("min_points", "max_points"), ("min_size", "max_size")):
            if getattr(self, low) > getattr(self, high):
                raise ParameterError(
                    f"'{low}' is {getattr(self, low)}, above '{high}' {getattr(self, high)}: nothing would be left"
                )

    @property
    def segmenter(self) -> SegmenterConfig:
        return SegmenterConfig(
            CropConfig(self.min_range, self.max_range),
            PlaneConfig(
                max_tilt=self.max_tilt,
                thickness=self.plane_thickness,
                noise=self.plane_noise,
                min_area=self.min_plane_area,
                count=self.max_planes,
                hypotheses=self.hypotheses,
                margin=self.plane_margin,
                max_height=self.max_height,
                seed=self.seed,
            ),
            ClusterConfig(
                voxel=self.voxel,
                gap=self.gap,
                fold_steps=self.fold_steps,
                fold=self.fold,
                min_part=self.min_part,
                min_points=self.min_points,
                max_points=self.max_points,
                min_size=self.min_size,
                max_size=self.max_size,
            ),
        )

    @property
    def tracker(self) -> TrackerConfig:
        return TrackerConfig(max_move=self.max_move, forget_s=self.forget_s)


def default_file() -> str:
    """The text of config/segmenter.yaml."""
    return annotated_yaml(SegmenterNodeConfig, HEADING, "segmenter", SHARED_NAMES)


if __name__ == "__main__":
    Path(__file__).parents[2].joinpath("config", "segmenter.yaml").write_text(default_file())
