"""The tower as ONNX: ONNX Runtime gives what torch gives, for any number of views, with all that a tower may have."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from bundles import moved_network, small_bundle

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.datasets.shapes import make_shape, surface_points
from clipoint3d_ros.recognition import onnx_tower
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.onnx_tower import TOLERANCE, MissingRuntime, ServedTower, served_by, tensorrt_script


def needs_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'clipoint3d_ros[onnx]'")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """A cache of this module's own, shared by its tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def backbone(small_model_folder):
    return load_backbone(f"local-dir:{small_model_folder}", device="cpu")


def half_empty_views(count, size, seed=0):
    views = torch.ones(count, size, size)
    rng = torch.Generator().manual_seed(seed)
    views[:, size // 4 : size // 2, size // 8 : size // 2] = torch.rand(
        count, size // 4, size // 2 - size // 8, generator=rng
    )
    return views


@pytest.mark.parametrize("drop_empty", [False, True])
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_the_served_form_is_the_tower_itself(small_model_folder, drop_empty, pool):
    """In torch alone: masked patches are as if left out, whichever way the tower pools."""
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    backbone = replace(backbone, preprocessing=replace(backbone.preprocessing, drop_empty=drop_empty))
    backbone.visual.pool_type = pool
    views = half_empty_views(3, backbone.preprocessing.size)
    served = ServedTower(backbone).eval()
    extents = torch.tensor([[0.1, 0.2, 0.1], [torch.nan, 0.1, 0.1], [9.0, 1, 1]])
    others = (extents,) if served.sized else ()
    with torch.inference_mode():
        assert (served(views, *others) - backbone.encode_views(views, None, extents)).abs().max() <= 1e-5


def test_onnx_runtime_agrees_with_torch_for_any_number_of_views(backbone):
    needs_onnx()
    other = served_by(backbone, "onnxruntime")
    assert served_by(backbone, "onnxruntime").session is other.session, "a tower is made once"
    for count in (0, 1, 2, 7, 33):
        views = half_empty_views(count, backbone.preprocessing.size, count)
        extents = torch.rand(count, 3)
        extents[:1] = torch.nan
        worst = other.encode_views(views, None, extents) - backbone.encode_views(views, None, extents)
        assert not count or worst.abs().max() <= TOLERANCE
        assert len(worst) == count
    large = torch.rand(2, 110, 110)
    assert (other.encode_views(large) - backbone.encode_views(large)).abs().max() <= TOLERANCE


def test_an_adapter_s_merged_tower_and_visual_prompts_are_in_it(backbone):
    needs_onnx()
    network = moved_network(backbone, step=0.2).merged()
    assert network.tokens == network.config.context > 0
    other = served_by(network.backbone, "onnxruntime", network.tokens)
    views, extents = half_empty_views(4, backbone.preprocessing.size), torch.full((4, 3), 0.2)
    rng = torch.Generator().manual_seed(2)
    prompts = torch.randn(4, network.tokens, len(backbone.visual.class_embedding), generator=rng)
    found = other.encode_views(views, prompts, extents)
    assert (found - network.backbone.encode_views(views, prompts, extents)).abs().max() <= TOLERANCE
    assert (found - network.backbone.encode_views(views, -prompts, extents)).abs().max() > 100 * TOLERANCE


def test_a_classifier_serves_by_onnx_runtime_what_it_serves_by_torch(small_model_folder, backbone, tmp_path):
    needs_onnx()
    bundle = small_bundle(tmp_path / "adapter", backbone, ["jar", "lid"])
    rng = np.random.default_rng(0)
    clouds = [surface_points(make_shape(name, rng).mesh, 400, rng) for name in ("mug", "box", "bottle")]
    loaded = {
        runtime: Classifier.load(
            bundle, f"local-dir:{small_model_folder}", device="cpu", config=ClassifierConfig(runtime=runtime)
        )
        for runtime in onnx_tower.RUNTIMES
    }
    for mine, other in zip(*(each.classify(clouds) for each in loaded.values()), strict=True):
        np.testing.assert_allclose(mine.probabilities, other.probabilities, atol=1e-3)
        np.testing.assert_allclose(mine.frozen.probabilities, other.frozen.probabilities, atol=1e-3)


def test_what_is_written_once_is_found_again_and_old_files_leave(backbone, monkeypatch, tmp_path):
    needs_onnx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "clipoint3d_ros" / "onnx"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"old{number}.onnx").write_bytes(b"")
    onnx_tower._opened(backbone, 0)
    assert len(list(folder.glob("*.onnx"))) == onnx_tower._KEPT_FILES
    monkeypatch.setattr(onnx_tower, "write_onnx", None)
    onnx_tower._opened(backbone, 0)


def test_towers_of_other_weights_have_other_files(backbone):
    network = moved_network(backbone).merged()
    prints = {onnx_tower.fingerprint(backbone), onnx_tower.fingerprint(network.backbone)}
    assert len(prints | {onnx_tower.fingerprint(network.backbone, 4)}) == 3
    quick = replace(backbone, checksum=f"{backbone.checksum}-quickgelu")
    assert onnx_tower.fingerprint(quick) not in prints, "the same weights with another activation are another tower"


def test_a_missing_runtime_is_told_in_words(backbone, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingRuntime, match="pip install onnxruntime"):
        onnx_tower._opened(backbone, 0)


def test_a_missing_exporter_is_told_in_words_and_leaves_no_file(backbone, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingRuntime, match="pip install onnx onnxscript"):
        onnx_tower.write_onnx(backbone, tmp_path / "tower.onnx")
    assert not list(tmp_path.iterdir())


def test_an_unknown_runtime_is_refused():
    with pytest.raises(ValueError, match="torch, onnxruntime"):
        ClassifierConfig(runtime="tensorrt")


def test_the_script_names_every_input_and_lets_views_range(backbone):
    served = ServedTower(backbone, prompts=4)
    script = tensorrt_script(served, "my tower.onnx", most=640, usual=150)
    assert "--onnx='my tower.onnx'" in script
    assert "--saveEngine='my tower.engine'" in script
    size, width = backbone.preprocessing.size, len(backbone.visual.class_embedding)
    for kind, count in (("min", 1), ("opt", 150), ("max", 640)):
        assert f"--{kind}Shapes=views:{count}x{size}x{size}" in script
    assert f"prompts:640x4x{width}" in script
    assert ("extents:640x3" in script) == served.sized
