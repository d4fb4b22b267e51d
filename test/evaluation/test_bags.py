"""Labelled bags, written and read."""

import os

import numpy as np
import pytest
from labelled import fields, labelled_bag
from rosbags.rosbag2 import Writer

from clipoint3d_ros.evaluation.bag_writer import BagWriter
from clipoint3d_ros.evaluation.bags import SECOND, BagError, LabelledBag, Topics, TrueObject
from clipoint3d_ros.evaluation.message_types import typestore

MUG = TrueObject("3", "mug", (1.0, 2.0, 0.5), (0.1, 0.2, 0.3))
XYZ = np.arange(2 * 3 * 3, dtype=np.float32).reshape(2, 3, 3)
XYZ[0, 1] = np.nan
INSTANCE = np.array([[0, 0, 3], [1, 3, 70000]])


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_gives_back_the_clouds_and_the_truth(tmp_path, storage):
    with BagWriter(tmp_path / "bag", storage=storage) as writer:
        writer.write(7 * SECOND + 5, "level", XYZ, INSTANCE, [MUG, TrueObject("4", "")])
        writer.write(8 * SECOND, "level", XYZ[0] + 1, INSTANCE[0], [])
    bag = LabelledBag(tmp_path / "bag")
    first, second = bag.clouds()
    assert (first.stamp, first.time, second.stamp) == (7 * SECOND + 5, 7 * SECOND + 5, 8 * SECOND)
    assert bag.truth() == {first.stamp: (MUG, TrueObject("4", "")), second.stamp: ()}
    cloud = bag.decode(first)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (2, 3, 16, 48)
    assert (cloud.header.stamp.sec, cloud.header.stamp.nanosec, cloud.header.frame_id) == (7, 5, "level")
    packed = fields(cloud)
    np.testing.assert_array_equal(np.stack([packed[n] for n in "xyz"], axis=-1), XYZ)
    np.testing.assert_array_equal(packed["instance_id"], INSTANCE)
    assert not cloud.is_dense
    assert (bag.decode(second).height, bag.decode(second).width) == (1, 3)


def test_a_storage_file_can_be_named_without_its_folder(tmp_path):
    labelled_bag(tmp_path / "bag", [{"2": "box"}])
    assert len(list(LabelledBag(tmp_path / "bag" / "bag.mcap").clouds())) == 1


def test_the_best_hypothesis_names_the_object(tmp_path):
    types = typestore().types
    path = labelled_bag(tmp_path / "bag", [{"2": "box"}])
    bag = LabelledBag(path)
    with bag._open() as reader:
        cdr = next(cdr for c, _, cdr in reader.messages() if c.topic == "/ground_truth")
    message = typestore().deserialize_cdr(cdr, "vision_msgs/msg/Detection3DArray")
    hypothesis = types["vision_msgs/msg/ObjectHypothesis"]
    only = message.detections[0].results[0]
    message.detections[0].results = [
        types["vision_msgs/msg/ObjectHypothesisWithPose"](hypothesis=hypothesis(name, score), pose=only.pose)
        for name, score in (("can", 0.2), ("mug", 0.7), ("box", 0.1))
    ]
    with Writer(tmp_path / "other", version=9) as writer:
        for topic, kind, data in (
            ("/ground_truth", "vision_msgs/msg/Detection3DArray", None),
            ("/segments", "sensor_msgs/msg/PointCloud2", next(bag.clouds()).cdr),
        ):
            connection = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(connection, 0, typestore().serialize_cdr(message, kind) if data is None else data)
    assert [o.name for o in next(iter(LabelledBag(tmp_path / "other").truth().values()))] == ["mug"]


def test_foreign_topic_names(tmp_path):
    path = labelled_bag(tmp_path / "bag", [{"2": "box"}], Topics("/camera/clusters", "/labels"))
    bag = LabelledBag(path, Topics("/camera/clusters", "/labels"))
    assert len(list(bag.clouds())) == len(bag.truth()) == 1
    assert LabelledBag(path, Topics(truth="/labels")).points_topic == "/camera/clusters"
    with pytest.raises(
        BagError, match=r"no topic /ground_truth; its topics of .*Detection3DArray: /labels; .*--truth-"
    ):
        LabelledBag(path)
    with pytest.raises(BagError, match=r"no topic /points; .*: /camera/clusters; choose with --points-topic"):
        LabelledBag(path, Topics("/points", "/labels"))
    with pytest.raises(BagError, match=r"/labels is vision_msgs.*not sensor_msgs"):
        LabelledBag(path, Topics("/labels", "/labels"))


def test_a_bag_with_several_clouds_asks_which(tmp_path):
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic in ("/a", "/b"):
            writer.add_connection(topic, "sensor_msgs/msg/PointCloud2", typestore=typestore())
    with pytest.raises(BagError, match=r"but 2 of .*: /a, /b; name one with --points-topic"):
        LabelledBag(tmp_path / "bag")


@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r\n", b"\x89MCAP0\r\n" + b"\xff" * 200, b"words" * 99])
def test_a_malformed_file_is_refused_in_words(tmp_path, content):
    for suffix in ("mcap", "db3", "txt"):
        path = tmp_path / f"broken.{suffix}"
        path.write_bytes(content)
        with pytest.raises(BagError, match=r"broken.* cannot be read as a rosbag2"):
            LabelledBag(path)


