"""The savings of the serving path, one a row, each on top of those before it: what is timed, and judged.

| row | what it adds |
|---|---|
| `one_pass` | all objects and views in one pass, text encoded once, one channel, fp32: the published answers |
| `exact` | the number format that is quickest on the device (the headline without approximations but that) |
| `graphs` | on a CUDA device: the tower's blocks recorded and played back |
| `occupied` | empty patches left out |
| `facing` | the views that face the sensor, whose place is known |
| `served` | two of these first, the others only of objects in doubt |
| `still` | objects that have not moved since they were looked at, here all of them, are not looked at again |
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from clipoint3d_ros.recognition.config import ClassifierConfig

FIRST_VIEWS = 2  # one view cannot disagree with itself
DOUBT = 0.25  # share of the objects that want more views: clipoint3d-tiny's on the 309 real ones


class Row(NamedTuple):
    """name: as in the table above. config: the classifier's. patches: as in `load_backbone`. viewpoint: is known.
    still: whether objects are remembered from frame to frame, in which they do not move."""

    name: str
    config: ClassifierConfig
    patches: str
    viewpoint: bool
    still: bool = False


def serving_rows(precision: str = "auto", first_views: int = FIRST_VIEWS, graphs: bool = False) -> list[Row]:
    """The rows, from the most exact to the quickest; with `graphs` from that row on, where the device has them."""
    entropy = ClassifierConfig(selection="entropy")
    quick = ClassifierConfig(selection="entropy", precision=precision)
    played = replace(quick, graphs=graphs)
    facing = ClassifierConfig(precision=precision, graphs=graphs)
    served = Row("served", replace(facing, first_views=first_views), "occupied", True)
    return [
        Row("one_pass", entropy, "trained", False),
        Row("exact", quick, "trained", False),
        *([Row("graphs", played, "trained", False)] if graphs else []),
        Row("occupied", played, "occupied", False),
        Row("facing", facing, "occupied", True),
        served,
        served._replace(name="still", still=True),
    ]
