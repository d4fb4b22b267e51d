"""The projection's kernel: passes do not touch each other, and Triton's kernels give what torch's do."""

import os
import subprocess
import sys

import pytest
import torch

from clipoint3d_ros.geometry import raster
from clipoint3d_ros.geometry.clouds import normalise
from clipoint3d_ros.geometry.views import DepthViews, ViewConfig

CONFIGS = [ViewConfig(), ViewConfig(resolution=40, extent=1.0, pool=5, blur=5, blur_sigma=1.0)]


def some_cells(config=CONFIGS[0], count=3, points=200, views=None):
    """Cells of `count` clouds' ten views (or some of them), flat clouds for many a view, and their tile."""
    rng = torch.Generator().manual_seed(3)
    clouds = normalise(torch.randn(count, points, 3, generator=rng) * torch.tensor([1.0, 0.5, 0.1]))
    render, kept = DepthViews(config, views=views), []

    def keep(cells, tile):
        kept.append(cells)
        return raster.render_torch(cells, tile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raster, "render", keep)
        render(clouds)
    return raster.Cells(*(torch.cat(part) for part in zip(*kept, strict=True))), render._tile


@pytest.mark.parametrize("cells_of_a_pass", [1, 100_000, 1 << 27])
def test_views_do_not_depend_on_who_shares_their_pass(monkeypatch, cells_of_a_pass):
    cells, tile = some_cells()
    alone = torch.cat([raster.render_torch(raster.Cells(*(p[i : i + 1] for p in cells)), tile) for i in range(30)])
    monkeypatch.setattr(raster, "_CACHED_CELLS", cells_of_a_pass)
    assert torch.equal(raster.render_torch(cells, tile), alone)


def test_only_layers_that_hold_points_are_made(monkeypatch):
    cells, tile = some_cells()
    flat = raster.Cells(cells.place, torch.full_like(cells.layer, 2), cells.value.clamp(2.5, 3))
    made = []
    drawn = raster._drawn
    monkeypatch.setattr(raster, "_drawn", lambda part, layers, *rest: made.append(layers) or drawn(part, layers, *rest))
    raster.render_torch(flat, tile)
    assert set(made) == {1}


@pytest.mark.parametrize("config", CONFIGS, ids=["published", "to the edges"])
def test_a_point_s_cell_lies_in_the_tile(config):
    cells, tile = some_cells(config)
    assert int(cells.place.min()) >= 0
    assert int(cells.place.max()) < tile.side**2
    assert int(cells.layer.min()) >= 0
    assert int(cells.layer.max()) <= tile.layers[1] - tile.layers[0]
    assert float(cells.value.min()) > 0, "the bits of floats above zero are in the floats' order"


def test_triton_s_kernels_interpreted_give_what_torch_gives():
    """The kernels' own text, run by Triton's interpreter: their arithmetic, though not what a GPU makes of it."""
    pytest.importorskip("triton", reason="Triton is not installed")
    program = (
        "import test_raster as t; from clipoint3d_ros.geometry import raster as r\n"
        "for config in (t.ViewConfig(resolution=40), t.CONFIGS[1]):\n"
        "    cells, tile = t.some_cells(config, count=1, points=100, views=[0, 9])\n"
        "    worst = float((r.render_triton(cells, tile) - r.render_torch(cells, tile)).abs().max())\n"
        "    assert worst <= 1e-5, worst\n"
    )
    place = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": place}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_triton_s_kernels_compile_for_jetson_and_data_centre():
    pytest.importorskip("triton", reason="Triton is not installed")
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from clipoint3d_ros.geometry import raster_triton as kernels

    words = {"line": "*fp32", "out": "*fp32", "ratios": "*fp32", "place": "*i64", "layer": "*i64", "value": "*i32"}
    sizes = {"BLOCK": 1024, "POOL": 7, "SIZE": 3}
    for kernel in (kernels._scatter, kernels._pool, kernels._blur_nearest):
        signature = {name: "constexpr" if name in sizes else words.get(name, "i32") for name in kernel.arg_names}
        if kernel is kernels._scatter:
            signature["line"] = "*i32"
        fixed = {name: size for name, size in sizes.items() if name in kernel.arg_names}
        for capability in (87, 90):
            built = build(ASTSource(kernel, signature, fixed), target=GPUTarget("cuda", capability, 32))
            assert len(built.asm["cubin"]) > 0


def test_without_a_working_triton_torch_s_path_serves(monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no C compiler found")

    monkeypatch.setattr(raster, "render_triton", fail)
    with caplog.at_level("INFO"):
        assert not raster._triton_serves.__wrapped__(torch.device("cpu"))
    assert "no C compiler found" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("config", CONFIGS, ids=["published", "to the edges"])
def test_triton_s_kernels_on_a_gpu_give_what_torch_gives(config):
    cells, tile = some_cells(config)
    there = raster.Cells(*(part.cuda() for part in cells))
    expected = raster.render_torch(cells, tile)
    assert raster._triton_serves(there.value.device)
    assert (raster.render_triton(there, tile).cpu() - expected).abs().max() <= 1e-5
    assert (raster.render_torch(there, tile).cpu() - expected).abs().max() <= 1e-5
