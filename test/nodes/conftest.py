"""Nodes for tests over real DDS: perception with a sharp model or with none, and companions beside it."""

import pytest


@pytest.fixture
def quick_ticks(monkeypatch):
    """Nodes made here tell of themselves five times a second."""
    lifecycle = pytest.importorskip("clipoint3d_ros.nodes.lifecycle", reason="ROS 2 is not installed")
    monkeypatch.setattr(lifecycle, "TICK_S", 0.2)


@pytest.fixture
def start(monkeypatch):
    """Starts perception nodes with given parameters and a classifier that needs no model, each with a peer."""
    from peer import perception_nodes
    from stand_in import StandIn

    from clipoint3d_ros.nodes import perception_node

    monkeypatch.setattr(perception_node, "Classifier", StandIn)
    monkeypatch.setattr(StandIn, "delay_s", 0.0)
    with perception_nodes() as run:
        yield run


@pytest.fixture
def perceive(sharp):
    """Starts perception nodes with the sharp model, each with a peer."""
    from peer import perception_nodes

    with perception_nodes() as run:
        yield lambda **more: run(
            **({"backbone": sharp.backbone, "device": "cpu", "classes": list(sharp.classes)} | more)
        )


@pytest.fixture
def reference(sharp, monkeypatch):
    """Lets a test put another reference in place of the source's."""
    from clipoint3d_ros.nodes import adapting

    def become(reference):
        monkeypatch.setattr(adapting, "kept_reference", lambda *_: reference)

    become(sharp.reference)
    return become


@pytest.fixture
def adapt(sharp, reference, tmp_path):
    """Starts a companion whose folders are the test's own."""
    from adapting import adaptation_nodes

    own = {"backbone": sharp.backbone, "classes": list(sharp.classes), "live_folder": str(tmp_path / "live"),
           "state_folder": str(tmp_path / "state")}  # fmt: skip
    with adaptation_nodes() as run:
        yield lambda peer, **more: run(peer, **(own | more))


@pytest.fixture
def odometry(monkeypatch):
    """Nodes that ask for transforms ask this one."""
    from moving import Odometry

    monkeypatch.setattr("clipoint3d_ros.nodes.transforms.Transforms", Odometry)
    for name, value in (("asked", []), ("lost", False), ("restarts", 0)):
        monkeypatch.setattr(Odometry, name, value, raising=False)
    return Odometry