def test_a_cut_bag_is_refused_in_words(tmp_path):
    path = labelled_bag(tmp_path / "bag", [{"2": "box"}] * 4)
    storage = path / "bag.mcap"
    storage.write_bytes(storage.read_bytes()[:-200])
    with pytest.raises(BagError, match="cannot be read as a rosbag2"):
        list(LabelledBag(path).clouds())
    (path / "metadata.yaml").write_text("a: [")
    with pytest.raises(BagError, match="cannot be read as a rosbag2"):
        LabelledBag(path)


BOMB = "a: &a {x: y}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: BOMB + text, "merges YAML mappings"),
        (lambda text: text + " " * (17 << 20), "a bag's has at most 16777216"),
        (lambda text: "[" * 100_000, "cannot be read as a rosbag2"),
        (lambda text: text.replace("- bag.mcap", "- ../../bag.mcap/.."), "cannot be read as a rosbag2"),
        (lambda text: text.replace("- bag.mcap", "- /etc/passwd"), "cannot be read as a rosbag2"),
        (lambda text: text.replace("name: /segments", "name: [1, 2]"), "cannot be read as a rosbag2"),
        (lambda text: text.replace("name: /segments", "name: 5"), "topics that are no names"),
        (lambda text: text.replace("type: sensor_msgs/msg/PointCloud2", "type: {a: b}"), r"is .*, not|cannot be read"),
        (lambda text: "9" * 9000, "cannot be read as a rosbag2"),
    ],
    ids=["merges", "huge", "deep", "outside", "absolute", "list", "number", "mapping", "long number"],
)
def test_hostile_metadata_are_refused_in_words_and_soon(tmp_path, change, said):
    path = labelled_bag(tmp_path / "bag", [{"2": "box"}])
    metadata = path / "metadata.yaml"
    metadata.write_text(change(metadata.read_text()))
    with pytest.raises(BagError, match=said):
        LabelledBag(path)


def test_what_is_neither_file_nor_folder_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mcap")
    with pytest.raises(BagError, match="neither a folder nor a file"):
        LabelledBag(tmp_path / "pipe.mcap")
    path = labelled_bag(tmp_path / "bag", [{"2": "box"}])
    (path / "metadata.yaml").unlink()
    os.mkfifo(path / "metadata.yaml")
    with pytest.raises(BagError, match="is no file"):
        LabelledBag(path)


def test_missing_bags_and_ros_1_bags_are_refused_in_words(tmp_path):
    with pytest.raises(BagError, match="no bag at"):
        LabelledBag(tmp_path / "none")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match="rosbags-convert"):
        LabelledBag(tmp_path / "old.bag")


def test_messages_that_do_not_decode_are_named(tmp_path):
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic, kind in (
            ("/segments", "sensor_msgs/msg/PointCloud2"),
            ("/ground_truth", "vision_msgs/msg/Detection3DArray"),
        ):
            writer.write(writer.add_connection(topic, kind, typestore=typestore()), 0, b"\x00\x01\x00\x00\x07")
    bag = LabelledBag(tmp_path / "bag")
    with pytest.raises(BagError, match="does not decode as vision_msgs"):
        bag.truth()
    with pytest.raises(BagError, match="has 5 bytes"):
        list(bag.clouds())


@pytest.mark.parametrize(
    ("ids", "words"), [(["2", "2"], "lists the id '2' twice"), (["", ""], "lists the id '' twice")]
)
def test_ids_that_cannot_be_matched_are_refused(tmp_path, ids, words):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write(SECOND, "level", XYZ, INSTANCE, [TrueObject(i, "box") for i in ids])
    with pytest.raises(BagError, match=words):
        LabelledBag(tmp_path / "bag").truth()


def test_two_truths_for_one_stamp_must_agree(tmp_path):
    with BagWriter(tmp_path / "same") as writer:
        for _ in range(2):
            writer.write(SECOND, "level", XYZ, INSTANCE, [MUG])
    assert LabelledBag(tmp_path / "same").truth() == {SECOND: (MUG,)}
    with BagWriter(tmp_path / "bag") as writer:
        for name in ("box", "can"):
            writer.write(SECOND, "level", XYZ, INSTANCE, [TrueObject("3", name)])
    with pytest.raises(BagError, match="two different truths"):
        LabelledBag(tmp_path / "bag").truth()


def test_an_interrupted_recording_leaves_nothing(tmp_path):
    def stopped_half_way():
        with BagWriter(tmp_path / "bag") as writer:
            writer.write(SECOND, "level", XYZ, INSTANCE, [MUG])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_path_is_never_written_over(tmp_path):
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path)


def test_a_cloud_at_another_time_is_the_same_but_for_its_stamp(tmp_path):
    bag = LabelledBag(labelled_bag(tmp_path / "bag", [{"2": "box"}] * 2))
    cloud = next(bag.clouds())
    moved = cloud.at(1_700_000_000 * SECOND + 7)
    before, after = bag.decode(cloud), bag.decode(moved)
    assert (after.header.stamp.sec, after.header.stamp.nanosec) == (1_700_000_000, 7)
    assert (after.data == before.data).all()
    assert moved.at(cloud.stamp) == cloud


def test_a_bag_without_truth_can_be_played_when_none_is_asked_for(tmp_path):
    bag = LabelledBag(labelled_bag(tmp_path / "bag", [{"2": "box"}] * 2, Topics(truth="/other")), Topics(truth=""))
    assert len(list(bag.clouds())) == 2
