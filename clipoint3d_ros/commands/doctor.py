"""`clipoint3d doctor`: what is installed and usable here, and what to do about the rest.

Every check is a function that returns rows and never raises: a broken part is a row, not the end of the list.
ROS is only looked for, by name, so that the command also answers where there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from clipoint3d_ros.evaluation.files import write_whole
from clipoint3d_ros.nodes import transports
from clipoint3d_ros.resources import EMBEDDED, PACKAGE, asset, config_file

SUMMARY = (
    "Show what is installed and usable here: libraries, device, weights, ROS; and what to do about what is missing."
)
EXAMPLE = "clipoint3d doctor --ros"

OK, NOTE, MISSING = "OK", "NOTE", "MISSING"
LIBRARY, ROS = "library", "ros"

SETUP = "run 'make setup' in the checkout, or 'pip install .'"
SYSTEM_LIBRARIES = "sudo apt-get install -y libusb-1.0-0 libgl1 libgomp1"

# Module, distribution that pip knows it by, what goes without it.
LIBRARIES = (
    ("torchvision", "torchvision", "open_clip needs it"),
    ("open_clip", "open_clip_torch", "the CLIP backbones"),
    ("open3d", "open3d", "clouds and meshes on disk"),
    ("ot", "POT", "optimal transport"),
    ("numpy", "numpy", "everything"),
    ("scipy", "scipy", "geometry"),
    ("trimesh", "trimesh", "meshes"),
    ("safetensors", "safetensors", "weights on disk"),
    ("rosbags.rosbag2", "rosbags", "bags without ROS"),
)
# Optional: module, distribution, what it adds.
OPTIONAL = (
    ("onnx", "onnx", "'export' and 'runtime: onnxruntime'"),
    ("onnxruntime", "onnxruntime", "'runtime: onnxruntime'"),
)
MEMORY_MB = 3000  # of a computer, free: perception and a companion hold about 1400 each with the embedded model
GPU_MB = 1000  # free on a GPU
LIVE_MB, STATE_MB = 128, 512  # free space that is enough in shared memory, and on disk
RECEIVE_MB = 8  # of a socket's buffer; DDS over UDP loses clouds of some megabytes in the usual 0.2
JETPACKS = {"R32": "4", "R35": "5", "R36": "6", "R38": "7"}  # by Linux for Tegra's release
TEGRA = Path("/etc/nv_tegra_release")
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
# A type of each package, whose compiled part is loaded too: a package can be there and still not be usable.
TYPES = (
    "sensor_msgs/msg/PointCloud2",
    "geometry_msgs/msg/Pose",
    "std_msgs/msg/Header",
    "std_srvs/srv/SetBool",
    "visualization_msgs/msg/MarkerArray",
    "diagnostic_msgs/msg/DiagnosticArray",
    "lifecycle_msgs/msg/State",
    "vision_msgs/msg/Detection3DArray",
)
# Parts of a ROS installation that no wheel brings, and what goes without them.
INSTALLATION = {
    "sensor_msgs_py": "clouds are read by this package's own code",
    "tf2_ros": "the parameters gravity_frame and sensor_frame cannot be used",
    "launch_ros": "'ros2 launch' cannot be used; start the node with 'python -m clipoint3d_ros.nodes.perception_node'",
}


class Row(NamedTuple):
    """One thing looked at: its state is OK, NOTE or MISSING; advice is what to do, "" where nothing."""

    part: str
    state: str
    found: str
    advice: str = ""
    scope: str = LIBRARY


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--ros", action="store_true", help="the ROS parts are needed too: fail where one is missing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to FILE")


def run(args: argparse.Namespace) -> int:
    """Look at everything; 0 where nothing that is needed is missing."""
    rows = examine(needs_ros=args.ros)
    missing = [row.part for row in rows if row.state == MISSING]
    print(table(rows))
    print()
    scope = "the library and the nodes" if args.ros else "the library"
    print(f"missing for {scope}: {', '.join(missing)}" if missing else f"{scope}: everything needed is here")
    if args.json:
        content = {"ok": not missing, "ros": args.ros, "rows": [row._asdict() for row in rows]}
        write_whole(args.json, json.dumps(content, indent=2) + "\n")
    return 1 if missing else 0


def examine(needs_ros: bool = False) -> list[Row]:
    """All rows. What only the nodes need is a NOTE, not MISSING, unless `needs_ros`."""
    checks: tuple[Callable[[], Iterator[Row]], ...] = (
        _python,
        _computer,
        _torch,
        _libraries,
        _models,
        _classes,
        _folders,
        _ros,
    )
    rows = [row for check in checks for row in check()]
    if needs_ros:
        return rows
    return [row._replace(state=NOTE) if row.scope == ROS and row.state == MISSING else row for row in rows]


def table(rows: list[Row]) -> str:
    """The rows for a console: advice stands under what it is about."""
    part = max(len(row.part) for row in rows)
    state = max(len(row.state) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.part:<{part}}  {row.state:<{state}}  {row.found}")
        indent = " " * (part + state + 4)
        lines += textwrap.wrap(row.advice, 118, initial_indent=indent + "→ ", subsequent_indent=indent + "  ")
    return "\n".join(lines)


def _python() -> Iterator[Row]:
    found = f"{platform.python_version()} in {sys.prefix}"
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        yield Row("Python", OK, found)
    else:
        yield Row("Python", NOTE, found, "tested with 3.10, 3.11 and 3.12; other versions may lack wheels")


def _computer() -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Row("processor", OK, f"{platform.machine()}, {cores} cores for this program")
    known = _memory()
    if known is not None:
        free, total = known
        advice = ""
        if free < MEMORY_MB:
            advice = (
                f"perception with a companion takes up to {MEMORY_MB} MB: stop other programs, give the container more "
                "memory, or leave 'adaptation' off"
            )
        yield Row("memory", NOTE if advice else OK, f"{free:.0f} MB free of {total:.0f}", advice)
    if _is_jetson():
        yield _jetpack()


def _memory() -> tuple[float, float] | None:
    """(free, all) MB that this program can have: the computer's, or the container's where that has less."""
    try:
        rows = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free, total = (float(rows[name].split()[0]) / 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return None
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        limit, held = (float((CGROUP / f"memory.{name}").read_text()) / 2**20 for name in ("max", "current"))
        return min(free, limit - held), min(total, limit)
    return free, total


def _jetpack() -> Row:
    """NVIDIA's system, whose torch and TensorRT only fit each other, and how much power it may take."""
    release = TEGRA.read_text().partition(", GCID")[0].lstrip("# ").strip()
    pack = JETPACKS.get(release.partition(" ")[0], "of unknown version")
    found = f"{pack}, L4T {release}"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10).stdout
        mode = next((line.partition(":")[2].strip() for line in told.splitlines() if "Power Mode" in line), "")
        if mode:
            slow = "" if mode.startswith("MAXN") else "slower than it can be: sudo nvpmodel -m 0 && sudo jetson_clocks"
            return Row("JetPack", NOTE if slow else OK, f"{found}, power mode {mode}", slow)
    return Row("JetPack", OK, found)


