"""The doctor names what is missing, what to do about it, and fails only for what is needed."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest

from clipoint3d_ros import cli
from clipoint3d_ros.commands import doctor
from clipoint3d_ros.nodes import transports
from clipoint3d_ros.resources import EMBEDDED, config_file


@pytest.fixture
def without(monkeypatch):
    """Makes the named modules look absent."""
    truly = doctor._import

    def remove(*names):
        def found(name):
            return (None, "not installed") if name.partition(".")[0] in names else truly(name)

        monkeypatch.setattr(doctor, "_import", found)

    return remove


@pytest.fixture
def model(tmp_path, monkeypatch):
    """An embedded model of two bytes, with its published checksum."""
    folder = tmp_path / EMBEDDED[0]
    folder.mkdir()
    (folder / "open_clip_model.safetensors").write_bytes(b"ab")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'ab').hexdigest()}  open_clip_model.safetensors\n")
    monkeypatch.setattr(doctor, "asset", lambda name: folder)
    return folder


def states(**options):
    return {row.part: row.state for row in doctor.examine(**options)}


def test_this_environment_has_the_libraries():
    found = states()
    for _, distribution, _ in doctor.LIBRARIES:
        assert found[distribution] == doctor.OK, distribution
    assert found["torch"] == found["default classes"] == doctor.OK


def test_whatever_is_missing_comes_with_advice(without):
    without("torch", "open3d", "rclpy")
    rows = {row.part: row for row in doctor.examine(needs_ros=True)}
    for part in ("torch", "open3d", "ROS 2"):
        assert rows[part].state == doctor.MISSING
        assert rows[part].advice


def test_ros_is_needed_only_when_asked_for(without):
    without("rclpy")
    assert states()["ROS 2"] == doctor.NOTE
    assert states(needs_ros=True)["ROS 2"] == doctor.MISSING


@pytest.mark.ros
def test_every_message_package_is_usable():
    pytest.importorskip("rclpy")
    found = states(needs_ros=True)
    for name in doctor.TYPES:
        assert found[name.partition("/")[0]] == doctor.OK, name


@pytest.mark.ros
def test_transports_that_lose_clouds_are_noted(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setattr(doctor, "_middleware", lambda: "rmw_fastrtps_cpp")
    for choice in transports.CHOICES:
        monkeypatch.delenv(choice, raising=False)
    name = transports.variable()
    assert states()[name] == doctor.NOTE
    monkeypatch.setenv(transports.BUILTIN, "LARGE_DATA")
    assert "never find each other" in row_of(transports.BUILTIN, doctor.examine()).advice
    monkeypatch.setenv(name, "/no/such.xml")
    assert "not there" in row_of(name, doctor.examine()).found
    monkeypatch.setenv(name, str(config_file(transports.PROFILE)))
    assert states()[name] == doctor.OK


def test_discovery_that_loses_clouds_is_noted(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setattr(doctor, "_middleware", lambda: "rmw_fastrtps_cpp")
    monkeypatch.setenv(transports.BUILTIN, "LARGE_DATA")
    name = "ROS_AUTOMATIC_DISCOVERY_RANGE"
    monkeypatch.setenv(name, "SUBNET")
    assert name not in states()
    monkeypatch.setenv(name, "localhost")
    assert states()[name] == doctor.NOTE


def test_weights_that_differ_from_the_published_are_not_the_model(model):
    parts = [f"model {name}" for name in EMBEDDED]
    assert all(states()[part] == doctor.OK for part in parts)
    (model / "open_clip_model.safetensors").write_bytes(b"ac")
    assert all(states()[part] == doctor.MISSING for part in parts)


def test_a_library_of_the_system_that_is_missing_is_an_apt_line(monkeypatch):
    why = "libusb-1.0.so.0: cannot open shared object file: No such file or directory"
    truly = doctor._import
    monkeypatch.setattr(doctor, "_import", lambda name: (None, why) if name == "open3d" else truly(name))
    row = next(row for row in doctor.examine() if row.part == "open3d")
    assert row.advice == doctor.SYSTEM_LIBRARIES


def test_exit_code_and_file_agree_with_the_rows(model, without, tmp_path, capsys):
    file = tmp_path / "doctor.json"
    assert cli.main(["doctor", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["ok"] is True
    without("rclpy")
    assert cli.main(["doctor", "--ros", "--json", str(file)]) == 1
    written = json.loads(file.read_text())
    assert written["ok"] is False
    assert [row["part"] for row in written["rows"] if row["state"] == "MISSING"] == ["ROS 2"]
    assert "missing for the library and the nodes: ROS 2" in capsys.readouterr().out


def test_what_is_optional_is_noted_with_the_line_that_installs_it(without):
    without("onnxruntime")
    row = next(row for row in doctor.examine() if row.part == "onnxruntime")
    assert (row.state, row.advice) == (doctor.NOTE, "pip install onnxruntime")


def test_folders_are_where_the_nodes_keep_things(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = {row.part: row for row in doctor._folders()}
    assert str(tmp_path / ".ros" / "clipoint3d_ros") in rows["state folder"].found
    assert str(tmp_path / "cache" / "clipoint3d_ros") in rows["cache folder"].found
    assert not list(tmp_path.iterdir()), "looking must not make folders"


def test_a_full_or_closed_folder_is_noted(monkeypatch):
    truly = doctor.shutil.disk_usage
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: truly(place)._replace(free=2**20))
    assert {row.state for row in doctor._folders()} == {doctor.NOTE}
    monkeypatch.undo()
    monkeypatch.setattr(doctor.os, "access", lambda place, mode: False)
    assert all("cannot be written" in row.found and row.advice for row in doctor._folders())


def test_bfloat16_that_is_no_quicker_is_said_so(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(doctor, "_cpu_gains_by_bf16", lambda: False)
    row = next(row for row in doctor._torch() if row.part == "bfloat16")
    assert row.state == doctor.NOTE
    assert "fp32" in row.advice


@pytest.mark.ros
def test_other_middlewares_are_asked_for_the_system_s_buffer(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setattr(doctor, "_middleware", lambda: "rmw_cyclonedds_cpp")
    found = states()
    assert "net.core.rmem_max" in found
    assert not {*transports.CHOICES} & found.keys()


def row_of(part, rows):
    return next(row for row in rows if row.part == part)


def test_memory_is_the_container_s_where_that_has_less(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(doctor, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    assert row_of("memory", doctor._computer())[1:3] == (doctor.OK, "8192 MB free of 16384")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    assert row_of("memory", doctor._computer()).state == doctor.OK
    (tmp_path / "memory.max").write_text(f"{3 << 30}\n")
    row = row_of("memory", doctor._computer())
    assert row[1:3] == (doctor.NOTE, "2048 MB free of 3072")
    assert "container" in row.advice


def test_a_jetson_names_its_jetpack_and_a_slow_power_mode(tmp_path, monkeypatch):
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    monkeypatch.setattr(doctor, "TEGRA", tmp_path / "release")
    (tmp_path / "nvpmodel").write_text("#!/bin/sh\necho 'NV Power Mode: 15W'\n")
    (tmp_path / "nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", "")
    assert row_of("JetPack", doctor._computer()).found == "6, L4T R36 (release), REVISION: 4.3"
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    row = row_of("JetPack", doctor._computer())
    assert row.state == doctor.NOTE
    assert row.found.endswith("power mode 15W")


def test_discovery_on_this_machine_only_is_noted(monkeypatch):
    monkeypatch.setenv(transports.BUILTIN, "LARGE_DATA")
    name = "ROS_LOCALHOST_ONLY"
    monkeypatch.delenv(name, raising=False)
    assert name not in {row.part for row in doctor._discovery()}
    monkeypatch.setenv(name, "1")
    row = row_of(name, doctor._discovery())
    assert row.state == doctor.NOTE
    assert row.advice


def test_an_onnxruntime_without_cuda_is_noted_beside_a_gpu(monkeypatch):
    gpu = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr(doctor, "_import", lambda name: (gpu, ""))
    for providers, state in ((["CPU"], doctor.NOTE), (["CUDA", "CPU"], doctor.OK)):
        names = [f"{name}ExecutionProvider" for name in providers]
        runtime = SimpleNamespace(get_available_providers=lambda names=names: names)
        assert row_of("onnxruntime on the GPU", doctor._runs_on_gpu(runtime)).state == state


def test_rows_that_do_not_fit_on_the_disk_leave_those_before(model, tmp_path, full_disk, capsys):
    file = tmp_path / "doctor.json"
    assert cli.main(["doctor", "--json", str(file)]) == 0
    before = file.read_text()
    full_disk()
    assert cli.main(["doctor", "--json", str(file)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert file.read_text() == before
