"""The documentation's reference pages, made from the nodes themselves.

    python -m clipoint3d_ros.nodes.interface_pages

writes docs/parameters.md from the parameters' own descriptors, and docs/topics.md from what the nodes really create:
names, types and quality of service are asked of running nodes, what each thing is for stands here. A test holds both
pages, and this list, to the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clipoint3d_ros.nodes.adaptation_config import AdaptationConfig
from clipoint3d_ros.nodes.parameters import table
from clipoint3d_ros.nodes.perception_config import PerceptionConfig
from clipoint3d_ros.nodes.segmenter_config import SegmenterNodeConfig

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = "python -m clipoint3d_ros.nodes.interface_pages"
NOTICE = f"<!-- Made from the code by `{COMMAND}`; do not edit. -->\n\n"

# Node: its configuration, and what it does.
NODES: Mapping[str, tuple[type[Any], str]] = {
    "perception": (PerceptionConfig, "names the objects of a cloud"),
    "segmenter": (SegmenterNodeConfig, "cuts a depth camera's cloud into objects, for perception"),
    "adaptation": (AdaptationConfig, "learns beside perception, without labels, and hands it adapters"),
}
DIAGNOSTICS = "the node's state, rates, latency, drops and troubles, every second"
# Node: what each of its topics and services is for. `{perception}` is the parameter of that name.
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "perception": {
        "~/input/points": "labelled clouds, clouds of one object each (one object a frame: of several only the "
        "newest is sure to be seen), or clouds with boxes; the newest wins",
        "~/input/boxes": "boxes around the objects of the cloud with the same stamp",
        "~/output/detections": "a detection a segment: `id`, best hypotheses first, box in metres; the cloud's header",
        "~/output/frozen_detections": "the same, as the frozen model answers; made only when subscribed",
        "~/output/features": "32FC1, one CLIP feature a row, in the order of the detections (no objects: no rows); "
        "only when subscribed",
        "~/output/evidence": "32FC1, likewise: adapter version, agreement of the views, familiarity, entropy, points, "
        "elevation, distance; only when subscribed",
        "~/output/objects": "32FC1, likewise: the object's points as judged, levelled, metres, x y z after each other; "
        "only when subscribed",
        "~/output/markers": "boxes and labels for RViz; only when subscribed",
        "~/output/views": "mosaic of the depth views that the model saw; only when subscribed",
        "~/output/vision_info": "the model's name, where its classes stand, and the adapter's version (0: frozen)",
        "/diagnostics": DIAGNOSTICS,
        "~/enable": "false: clouds are ignored until called with true",
        "~/reset": "back to the frozen model: empties `bundle`, forgets tracks",
    },
    "segmenter": {
        "~/input/points": "a depth camera's clouds, organised or not; the newest wins",
        "~/output/segments": "the cloud with the field `instance_id`: 0 background, 1 a plane, from 2 one object each",
        "/diagnostics": DIAGNOSTICS,
    },
    "adaptation": {
        "{perception}/output/detections": "what perception answered",
        "{perception}/output/features": "the feature of each object",
        "{perception}/output/evidence": "how far each answer may be trusted",
        "{perception}/output/objects": "each object's points; in mode `gradient` only",
        "{perception}/output/vision_info": "which adapter answers: a lost one is given again (from configuring on)",
        "/parameter_events": "a bundle or classes set by somebody else: adaptation then pauses (from configuring on)",
        "~/output/verdicts": "the guard's verdict on every candidate, with its numbers",
        "~/output/learned": "the header of every frame that was looked at, learned from or not",
        "/diagnostics": DIAGNOSTICS,
        "~/pause": "true: nothing is learned until called with false",
        "~/adapt": "make a candidate now; the answer is the verdict",
        "~/save": "bundle and memory to `state_folder`",
        "~/reset": "forget everything; perception goes back to the frozen model",
        "{perception}/set_parameters": "sets perception's `bundle`: the hand-over",
        "{perception}/get_parameters": "asks what perception's `bundle` is, after a restart",
    },
}
# What every lifecycle node of rclpy has, told once at the top of the page.
COMMON = re.compile(r"publishes /parameter_events|serves \S*/(change_state|get_\w+|\w*parameters(_atomically)?)")


class Endpoint(NamedTuple):
    """One topic or service of a node: `kind` is publishes, subscribes, serves or calls; `qos` in words."""

    kind: str
    name: str
    type: str
    qos: str = ""


def parameters_page() -> str:
    """docs/parameters.md."""
    heading = (
        "# Parameters\n\n"
        "*Live* says whether `ros2 param set` takes effect while the node runs; *at configure* needs the node\n"
        "deactivated and cleaned up first. A value that cannot be used is refused in words, and the old one stays.\n"
        "`config/perception.yaml`, `config/segmenter.yaml` and `config/adaptation.yaml` are the same as files.\n"
    )
    parts = [f"\n## `{name}`\n\nThis node {does}.\n\n{table(config)}" for name, (config, does) in NODES.items()]
    return NOTICE + heading + "".join(parts)


def topics_page() -> str:
    """docs/topics.md, of nodes that are started for it; needs rclpy."""
    heading = (
        "# Topics and services\n\n"
        "`~` is the node's own name, such as `/perception`. *Best effort* is ROS's sensor-data profile; *latched* is\n"
        "transient local: who subscribes later gets the last message. All three are lifecycle nodes, with the usual\n"
        "`~/change_state`, `~/get_state` and parameter services. Inputs are subscribed while the node is active.\n"
        "A parameter file can change each topic's quality of service: [how](dds.md).\n"
    )
    return NOTICE + heading + "".join(_section(name, found) for name, found in endpoints().items())


def node_classes() -> dict[str, type[Any]]:
    """The nodes themselves, by name; needs rclpy."""
    from clipoint3d_ros.nodes.adaptation_node import AdaptationNode
    from clipoint3d_ros.nodes.perception_node import PerceptionNode
    from clipoint3d_ros.nodes.segmenter_node import SegmenterNode

    return {"perception": PerceptionNode, "segmenter": SegmenterNode, "adaptation": AdaptationNode}


def endpoints() -> dict[str, list[Endpoint]]:
    """What each node creates, asked of nodes that are made and opened here, in a ROS context of their own.

    Raises:
        ValueError: a topic or service of which MEANINGS says nothing, or one in MEANINGS that no node has.
    """
    import rclpy
    from rclpy.parameter import Parameter

    context, result = rclpy.Context(), {}
    rclpy.init(context=context, args=[])
    try:
        for name, make in node_classes().items():
            given = {"autostart": False} | ({"mode": "gradient"} if name == "adaptation" else {})
            node = make(
                context=context, parameter_overrides=[Parameter(key, value=each) for key, each in given.items()]
            )
            try:
                node.on_activate(None)  # no model is needed to see what it listens to
                result[name] = sorted(_endpoints(node, name), key=lambda end: list(MEANINGS[name]).index(end.name))
            finally:
                node.close()
                node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    for name, found in result.items():
        gone = set(MEANINGS[name]) - {end.name for end in found}
        if gone:
            raise ValueError(f"{name} has no {', '.join(sorted(gone))} any more; take it out of MEANINGS in {__file__}")
    return result


def _endpoints(node: Any, name: str) -> Iterator[Endpoint]:
    known = MEANINGS[name]
    for kind, each, label, what in _created(node):
        if COMMON.fullmatch(f"{kind} {label}"):
            continue
        short = label.replace(f"/{name}/", "~/")
        if name == "adaptation" and "perception/" in label:
            short = "{perception}/" + label.partition("perception/")[2]
        if short not in known:
            raise ValueError(f"{name} {kind} {label}, of which MEANINGS in {__file__} says nothing; add a line")
        package, kinds, *_ = what.__module__.split(".")
        qos = _qos(each.qos_profile) if kind in ("publishes", "subscribes") else ""
        yield Endpoint(kind, short, f"{package}/{kinds}/{what.__name__}", qos)


def _created(node: Any) -> Iterator[tuple[str, Any, str, type[Any]]]:
    yield from (("publishes", each, each.topic_name, each.msg_type) for each in node.publishers)
    yield from (("subscribes", each, each.topic_name, each.msg_type) for each in node.subscriptions)
    yield from (("serves", each, each.srv_name, each.srv_type) for each in node.services)
    yield from (("calls", each, each.srv_name, each.srv_type) for each in node.clients)


def _qos(profile: Any) -> str:
    words = ["best effort" if profile.reliability.name == "BEST_EFFORT" else "reliable", f"depth {profile.depth}"]
    return ", ".join([*words, *(["latched"] if profile.durability.name == "TRANSIENT_LOCAL" else [])])


def _section(name: str, found: Iterable[Endpoint]) -> str:
    rows = ["| | name | type | quality of service | |", "|---|---|---|---|---|"]
    rows += [f"| {e.kind} | `{e.name}` | {e.type} | {e.qos} | {MEANINGS[name][e.name]} |" for e in found]
    return f"\n## `{name}`\n\nThis node {NODES[name][1]}.\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    DOCS.joinpath("parameters.md").write_text(parameters_page())
    DOCS.joinpath("topics.md").write_text(topics_page())
