"""The companion over DDS without something that it would rather have: it goes on, and says what it lacks."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

from adapting import adaptation_nodes

from clipoint3d_ros.adaptation import budget
from clipoint3d_ros.datasets.objects import LacksClasses
from clipoint3d_ros.nodes import adapting

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("quick_ticks")]


# A probe set


@pytest.fixture
def unvouched(sharp, perceive, tmp_path, monkeypatch):
    """Starts a companion whose source has none of its classes, beside a perception node."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = {"backbone": sharp.backbone, "classes": list(sharp.classes), "live_folder": str(tmp_path / "live"),
           "state_folder": str(tmp_path / "state")}  # fmt: skip
    with adaptation_nodes() as run:
        yield lambda **more: run(perceive(), **(own | more))


def test_classes_that_the_source_lacks_leave_words_alone_and_say_so(unvouched, capfd):
    beside = unvouched()
    answer, frozen = beside.show()
    beside.peer.wait(lambda: beside.verdicts, what="a verdict")
    assert "no labelled object vouches for it" in beside.verdicts[0].status[0].message
    assert {"probe", "drift", "variety", "entropy"} <= {each.key for each in beside.verdicts[0].status[0].values}
    assert beside.version() == 0
    assert beside.show() == (answer, frozen)
    told = beside.diagnosis()
    assert told["level"] == b"\0", "it is no trouble"
    assert told["probe"].startswith("missing: no procedural shape for ")
    assert (told["mode"], told["anchored"], told["state"]) == ("statistics", "words alone answer", "active")
    assert int(told["remembered"].split()[0]) > 15
    said = capfd.readouterr().err
    assert "there is no probe set: no procedural shape for " in said
    assert "set 'source' to a folder of CAD that has these classes" in said


def test_mode_gradient_trains_nothing_then_and_says_so(unvouched, capfd):
    beside = unvouched(mode="gradient", least_objects=1)
    beside.show()
    told = beside.diagnosis()
    assert (told["mode"], told["steps"], told["state"]) == ("statistics", "0", "active")
    assert beside.served._training is None
    assert "mode gradient trains nothing" in capfd.readouterr().err


def test_a_folder_that_lacks_a_class_is_a_missing_probe_set_too(unvouched, sharp, tmp_path):
    folder = tmp_path / "cad" / sharp.classes[0]
    folder.mkdir(parents=True)
    for number in range(2):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).normal(size=(100, 3)).astype(np.float32))
    beside = unvouched(source=f"folders:{tmp_path / 'cad'}")
    assert beside.diagnosis()["probe"].startswith(f"missing: cad has 0 objects of class {sharp.classes[1]};")


def test_what_an_earlier_life_accepted_is_not_gone_on_with_where_nothing_can_judge_it(perceive, adapt, monkeypatch):
    def lacking(*_):
        raise LacksClasses("solids has 0 objects of class mug")

    peer = perceive()
    first = adapt(peer)
    first.show()
    first.wait_for_version(1)
    first.stop()
    peer.reset()
    first.wait_for_version(0)
    monkeypatch.setattr(adapting, "kept_reference", lacking)
    again = adapt(peer)
    assert again.served._adapting.store.versions() == [1]
    assert len(again.served._adapting.companion.learned) == 15, "what was remembered is there"
    again.show()
    told = again.diagnosis()
    assert (told["version"], told["probe"]) == ("0", "missing: solids has 0 objects of class mug")
    assert again.version() == 0


# A power sensor


def test_without_a_power_sensor_a_limit_of_power_is_warned_of_and_it_learns(perceive, adapt, monkeypatch, capfd):
    monkeypatch.setattr(budget, "board_watts", lambda: None)
    peer = perceive()
    beside = adapt(peer, max_power_w=20.0, error_after_s=0.1)
    beside.show()
    beside.wait_for_version(1)
    said = "no power sensor is found, so max_power_w of 20 W cannot be held"
    told = beside.diagnosed(lambda v: v["version"] == "1")
    assert (told["level"], told["message"], told["limits"], told["paused"]) == (b"\1", said, said, "no")
    beside.diagnosis()
    assert beside.diagnosis()["level"] == b"\1", "it never becomes an error"
    assert capfd.readouterr().err.count(said) == 1


def test_limits_that_are_held_are_no_trouble(perceive, adapt, monkeypatch):
    monkeypatch.setattr(budget, "board_watts", lambda: 5.0)
    told = adapt(perceive(), max_power_w=20.0).diagnosis()
    assert (told["level"], told["limits"]) == (b"\0", "held")


# A disk


def test_a_state_folder_that_cannot_be_made_is_told_and_tried_again(perceive, adapt, tmp_path):
    (tmp_path / "state").write_text("no folder")
    peer = perceive()
    beside = adapt(peer, state_folder=str(tmp_path / "state" / "robot"))
    told = beside.diagnosis()
    assert told["state"] == "active"
    assert "cannot be opened" in told["trouble.save"]
    assert "Not a directory" in told["trouble.save"]
    beside.show()
    beside.wait_for_version(1)
    done, said = beside.call("save")
    assert not done
    assert "cannot be opened" in said
    assert beside.diagnosed(lambda v: "not saved" in v.get("trouble.save", ""))["version"] == "1"
    (tmp_path / "state").unlink()
    assert beside.call("save") == (True, f"saved in {tmp_path / 'state' / 'robot'}")
    assert (tmp_path / "state" / "robot" / "bundles" / "version-000001").is_dir()
    assert "trouble.save" not in beside.diagnosed(lambda v: v["level"] == b"\0")


def test_a_reset_without_a_disk_succeeds(perceive, adapt, tmp_path):
    (tmp_path / "state").write_text("no folder")
    peer = perceive()
    beside = adapt(peer, state_folder=str(tmp_path / "state" / "robot"))
    beside.show()
    beside.wait_for_version(1)
    assert beside.call("reset") == (True, "everything learned is forgotten; perception goes back to the frozen model")
    beside.wait_for_version(0)
