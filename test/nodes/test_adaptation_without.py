"""The companion over DDS without something that it would rather have: it goes on, and says what it lacks."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

pytestmark = [
    pytest.mark.usefixtures("quick_ticks"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


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
