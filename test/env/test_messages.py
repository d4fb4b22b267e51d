"""The messages this machine speaks are the published ones, so that other nodes and bags understand them."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "env" / "messages" / "vision_msgs"


def load_builder():
    spec = importlib.util.spec_from_file_location("build_messages", ROOT / "env" / "build_messages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


builder = load_builder()
PUBLISHED = builder.published_hashes(PACKAGE)


class TypeHash(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint8), ("value", ctypes.c_uint8 * 32))


def compiled_hash(name: str) -> str:
    """The type hash in the compiled library, which is what goes over the wire."""
    file = "libvision_msgs__rosidl_generator_c.so"
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    library = next((path for prefix in prefixes if (path := Path(prefix, "lib", file)).is_file()), None)
    if library is None:
        pytest.skip("vision_msgs is not installed here; 'make setup' compiles it")
    try:
        function = getattr(ctypes.CDLL(str(library)), f"vision_msgs__msg__{name}__get_type_hash")
    except AttributeError:
        pytest.skip("this ROS is older than type hashes (Iron)")
    function.restype = ctypes.POINTER(TypeHash)
    found = function(None).contents
    return f"RIHS{found.version:02d}_{bytes(found.value).hex()}"


def test_there_are_eight_messages_and_each_has_a_published_hash():
    files = {path.stem for path in (PACKAGE / "msg").glob("*.msg")}
    assert files == set(PUBLISHED)
    assert len(files) == 8


@pytest.mark.ros
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_compiled_message_has_the_published_hash(name):
    assert compiled_hash(name) == PUBLISHED[name]


def test_a_message_that_differs_from_the_published_one_is_refused(tmp_path):
    description = tmp_path / "VisionClass.json"
    entry = {"type_name": "vision_msgs/msg/VisionClass", "hash_string": "RIHS01_00"}
    description.write_text(json.dumps({"type_hashes": [entry]}))
    with pytest.raises(
        SystemExit, match="vision_msgs/msg/VisionClass has type hash RIHS01_00, published is RIHS01_1e4a"
    ):
        builder.check_hashes([description], PUBLISHED)
