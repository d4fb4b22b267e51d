"""Memory and temperature, as far as they can be read."""

from __future__ import annotations

import pytest
import torch

from clipoint3d_ros.nodes.hardware import gpu_temperature, hardware, zone_temperature


@pytest.fixture
def board(tmp_path):
    """Thermal zones as a Jetson Orin has them; its second GPU zone is powered down and cannot be read."""
    for number, (kind, temperature) in enumerate(
        [("cpu-thermal", "51000"), ("gpu-thermal", "47250"), ("GPU-therm", "soon"), ("gpu1-thermal", None)]
    ):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n")
        if temperature is not None:
            (zone / "temp").write_text(f"{temperature}\n")
    return tmp_path


def test_memory_of_this_process_is_a_plausible_number():
    rows = hardware()
    assert 10 < float(rows["rss_mb"]) < 100_000
    assert list(rows) == ["rss_mb"], "a CPU has no figures of a GPU"


def test_the_hottest_zone_of_that_name_tells_and_unreadable_ones_do_not_matter(board):
    assert zone_temperature("gpu", board) == 47.25
    assert zone_temperature("cpu", board) == 51
    assert zone_temperature("npu", board) is None
    assert zone_temperature("gpu", board / "nowhere") is None


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml"), RuntimeError("no driver"), KeyError("NVMLError")])
def test_where_the_driver_does_not_tell_the_board_does(board, monkeypatch, error):
    def silent(device):
        raise error

    monkeypatch.setattr(torch.cuda, "temperature", silent)
    assert gpu_temperature("cuda:0", board) == 47.25
    assert gpu_temperature("cuda:0", board / "nowhere") is None


def test_the_driver_comes_first_and_all_memory_of_the_device_is_told(board, monkeypatch):
    monkeypatch.setattr(torch.cuda, "temperature", lambda device: 63)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3 << 20)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 20)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 << 30, 8 << 30))
    rows = hardware("cuda:0", board)
    assert {name: float(value) for name, value in rows.items() if name != "rss_mb"} == {
        "gpu_mb": 3, "gpu_reserved_mb": 5, "gpu_used_mb": 2048, "gpu_total_mb": 8192, "gpu_temperature_c": 63,
    }  # fmt: skip


def test_a_driver_that_tells_nothing_leaves_figures_out_and_raises_nothing(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    for name in ("temperature", "mem_get_info"):
        monkeypatch.setattr(torch.cuda, name, broken)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    assert set(hardware("cuda:0", tmp_path)) == {"rss_mb", "gpu_mb", "gpu_reserved_mb"}
