"""Transports for large clouds: the file is there, each Fast DDS gets its own variable, and the user's choice stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipoint3d_ros.nodes.transports import BUILTIN, CHOICES, FAST_DDS_2, FAST_DDS_3, large_clouds


@pytest.fixture(autouse=True)
def unchosen(monkeypatch):
    for name in (*CHOICES, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("distro", "name"), [("", FAST_DDS_3), ("kilted", FAST_DDS_3), ("jazzy", FAST_DDS_2), ("humble", FAST_DDS_2)]
)
def test_each_fast_dds_is_told_in_its_own_variable(monkeypatch, distro, name):
    monkeypatch.setenv("ROS_DISTRO", distro)
    ((variable, file),) = large_clouds().items()
    assert variable == name
    assert Path(file).is_file()


@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_chose_stays(monkeypatch, name):
    monkeypatch.setenv(name, "UDPv4" if name == BUILTIN else "/mine.xml")
    assert large_clouds() == {}
