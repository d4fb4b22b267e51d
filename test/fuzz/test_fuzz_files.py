"""Class files, bundles, scene folders and bags that anybody may have written, or a disk has spoilt."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import change_meta, small_bundle
from fuzzing import answer, changed_json, damaged, damages, explore, json_values, spoilt
from hypothesis import strategies as st
from labelled import labelled_bag, scene_folder

from clipoint3d_ros.clip.backbone import file_checksum, load_backbone
from clipoint3d_ros.clip.bundle import META_FILE, WEIGHTS_FILE, BundleError, bundled_classes, load_bundle, read_meta
from clipoint3d_ros.clip.descriptions import Descriptions, load_descriptions
from clipoint3d_ros.datasets import scenes
from clipoint3d_ros.evaluation.bags import BagError, LabelledBag
from clipoint3d_ros.nodes.layout import Malformed
from clipoint3d_ros.nodes.pointcloud import read_segments

pytestmark = pytest.mark.timeout(0)


def check_classes(classes: Descriptions) -> None:
    assert 1 <= len(classes.names) == len(set(classes.names)) == len(classes.descriptions) <= 1000
    for index in range(min(len(classes.names), 5)):
        assert all(0 < len(prompt.encode()) < 100_000 for prompt in classes.prompts(index))


# Class files

SOUND = """\
name: tabletop
template: "the depth map of a {class} 3D model which has {description}"
classes:
  mug: [a round body, "a handle"]
  box: six flat sides
  tin: &tin
    - short
    - round
  can: ~
"""
PIECES = (
    "classes:¦template:¦name:¦{class}¦{description}¦- ¦  ¦\n¦"
    "\n  ¦: ¦, ¦[¦]¦{¦}¦*a¦&a ¦<<: ¦!!¦!!python/name:os.system ¦! ¦"
    "? ¦| \n¦> \n¦'¦\"¦\\ud800¦\\x00¦~¦null¦yes¦0x1f¦1:30:00¦"
    "2001-99-99¦1e999¦%YAML 1.1\n---\n¦---¦...¦mug¦#¦unknown¦ü¦\t¦"
    "\x85¦\u2028¦\x07¦" + "é" * 301
).split("¦")
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda words: SOUND + "".join(words)),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda words: "classes: " + "".join(words)),
).map(str.encode)


def test_any_class_file_is_read_or_refused_in_words(tmp_path):
    path = tmp_path / "classes.yaml"

    def check(content):
        path.write_bytes(content)
        classes = answer(lambda: load_descriptions(path), ValueError)
        if classes is not None:
            check_classes(classes)

    explore("class files", check, content=st.one_of(texts, damaged(SOUND.encode()), st.binary(max_size=200)))


# Bundles


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, backbone):
    return small_bundle(tmp_path_factory.mktemp("bundles") / "adapter", backbone)


def test_any_description_of_a_bundle_is_read_or_refused_in_words(tmp_path, bundle):
    whole = json.loads((bundle / META_FILE).read_text())
    words = json.dumps(whole).encode()
    content = st.one_of(
        changed_json(whole).map(lambda meta: json.dumps(meta).encode()),
        json_values.map(lambda meta: json.dumps(meta).encode()),
        damaged(words),
    )

    def check(content):
        (tmp_path / META_FILE).write_bytes(content)
        meta = answer(lambda: read_meta(tmp_path), BundleError)
        if meta is not None:
            assert meta.keys() == whole.keys()
            assert 0 < meta["version"] < 2**31
            classes = answer(lambda: bundled_classes(tmp_path), BundleError)
            assert classes is None or check_classes(classes) is None

    explore("descriptions of bundles", check, content=content)


@st.composite
def weights(draw, whole):
    """Makes a safetensors file of the same body under another table of contents, or a damaged one."""
    if draw(st.booleans()):
        return partial(spoilt, whole, draw(damages(len(whole))))
    length = int.from_bytes(whole[:8], "little")
    header = draw(changed_json(json.loads(whole[8 : 8 + length])))
    if draw(st.integers(0, 3)) == 0 and isinstance(header, dict) and header:
        name = draw(st.sampled_from(sorted(header)))
        shape = draw(st.sampled_from([[2**40], [0], [-1], [1, 2**62], [], "x"]))
        number = draw(st.sampled_from(["F32", "F64", "F4", "F6_E2M3", "F8_E8M0", "I64", "BOOL", "C64", "U8", "x"]))
        header[name] = {"dtype": number, "shape": shape, "data_offsets": [0, draw(st.sampled_from([0, 4, 8, 2**42]))]}
    words = json.dumps(header).encode()
    claimed = draw(st.sampled_from([len(words)] * 6 + [0, 1, 2**20, 2**40, 2**63]))
    return lambda: claimed.to_bytes(8, "little") + words + whole[8 + length :]


def test_any_bundle_is_served_or_refused_in_words_and_the_backbone_stays_as_it_is(tmp_path, bundle, backbone):
    whole, meta = (bundle / WEIGHTS_FILE).read_bytes(), json.loads((bundle / META_FILE).read_text())
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    shutil.copytree(bundle, tmp_path / "b")

    def check(content, told, matching):
        (tmp_path / "b" / WEIGHTS_FILE).write_bytes(whole if content is None else content())
        (tmp_path / "b" / META_FILE).write_text(json.dumps(meta if told is None else {**meta, **told}))
        if matching and told is None:  # as who wrote such a bundle would
            change_meta(tmp_path / "b", lambda m: m.update(weights=file_checksum(tmp_path / "b" / WEIGHTS_FILE)))
        adapter = answer(lambda: load_bundle(tmp_path / "b", backbone), BundleError)
        if adapter is not None:
            check_classes(adapter.classes)
            assert all(torch.isfinite(value).all() for value in adapter.network.adapter().values())

    told = changed_json({"network": meta["network"]}).filter(lambda each: isinstance(each, dict))
    explore(
        "weights",
        check,
        content=st.one_of(st.none(), weights(whole), weights(whole)),
        told=st.one_of(st.none(), st.none(), told),
        matching=st.booleans(),
    )
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "a refused bundle changed the backbone"


# Scene folders


def npz(**members):
    """An archive of members, each an array or the bytes of a file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            if not isinstance(member, bytes):
                file = io.BytesIO()
                np.lib.format.write_array(file, member, allow_pickle=True)
                member = file.getvalue()
            archive.writestr(f"{name}.npy", member)
    return content.getvalue()


