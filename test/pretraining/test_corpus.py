"""The corpus: what every object says of itself, and that generation is deterministic and resumes."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from clipoint3d_ros.pretraining.config import CorpusConfig
from clipoint3d_ros.pretraining.corpus import COMPLETE, LIDAR_MIN_POINTS, SENSOR_NAMES, dimensions, generate

CLASSES = ("box", "bottle", "chair")
SMALL = CorpusConfig(
    complete=6,
    tabletop_scenes=14,
    floor_scenes=10,
    points=256,
    min_points=100,
    floor_sensors=("kinect", "lidar"),
    faults=0.5,
)
ARRAYS = ("points", "labels", "camera", "elevation", "sensor", "visible", "faulty", "dimensions")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return generate(CLASSES, SMALL, folder, workers=0, progress=False), folder


def test_every_array_tells_of_every_object(made):
    corpus, _ = made
    count = len(corpus.points)
    assert corpus.points.shape == (count, 256, 3)
    assert corpus.points.dtype == np.float16
    assert np.isfinite(corpus.points).all()
    assert len(corpus.words) == count
    assert (corpus.sensor.dtype, corpus.visible.dtype, corpus.faulty.dtype) == (np.int8, np.float32, bool)
    assert all(len(getattr(corpus, name)) == count for name in ARRAYS)
    assert corpus.dimensions.shape == (count, 3)
    assert set(corpus.labels) == {0, 1, 2}


def test_complete_clouds_are_whole_and_seen_ones_say_what_saw_them(made):
    corpus, _ = made
    whole = ~corpus.camera
    assert whole.sum() == 18
    assert (corpus.sensor[whole] == COMPLETE).all()
    assert (corpus.visible[whole] == 1).all()
    assert not corpus.faulty[whole].any()
    seen = corpus.camera
    assert set(corpus.sensor[seen]) == set(range(len(SENSOR_NAMES))), "each sensor saw something"
    assert (corpus.visible[seen] >= SMALL.min_visible).all()
    assert 0.2 < corpus.faulty[seen].mean() < 0.8


def test_dimensions_are_those_of_the_whole_object(made):
    corpus, _ = made
    height, length, width = corpus.dimensions.T
    assert (length >= width).all()
    assert (corpus.dimensions > 0).all()
    extent = np.ptp(corpus.points.astype(np.float32), axis=1)
    whole = ~corpus.camera
    np.testing.assert_allclose(extent[whole, 1], height[whole], rtol=0.2)
    diagonal = np.hypot(length, width)
    assert (np.hypot(extent[whole, 0], extent[whole, 2]) < diagonal[whole] * 1.42).all()
    chairs = corpus.labels == CLASSES.index("chair")
    assert height[chairs].min() > 0.5
    assert height[~chairs].max() < 0.6


@pytest.mark.parametrize("degrees", [0, 17, 45, 200])
def test_dimensions_do_not_depend_on_the_way_an_object_is_turned(degrees):
    mesh = trimesh.creation.box(extents=(0.3, 0.1, 0.2))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.deg2rad(degrees), [0, 0, 1]))
    np.testing.assert_allclose(dimensions(mesh.vertices), (0.2, 0.3, 0.1), atol=1e-9)


def test_a_killed_generation_goes_on_and_is_the_same(made):
    corpus, folder = made
    pieces = sorted(folder.rglob("*.npz"))
    pieces[-1].unlink()
    times = {piece: piece.stat().st_mtime_ns for piece in pieces[:-1]}
    again = generate(CLASSES, SMALL, folder, workers=0, progress=False)
    for name in ARRAYS:
        assert np.array_equal(getattr(corpus, name), getattr(again, name)), f"'{name}' came out differently"
    assert corpus.words == again.words
    assert times == {piece: piece.stat().st_mtime_ns for piece in pieces[:-1]}, "what was there is kept"


def test_no_sensors_means_complete_clouds_only(tmp_path):
    corpus = generate(CLASSES, replace(SMALL, sensors=(), floor_sensors=()), tmp_path, workers=0, progress=False)
    assert len(corpus.points) == 18
    assert not corpus.camera.any()
    assert [path.name for path in tmp_path.rglob("*.npz")] == ["complete-00000.npz"]


def test_a_lidars_few_points_are_repeated_and_no_others_are_added(tmp_path):
    config = replace(SMALL, sensors=("lidar",), complete=0, points=2048, floor_scenes=0, faults=0.0)
    corpus = generate(CLASSES, config, tmp_path, workers=0, progress=False)
    distinct = np.array([len(np.unique(cloud, axis=0)) for cloud in corpus.points])
    assert distinct.min() >= LIDAR_MIN_POINTS * 0.9, "float16 may make two points one"
    assert distinct.min() < 1024, "nothing was repeated"
    assert (corpus.sensor == SENSOR_NAMES.index("lidar")).all()


def test_what_is_hidden_is_left_out(tmp_path):
    strict = replace(SMALL, sensors=("lidar",), complete=0, floor_scenes=0, min_visible=0.95)
    corpus = generate(CLASSES, strict, tmp_path, workers=0, progress=False)
    assert len(corpus.visible)
    assert corpus.visible.min() >= 0.95


def test_no_faults_leaves_every_segment_alone(tmp_path):
    corpus = generate(CLASSES, replace(SMALL, faults=0.0, floor_scenes=0), tmp_path, workers=0, progress=False)
    assert not corpus.faulty.any()


def test_an_unknown_sensor_and_an_empty_corpus_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no sensor sonar; sensors are kinect, realsense, tof, lidar"):
        generate(CLASSES, replace(SMALL, sensors=("kinect", "sonar")), tmp_path, workers=0, progress=False)
    with pytest.raises(ValueError, match="would be empty"):
        generate(CLASSES, replace(SMALL, sensors=(), floor_sensors=(), complete=0), tmp_path, workers=0, progress=False)
