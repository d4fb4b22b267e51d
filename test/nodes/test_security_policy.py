"""config/security/policy.xml allows what the nodes create, as the ROS graph itself tells, and nothing else."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest

from clipoint3d_ros.nodes.interface_pages import MEANINGS, NODES

FILE = Path(__file__).parents[2] / "config" / "security" / "policy.xml"
# Kind of permission, as the file says it: the rclpy call that tells what a node has of it.
KINDS = {
    ("topics", "publish"): "get_publisher_names_and_types_by_node",
    ("topics", "subscribe"): "get_subscriber_names_and_types_by_node",
    ("services", "reply"): "get_service_names_and_types_by_node",
    ("services", "request"): "get_client_names_and_types_by_node",
}
# Allowed although a node with default parameters has it not.
ON_DEMAND = {
    "perception": {"/clock", "/tf", "/tf_static", "/segments", "/segmenter/output/segments"},
    "segmenter": {"/clock", "/tf", "/tf_static"},
    "adaptation": {"/clock", "/tf", "/tf_static"},
}
NEWER = "get_type_description"  # served from Jazzy on


def allowed() -> dict[str, dict[tuple[str, str], set[str]]]:
    """{node: {kind: whole names}} of the file."""
    found: dict[str, dict[tuple[str, str], set[str]]] = {}
    for enclave in ElementTree.parse(FILE).getroot().findall("enclaves/enclave"):
        (profile,) = enclave.findall("profiles/profile")
        name = profile.get("node")
        assert enclave.get("path") == f"/clipoint3d/{name}"
        assert profile.get("ns") == "/"
        found[name] = defaultdict(set)
        for group in profile:
            (verb,) = group.attrib
            assert group.get(verb) == "ALLOW"
            for each in group:
                assert each.tag == group.tag.rstrip("s")
                whole = each.text.replace("~/", f"/{name}/")
                assert whole not in found[name][group.tag, verb], f"{name}: {whole} is allowed twice"
                found[name][group.tag, verb].add(whole)
    return found


def test_it_is_a_policy_of_every_node():
    root = ElementTree.parse(FILE).getroot()
    assert (root.tag, root.get("version")) == ("policy", "0.2.0")
    assert set(allowed()) == set(NODES)
    assert all(set(kinds) <= set(KINDS) for kinds in allowed().values())


def test_no_permission_is_a_pattern():
    names = [name for kinds in allowed().values() for each in kinds.values() for name in each]
    assert not [name for name in names if set(name) & set("*?[")], "a pattern allows what nobody thought of"


def test_everything_the_pages_explain_is_allowed():
    """Without ROS, from the list that docs/topics.md is made of."""
    for name, told in MEANINGS.items():
        everything = set().union(*allowed()[name].values())
        for each in told:
            whole = each.replace("~/", f"/{name}/").replace("{perception}", "/perception")
            assert whole in everything, f"{name} has {whole}, which the policy does not allow"


@pytest.mark.ros
@pytest.mark.parametrize("name", NODES)
def test_it_allows_exactly_what_the_node_has_in_the_graph(name):
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("vision_msgs")
    from peer import DOMAIN, transports
    from rclpy.parameter import Parameter

    from clipoint3d_ros.nodes.interface_pages import node_classes

    given = {"autostart": False} | ({"mode": "gradient"} if name == "adaptation" else {})
    context = rclpy.Context()
    with transports("UDPv4"):
        rclpy.init(args=[], context=context, domain_id=DOMAIN)
        try:
            node = node_classes()[name](
                context=context, parameter_overrides=[Parameter(key, value=value) for key, value in given.items()]
            )
            try:
                node._open()
                created = {kind: {each for each, _ in getattr(node, ask)(name, "/")} for kind, ask in KINDS.items()}
            finally:
                node.close()
                node.destroy_node()
        finally:
            rclpy.shutdown(context=context)
    for kind, names in created.items():
        spare = allowed()[name][kind] - names - ON_DEMAND[name] - {f"/{name}/{NEWER}"}
        lacking = names - allowed()[name][kind]
        assert not lacking, f"{name} needs to {kind[1]} {', '.join(sorted(lacking))}"
        assert not spare, f"{name} may {kind[1]} {', '.join(sorted(spare))}, which it never does"