def _torch() -> Iterator[Row]:
    torch, why = _import("torch")
    if torch is None:
        yield Row("torch", MISSING, why, _jetson_torch() if _is_jetson() else SETUP)
        return
    yield Row("torch", OK, torch.__version__)
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        kind = "Jetson, " if _is_jetson() else ""
        memory = device.total_memory / 2**30
        yield Row("device", OK, f"{kind}{device.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
        free = torch.cuda.mem_get_info(0)[0] / 2**20
        advice = f"less than {GPU_MB} MB: stop other programs, or set 'max_views' lower" if free < GPU_MB else ""
        yield Row("device memory", NOTE if advice else OK, f"{free:.0f} MB free", advice)
        bf16 = torch.cuda.is_bf16_supported()
    else:
        advice = ""
        if _is_jetson():
            advice = _jetson_torch()
        elif shutil.which("nvidia-smi"):
            advice = "an NVIDIA driver is installed but torch sees no GPU; compare torch's CUDA with 'nvidia-smi'"
        yield Row("device", NOTE if advice else OK, f"cpu, {torch.get_num_threads()} threads", advice)
        bf16 = _cpu_has_bf16()
    if not bf16:
        yield Row("bfloat16", NOTE, "not in hardware", "large backbones run in fp32; the embedded model does not mind")
    elif torch.cuda.is_available() or _cpu_gains_by_bf16():
        yield Row("bfloat16", OK, "in hardware; 'precision: auto' takes it")
    else:
        found = "in hardware, but measured here not much quicker than fp32"
        yield Row("bfloat16", NOTE, found, "leave 'precision' at fp32, or at auto, which measures and takes fp32 here")


def _libraries() -> Iterator[Row]:
    for name, distribution, use in LIBRARIES:
        module, why = _import(name)
        if module is None:
            # Open3D's wheel is whole without the system's libraries; only its import tells.
            lacks_library = "cannot open shared object" in why
            yield Row(distribution, MISSING, f"{why} ({use})", SYSTEM_LIBRARIES if lacks_library else SETUP)
        else:
            yield Row(distribution, OK, str(getattr(module, "__version__", "")) or _version(distribution))
    for name, distribution, use in OPTIONAL:
        module, why = _import(name)
        if module is None:
            yield Row(distribution, NOTE, f"{why}; optional, for {use}", f"pip install {distribution}")
        else:
            yield Row(distribution, OK, str(getattr(module, "__version__", "")) or _version(distribution))
            if name == "onnxruntime":
                yield from _runs_on_gpu(module)


def _runs_on_gpu(onnxruntime: ModuleType) -> Iterator[Row]:
    """What 'runtime: onnxruntime' would run on, where there is a GPU to run on."""
    torch, _ = _import("torch")
    if torch is None or not torch.cuda.is_available():
        return
    kinds = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    there = "CUDA" in kinds
    advice = "" if there else "this onnxruntime runs on the processor only: pip install onnxruntime-gpu in its place"
    yield Row("onnxruntime on the GPU", OK if there else NOTE, ", ".join(kinds), advice)


def _models() -> Iterator[Row]:
    for model in EMBEDDED:
        yield from _model(model)


def _model(model: str) -> Iterator[Row]:
    part, advice = f"model {model}", "the checkout or the install is incomplete; fetch it again"
    try:
        folder = asset(model)
    except FileNotFoundError:
        yield Row(part, MISSING, "it is not among the package's assets", advice)
        return
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        yield Row(part, MISSING, f"no *.safetensors in {folder}", advice)
        return
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.is_file() else []
    published = {name.strip("* "): digest for digest, _, name in (line.partition(" ") for line in lines)}
    for file in weights:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        found = f"{file.name}, {file.stat().st_size / 1e6:.1f} MB, sha256 {digest[:12]}…"
        if published.get(file.name, digest) == digest:
            yield Row(part, OK, found)
        else:
            yield Row(part, MISSING, f"{found}, but SHA256SUMS says {published[file.name][:12]}…", advice)


def _classes() -> Iterator[Row]:
    from clipoint3d_ros.clip.descriptions import DEFAULT_CLASSES

    try:
        yield Row("default classes", OK, str(config_file(DEFAULT_CLASSES)))
    except FileNotFoundError as error:
        yield Row("default classes", MISSING, str(error), SETUP)


def _folders() -> Iterator[Row]:
    """Where adaptation keeps things, and the shared memory that large clouds travel through."""
    home = Path.home()
    kept = (
        ("state folder", home / ".ros" / PACKAGE, "give the adaptation node another 'state_folder'", STATE_MB),
        ("cache folder", _cache() / PACKAGE, "set XDG_CACHE_HOME to a folder that can be written", STATE_MB),
        ("/dev/shm", Path("/dev/shm"), "make it larger ('docker run --shm-size=1g …'): large clouds and live bundles "
         "go through it", LIVE_MB),
    )  # fmt: skip
    for part, folder, advice, least in kept:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free / 2**20
        if not os.access(there, os.W_OK | os.X_OK):
            yield Row(part, NOTE, f"{folder} cannot be written by this user", advice)
        elif free < least:
            yield Row(part, NOTE, f"{folder} has {free:.0f} MB free, less than {least}", advice)
        else:
            yield Row(part, OK, f"{folder}, {free / 1024:.1f} GB free")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _ros() -> Iterator[Row]:
    distro = os.environ.get("ROS_DISTRO", "")
    rclpy, why = _import("rclpy")
    if rclpy is None:
        advice = "source a ROS 2 installation (. /opt/ros/jazzy/setup.bash), or run 'make setup' on x86-64 Linux"
        yield Row("ROS 2", MISSING, why, advice, ROS)
        return
    wheel = _version("ros-rclpy")
    yield Row("ROS 2", OK, distro or f"wheels, rclpy {wheel}", scope=ROS)
    middleware = _middleware()
    yield Row("RMW", OK if middleware else MISSING, middleware or "none can be loaded", scope=ROS)
    yield Row("ROS_DOMAIN_ID", OK, os.environ.get("ROS_DOMAIN_ID") or "0 (not set)", scope=ROS)
    yield from _messages(distro)
    for name, without in INSTALLATION.items():
        module, _ = _import(name)
        if module is None:
            yield Row(name, NOTE, "not installed", f"{without}; {_apt(name, distro)}", ROS)
        else:
            yield Row(name, OK, "", scope=ROS)
    if "fastrtps" in middleware:
        yield _transports()
        yield from _discovery()
    elif middleware:
        yield from _receive_buffer()


def _messages(distro: str) -> Iterator[Row]:
    for name in TYPES:
        package, folder, kind = name.split("/")
        module, why = _import(f"{package}.{folder}")
        if module is None:
            yield Row(package, MISSING, why, _apt(package, distro), ROS)
            continue
        support = type(getattr(module, kind))
        with contextlib.suppress(Exception):
            support.__import_type_support__()
        if support._TYPE_SUPPORT is None:
            yield Row(package, MISSING, f"the compiled part of {name} cannot be loaded", _apt(package, distro), ROS)
        else:
            place = str(Path(str(module.__file__)).parent.parent)
            yield Row(package, OK, _version(f"ros-{package.replace('_', '-')}") or place, scope=ROS)


def _transports() -> Row:
    name, file = transports.variable(), os.environ.get(transports.variable(), "")
    if file:
        if not Path(file).is_file():
            return Row(name, NOTE, f"{file}, which is not there", "name a file that is", ROS)
        advice = "" if Path(file).name == transports.PROFILE else f"{transports.PROFILE} of config carries large clouds"
        return Row(name, NOTE if advice else OK, file, advice, ROS)
    advice = (
        f"export {name}=.../{transports.PROFILE} (in this package's config folder) for the camera's driver: with other "
        "transports a best-effort subscriber can lose every cloud of some megabytes; the launch file and 'evaluate' "
        "set it for the nodes themselves"
    )
    chosen = os.environ.get(transports.BUILTIN, "")
    if _by_large_data():
        advice = (
            f"with it nodes started at once sometimes never find each other; unset {transports.BUILTIN}, and {advice}"
        )
    return Row(transports.BUILTIN if chosen else name, NOTE, chosen or "not set", advice, ROS)


def _by_large_data() -> bool:
    return os.environ.get(transports.BUILTIN, "").startswith("LARGE_DATA")


def _discovery() -> Iterator[Row]:
    """LARGE_DATA needs the subnet: with discovery kept to this machine 6 of 30 clouds of 5 MB arrived, against 30."""
    if not _by_large_data():
        return
    name = "ROS_AUTOMATIC_DISCOVERY_RANGE"
    if os.environ.get(name, "").upper() == "LOCALHOST":
        advice = f"export {name}=SUBNET (and a ROS_DOMAIN_ID of your own): kept to this machine, large clouds are lost"
        yield Row(name, NOTE, "LOCALHOST", advice, ROS)
    name = "ROS_LOCALHOST_ONLY"
    if os.environ.get(name, "0") not in ("", "0"):
        yield Row(
            name, NOTE, os.environ[name], f"unset {name}: it keeps discovery to this machine, with the same loss", ROS
        )


def _receive_buffer() -> Iterator[Row]:
    """Other middlewares send large clouds over UDP, whose buffer the system bounds."""
    name = "net.core.rmem_max"
    with contextlib.suppress(OSError, ValueError):
        size = int(Path("/proc/sys", *name.split(".")).read_text())
        advice = f"sudo sysctl -w {name}=2147483647: clouds of some megabytes are lost in small buffers"
        small = size < RECEIVE_MB * 2**20
        yield Row(name, NOTE if small else OK, f"{size / 2**20:.1f} MB", advice if small else "", ROS)


def _middleware() -> str:
    with contextlib.suppress(Exception):
        return str(importlib.import_module("rclpy.utilities").get_rmw_implementation_identifier())
    return ""


def _apt(package: str, distro: str) -> str:
    if distro:
        return f"sudo apt-get install -y ros-{distro}-{package.replace('_', '-')}"
    return SETUP if any(name.startswith(f"{package}/") for name in TYPES) else "it comes with a ROS 2 installation"


def _import(name: str) -> tuple[ModuleType | None, str]:
    """The module, or None and why not: anything can go wrong while a binary module is loaded."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        return None, "not installed" if error.name == name.partition(".")[0] else f"needs {error.name}"
    except Exception as error:
        return None, (str(error).splitlines() or [repr(error)])[0]
    # A folder of that name in the working directory is found as a namespace package; it is not the module.
    return (module, "") if module.__file__ else (None, "not installed")


def _version(distribution: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return ""


def _is_jetson() -> bool:
    return TEGRA.exists()


def _jetson_torch() -> str:
    return "install NVIDIA's torch and torchvision wheels for this JetPack; PyPI's have no CUDA for Jetson"


def _cpu_has_bf16() -> bool:
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text().split()
        return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
    return False


def _cpu_gains_by_bf16() -> bool:
    """Timed, as `precision: auto` does."""
    import torch

    from clipoint3d_ros.recognition.precision import resolve

    return resolve("auto", torch.device("cpu")) == torch.bfloat16
