"""The perception node: clouds in, labelled detections out.

A thin shell. Callbacks take the newest cloud and return; a worker thread does the work, and `_work` is the data's
whole way. Everything that answers lives in one Serving, replaced as a whole between frames when a parameter
changes, so that no frame is decided by half of a change.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from clipoint3d_ros.geometry.clouds import doubtful_place, doubtful_scale
from clipoint3d_ros.nodes.boxes import Box, read_boxes
from clipoint3d_ros.nodes.cloud_node import CloudNode
from clipoint3d_ros.nodes.detections import features_image, picture_image, segment_boxes, vision_info
from clipoint3d_ros.nodes.diagnostics import STAGES
from clipoint3d_ros.nodes.evidence import COLUMNS, evidence_rows
from clipoint3d_ros.nodes.frames import Standpoint, standpoint, to_fixed_frame
from clipoint3d_ros.nodes.lifecycle import LATCHED, RELIABLE, own, sentence
from clipoint3d_ros.nodes.markers import marker_array
from clipoint3d_ros.nodes.mosaic import mosaic
from clipoint3d_ros.nodes.parameters import changed
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.pointcloud import Segment, is_one_object, read_segments
from clipoint3d_ros.nodes.program import leave, run
from clipoint3d_ros.nodes.stamps import Frame, Pairs, Repeats, nanoseconds
from clipoint3d_ros.nodes.transforms import fitting
from clipoint3d_ros.nodes.wire import detection_writer
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.recognition import Recognition
from clipoint3d_ros.recognition.still import StillObjects
from clipoint3d_ros.recognition.streams import FIRST, finish, stream
from clipoint3d_ros.recognition.tracks import Tracker, TrackFusion

FROZEN = 0  # the version of a model without an adapter


class Serving(NamedTuple):
    """What answers a frame from its first byte to its last."""

    config: PerceptionConfig
    classifier: Classifier
    stream: torch.cuda.Stream | None  # of the GPU; what trains beside perception has one that comes later


class PerceptionNode(CloudNode[PerceptionConfig]):
    """`perception`: see the ROS interface in the README."""

    purpose = "recognition"

    def __init__(self, **options: Any) -> None:
        """Raises ParameterError where an override cannot be used."""
        super().__init__("perception", PerceptionConfig, STAGES, **options)
        self._serving: Serving | None = None
        self._enabled = True
        self._pairs, self._repeats = Pairs(), Repeats()
        self._tracker, self._fusion, self._still = Tracker(), TrackFusion(), StillObjects()
        self._create_outputs()
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)

    # Data: the whole way of a frame

    def _on_points(self, cloud: PointCloud2) -> None:
        self._heard_s = time.monotonic()
        if not self._enabled:
            return
        self._statistics.received()
        self._follow_time(cloud.header.stamp)
        if self._awaits_boxes():
            return self._put(self._pairs.cloud(cloud))
        self._doubt_form(cloud)
        self._put(Frame(cloud))

    def _on_boxes(self, boxes: Detection3DArray) -> None:
        if self._enabled and self._awaits_boxes():
            self._put(self._pairs.boxes(boxes))

    def _work(self, frame: Frame) -> None:
        serving = self._serving
        if serving is None:
            return
        header, config, classifier, timed = frame.cloud.header, serving.config, serving.classifier, self._timed
        with torch.cuda.stream(serving.stream), timed("total"):
            with timed("decode"):
                stand = standpoint(header.frame_id, header.stamp, config.frames, self._lookup())
                boxes = None if frame.boxes is None else read_boxes(frame.boxes, header.frame_id)
                segments = read_segments(frame.cloud, config.segments, boxes)
                clouds = [segment.points for segment in segments]
                tracks = self._tracks(header, segments, config) if config.follows else []
            heard = self._frozen.get_subscription_count() > 0
            if not segments:
                self._publish(header, config, segments, [], stand, heard)
                return self._publish_no_rows(header)
            with timed("project"):
                projection = classifier.project(clouds, stand.up, stand.viewpoint)
            with timed("encode"):
                features = self._look(header, serving, tracks, clouds, projection, stand)
            with timed("frozen"):  # beside a trained network a pass of its own, which is made for who listens
                asked = heard or classifier.shares_tower
                frozen_features = classifier.encode_frozen(projection, features) if asked else None
            with timed("decide"):
                recognitions = classifier.decide(projection, features, frozen_features)
                if config.fuse_tracks:
                    recognitions = self._fused(header, tracks, segments, recognitions, classifier)
            with timed("publish"):
                self._publish(header, config, segments, recognitions, stand, heard)
                self._publish_views(header, projection, recognitions)
                self._publish_features(header, classifier, projection, features)
                self._publish_evidence(header, classifier, projection, features, segments, recognitions, stand)

    def _tracks(self, header: Any, segments: Sequence[Segment], config: PerceptionConfig) -> list[int]:
        """The number of each segment's object; raises MissingTransform where that takes one."""
        turn, shift = to_fixed_frame(header.frame_id, header.stamp, config.fixed_frame, self._lookup())
        nowhere = np.full((1, 3), np.nan)  # a box with nothing in it is a track of its own
        clouds = [segment.points if len(segment.points) else nowhere for segment in segments]
        centres = np.reshape([cloud.mean(0) for cloud in clouds], (-1, 3)) @ turn.T + shift
        sizes = np.reshape([np.ptp(cloud, axis=0) for cloud in clouds], (-1, 3))
        stamp_s = nanoseconds(header.stamp) / 1e9
        return self._tracker.update(stamp_s, [segment.id for segment in segments], centres, sizes)

    def _look(
        self,
        header: Any,
        serving: Serving,
        tracks: Sequence[int],
        clouds: Sequence[np.ndarray],
        projection: Any,
        stand: Standpoint,
    ) -> Any:
        """Features of all objects; those that stand still keep the ones they had."""
        classifier = serving.classifier
        if not serving.config.reuse_still:
            return classifier.encode(projection)
        eye = None if stand.viewpoint is None else np.asarray(stand.viewpoint)
        given = (nanoseconds(header.stamp) / 1e9, tracks, clouds, eye, projection.chosen, projection.weights)
        known = self._still.recall(*given, classifier.looks_by)
        features = classifier.encode(projection, known)
        self._still.remember(*given, features, known)
        return features

    def _fused(
        self,
        header: Any,
        tracks: Sequence[int],
        segments: Sequence[Segment],
        recognitions: Sequence[Recognition],
        classifier: Classifier,
    ) -> list[Recognition]:
        """Each answer with what this classifier said of the same object before; the frozen model's own stays as it is.

        An object of too few points is unknown, whatever was said of it before, and adds nothing to its track.
        """
        stamp_s = nanoseconds(header.stamp) / 1e9
        enough = np.array([len(segment.points) >= classifier.config.min_points for segment in segments])
        rows = np.stack([answer.probabilities for answer in recognitions]) * enough[:, None]  # a row of 0 adds nothing
        fused = self._fusion.update(stamp_s, tracks, rows, classifier)
        return [
            replace(
                Recognition.of(row, answer.classes, answer.familiarity, classifier.thresholds, answer.share),
                frozen=answer.frozen,
            )
            if usable
            else answer
            for usable, row, answer in zip(enough, fused, recognitions, strict=True)
        ]

    def _publish(
        self,
        header: Any,
        config: PerceptionConfig,
        segments: Sequence[Segment],
        recognitions: Sequence[Recognition],
        stand: Standpoint,
        heard: bool,
    ) -> None:
        """`heard`: whether the frozen answers are."""
        boxes = segment_boxes(segments, stand.up)
        self._doubt_measures(segments, boxes)
        if heard:
            frozen = [answer.frozen or answer for answer in recognitions]
            self._frozen.publish(self._written(header, segments, boxes, frozen, config.top_k))
        if self._markers.get_subscription_count():
            self._markers.publish(marker_array(header, boxes, recognitions, stand.up))
        self._detections.publish(self._written(header, segments, boxes, recognitions, config.top_k))

    def _doubt_form(self, cloud: PointCloud2) -> None:
        """A cloud that is one object is a whole frame: of several of one stamp, the newest alone is sure to be seen."""
        config = self._config
        if is_one_object(cloud, config.segments) and self._repeats.again(nanoseconds(cloud.header.stamp)):
            said = (
                "two clouds of the same stamp came one after the other, each one object: such a cloud "
                "is a frame of its own, and of several only the newest is sure to be answered; publish the "
                f"frame's objects as one cloud with a field {' or '.join(config.instance_field) or 'instance_id'}"
            )
            self._statistics.trouble(said)
            self._warn("one stamp", said)

    def _doubt_measures(self, segments: Sequence[Segment], boxes: Sequence[Box]) -> None:
        for segment, box in zip(segments, boxes, strict=True):
            if said := doubtful_scale(f"object '{segment.id}'", box.size):
                self._statistics.trouble(said)
                return self._warn("scale", said)
        # All of a cloud are about as far.
        if segments and (said := doubtful_place(f"object '{segments[0].id}'", boxes[0].centre)):
            self._statistics.trouble(said)
            self._warn("place", said)

    def _publish_views(self, header: Any, projection: Any, recognitions: Sequence[Recognition]) -> None:
        if self._views.get_subscription_count():
            images, weights = (part.detach().float().cpu().numpy() for part in (projection.images, projection.weights))
            self._views.publish(picture_image(header, mosaic(images, weights, recognitions)))

    def _publish_features(self, header: Any, classifier: Classifier, projection: Any, features: Any) -> None:
        if self._features.get_subscription_count():
            rows = classifier.object_features(projection, features)
            self._features.publish(features_image(header, rows.detach().float().cpu().numpy()))

    def _publish_evidence(
        self,
        header: Any,
        classifier: Classifier,
        projection: Any,
        features: Any,
        segments: Sequence[Segment],
        recognitions: Sequence[Recognition],
        stand: Standpoint,
    ) -> None:
        if self._objects.get_subscription_count():
            points = projection.metric_points().flatten(1).float().cpu().numpy()
            self._objects.publish(features_image(header, points))
        if self._evidence.get_subscription_count():
            agreement = classifier.agreement(projection, features).float().cpu().numpy()
            rows = evidence_rows(segments, recognitions, agreement, stand, classifier.version)
            self._evidence.publish(features_image(header, rows))

    def _publish_no_rows(self, header: Any) -> None:
        """Of a frame without objects: whoever joins outputs by their stamps finds all of them for every frame."""
        for publisher in (self._objects, self._features, self._evidence):
            if publisher.get_subscription_count():
                publisher.publish(features_image(header, np.zeros((0, len(COLUMNS)), np.float32)))

    # Lifecycle

    def _configure(self) -> None:
        """Load the model and warm it up."""
        config = self._config
        config.check()
        self._prepare_transforms(config)
        self._follow_by(config)
        classifier = self._load(config)
        self._serving = Serving(config, classifier, stream(classifier.device, FIRST))
        self._announce()

    def _open(self) -> None:
        """Inputs are subscribed only now: whoever sees a subscriber knows that it listens."""
        self._begin_work()
        self._pairs = Pairs()
        self._listen(PointCloud2, "~/input/points", self._on_points, qos_profile_sensor_data, newest=True)
        self._listen(Detection3DArray, "~/input/boxes", self._on_boxes, qos_profile_sensor_data)
        self.get_logger().info(f"listening on {self._points_topic}")

    def _load(self, config: PerceptionConfig) -> Classifier:
        start = time.monotonic()
        classifier = Classifier.load(
            bundle=config.bundle or None,
            backbone=config.backbone or None,
            pretrained=config.pretrained or None,
            classes=config.class_source,
            device=config.device or None,
            config=config.classifier,
            patches=config.patches,
        )
        warm = np.random.default_rng(0).normal(size=(16, config.points, 3)).astype(np.float32)
        for count in (1, 2, 4, 8, 16) if config.graphs else (2,):
            classifier.classify(list(warm[:count]))  # first passes allocate and tune; no sensor should wait for that
        finish(classifier.device)
        took = time.monotonic() - start
        self.get_logger().info(
            f"{classifier.name} on {classifier.device} in {took:.1f} s, {_who(classifier, config)}, "
            f"{len(classifier.classes)} classes: {', '.join(classifier.classes)}"
        )
        return classifier

    def _create_outputs(self) -> None:
        make = partial(self._make_publisher, managed=True)
        self._written = detection_writer()
        self._detections = make(Detection3DArray, "~/output/detections", RELIABLE)
        self._frozen = make(Detection3DArray, "~/output/frozen_detections", RELIABLE)
        self._features = make(Image, "~/output/features", RELIABLE)
        self._objects = make(Image, "~/output/objects", RELIABLE)
        self._evidence = make(Image, "~/output/evidence", RELIABLE)
        self._markers = make(MarkerArray, "~/output/markers", RELIABLE)
        self._views = make(Image, "~/output/views", RELIABLE)
        self._vision_info = self._make_publisher(VisionInfo, "~/output/vision_info", LATCHED)

    def _prepare_transforms(self, config: PerceptionConfig) -> None:
        asks = config.frames.asks or (config.follows and bool(config.fixed_frame))
        self._transforms = fitting(self._transforms, self, asks, config.tf_timeout_s)

    def _follow_by(self, config: PerceptionConfig) -> None:
        self._tracker.config = config.tracker
        if config.fixed_frame != self._config.fixed_frame:
            self._tracker.clear()  # places of another frame

    def _let_go(self) -> None:
        self._serving = None
        self._still.clear()  # which holds the tower, by which it tells models apart
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    # Parameters and services

    def _on_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        ours = own(self._config, parameters)
        try:
            config = changed(self._config, ours, configured=self._serving is not None)
            self._swap(config, "bundle" in ours)
        except Exception as error:  # refused in words, and everything stays as it was
            return SetParametersResult(successful=False, reason=sentence(error))
        return SetParametersResult(successful=True)

    def _swap(self, config: PerceptionConfig, bundle_set: bool) -> None:
        """Serve by a changed configuration from the next frame on; raises, changing nothing, where it cannot."""
        serving = self._serving
        if serving is None:
            self._config = config
            return
        classifier = serving.classifier
        adapter_set = bundle_set and bool(config.bundle or classifier.version)  # none after none is no change
        if adapter_set:
            classifier = classifier.with_bundle(config.bundle)  # of the classes that are served
        if config.classes != serving.config.classes:  # with what is said of them
            classifier = classifier.with_classes(config.class_source, config.classifier)
        elif config.classifier != serving.config.classifier:
            classifier = classifier.with_config(config.classifier)
        self._prepare_transforms(config)
        self._follow_by(config)
        finish(classifier.device)  # what was made here is used on another stream
        self._config, self._serving = config, serving._replace(config=config, classifier=classifier)
        if adapter_set:
            self.get_logger().info(f"{_who(classifier, config)} answers from the next frame on")
        if adapter_set or config.classes != serving.config.classes:
            self._announce()

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        if not self._enabled:
            self._forget()
        response.success = True
        response.message = "clouds are answered" if self._enabled else "clouds are ignored until enabled again"
        if self._enabled and self._worker is None:
            response.message = "clouds will be answered once the node is active"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._forget()
        serving, bundle = self._serving, self._config.bundle
        version = FROZEN if serving is None else serving.classifier.version
        if bundle:
            emptied = self.set_parameters([Parameter("bundle", value="")])[0]
            if not emptied.successful:
                response.success, response.message = False, emptied.reason
                return response
        response.success = serving is not None or bool(bundle)
        if serving is None and bundle:
            response.message = (
                f"'bundle' was {bundle} and is empty now; configure the node, and the frozen model answers"
            )
        elif serving is None:
            response.message = "nothing is loaded yet, so there is nothing to reset; configure the node"
        elif version == FROZEN:
            response.message = "the frozen model answers; no adapter was live"
        else:
            response.message = f"the frozen model answers; adapter version {version} was live, 'bundle' is empty now"
        return response

    # Time, and what the node says of itself

    def _forget(self) -> None:
        super()._forget()
        self._pairs.clear()
        self._tracker.clear()
        self._fusion.clear()
        self._still.clear()

    def _awaits_boxes(self) -> bool:
        """Whether clouds wait for boxes: when told so, or when left to decide and somebody publishes boxes."""
        form = self._config.input_form
        return form == "boxes" or (form == "auto" and self._announced(1) > 0)

    def _timed(self, stage: str) -> Any:
        return self._statistics.timed(stage, self._settle)

    def _settle(self) -> None:
        """A GPU works on after the call returns; a stage ends when its work does."""
        serving = self._serving
        if serving is not None:
            finish(serving.classifier.device)

    def _announce(self) -> None:
        if self._serving is not None:
            stamp, where = self.get_clock().now().to_msg(), f"{self.get_fully_qualified_name()}/classes"
            classifier = self._serving.classifier
            self._vision_info.publish(vision_info(stamp, classifier.name, where, classifier.version))

    def _troubles(self) -> dict[str, str]:
        troubles = super()._troubles()
        if troubles["unanswered"] and self._awaits_boxes():
            topic = self._inputs[1].topic_name if self._inputs else "~/input/boxes"
            troubles["unanswered"] += f"; they wait for boxes of their stamp on {topic}"
        return troubles

    @property
    def _loaded(self) -> bool:
        return self._serving is not None

    @property
    def _device(self) -> Any:
        serving = self._serving
        return serving.classifier.device if serving is not None else "cpu"

    def _figures(self) -> dict[str, str]:
        serving = self._serving
        return {
            "adapter_version": str(serving.classifier.version if serving is not None else FROZEN),
            "enabled": str(self._enabled).lower(),
            "unpaired": str(self._pairs.unpaired),
        }


def _who(classifier: Classifier, config: PerceptionConfig) -> str:
    if classifier.version == FROZEN:
        return "the frozen model"
    return f"adapter version {classifier.version} of {config.bundle}"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`ros2 run clipoint3d_ros perception_node`; SIGINT and SIGTERM end it cleanly."""
    leave(run("perception_node", (PerceptionNode,), arguments))


if __name__ == "__main__":
    main()
