"""What a companion works with: its folders are its own."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from clipoint3d_ros.nodes.adapting import claimed


def test_a_folder_belongs_to_one_node_until_that_lets_go(tmp_path):
    first = claimed(tmp_path / "state", tmp_path / "live")
    with pytest.raises(OSError, match=f"another adaptation node of this name uses {tmp_path / 'live'}"):
        claimed(tmp_path / "other", tmp_path / "live")
    for claim in claimed(tmp_path / "other"):  # what it took before that is free again
        claim.close()
    for claim in first:
        claim.close()
    for claim in claimed(tmp_path / "state", tmp_path / "live"):
        claim.close()


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_learn(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert claimed(tmp_path / "file" / "state") == ()