class Trap:
    """Raises where somebody unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a scene was unpickled",))


@st.composite
def archives(draw, whole):
    """npz files of wrong and right arrays."""
    if draw(st.booleans()):
        return draw(damaged(whole))
    members = {}
    for name in draw(st.sampled_from([("depth", "instance"), ("depth",), ("instance", "depth", "more"), ()])):
        shape = draw(st.sampled_from([(60, 80), (60, 80), (60, 80), (0, 5), (4,), (), (2, 3, 4), (1, 1)]))
        number = draw(st.sampled_from(["u2", "u2", ">u2", "u1", "i8", "f4", "b1", "U3", "O", "M8[s]", [("a", "u2")]]))
        array = np.full(shape, Trap(), object) if number == "O" else np.zeros(shape, number)
        if array.dtype.kind in "iu" and draw(st.booleans()):
            array = array + np.array(draw(st.sampled_from([1, 5, 255])), array.dtype)
        members[name] = array
        if draw(st.integers(0, 3)) == 0:
            header = draw(st.sampled_from([(10**6, 10**6), (-1, 4), (2**70, 1), (60, 80), "x", (10**4000, 1)]))
            kind = draw(st.sampled_from(["<u2", "|O", "|u1", "x", "<f2", "S99999999"]))
            order = draw(st.sampled_from([False, True, 3]))
            words = repr({"descr": kind, "fortran_order": order, "shape": header}).encode()
            version = bytes([draw(st.integers(0, 4)), 0])
            members[name] = b"\x93NUMPY" + version + len(words).to_bytes(2, "little") + words
    return npz(**members)


def test_any_scene_folder_is_read_or_refused_in_words_and_nothing_is_unpickled(tmp_path):
    scene_folder(tmp_path, 1)
    index, path = tmp_path / "scenes.json", tmp_path / "scenes" / "s0.npz"
    listing, whole = json.loads(index.read_text()), path.read_bytes()
    content = st.one_of(
        changed_json(listing).map(lambda each: json.dumps(each).encode()), damaged(json.dumps(listing).encode())
    )

    def check(told, archive):
        index.write_bytes(json.dumps(listing).encode() if told is None else told)
        path.write_bytes(whole if archive is None else archive)
        for scene in answer(lambda: list(scenes.read_scenes(tmp_path)), ValueError) or ():
            assert scene.depth.shape == scene.instance.shape
            assert np.isfinite(scene.depth).all()
            assert abs(np.linalg.norm(scene.up) - 1) < 1e-9
            assert 0 <= scene.instance.min() <= scene.instance.max() <= scenes.MOST_ID
            assert scenes.level_points(scene).shape == (*scene.depth.shape, 3)
            assert all(2 <= number <= scenes.MOST_ID for number in scenes.object_ids(scene))

    archive = archives(whole)
    explore("scenes", check, told=st.one_of(st.none(), content), archive=st.one_of(st.none(), archive))


# Bags


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_any_bag_is_read_or_refused_in_words(tmp_path, storage):
    path = labelled_bag(tmp_path / "bag", [{"2": "box", "3": "can"}, {"4": "mug"}], storage=storage)
    file = next(each for each in path.iterdir() if each.suffix != ".yaml")
    whole, metadata = file.read_bytes(), (path / "metadata.yaml").read_bytes()

    def read(place: Path):
        bag = LabelledBag(place)
        clouds = list(bag.clouds())
        return [bag.decode(cloud) for cloud in clouds], bag.truth()

    def check(content, told, alone):
        file.write_bytes(whole if content is None else content)
        (path / "metadata.yaml").write_bytes(metadata if told is None else told)
        read_through = answer(lambda: read(file if alone else path), BagError)
        for cloud in read_through[0] if read_through is not None else ():
            answer(lambda cloud=cloud: read_segments(cloud), Malformed)

    explore(
        "bags",
        check,
        content=st.one_of(st.none(), damaged(whole), damaged(whole)),
        told=st.one_of(st.none(), st.none(), damaged(metadata)),
        alone=st.booleans(),
    )
