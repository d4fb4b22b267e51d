"""Recognises segmented point-cloud objects with CLIP: a plain Python library and a ROS 2 package.

from clipoint3d_ros import Classifier
for recognition in Classifier.load().classify([points]):
    print(recognition.label, recognition.score)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipoint3d_ros.recognition.classifier import Classifier
    from clipoint3d_ros.recognition.recognition import Recognition

__all__ = ["Classifier", "Recognition"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `clipoint3d --help` and everything without a model do without it.
    if name == "Classifier":
        from clipoint3d_ros.recognition.classifier import Classifier

        return Classifier
    if name == "Recognition":
        from clipoint3d_ros.recognition.recognition import Recognition

        return Recognition
    raise AttributeError(f"module 'clipoint3d_ros' has no attribute '{name}'; it has {', '.join(__all__)}")
