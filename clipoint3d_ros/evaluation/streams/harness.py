"""All streams through all methods, batch 1, each run kept on disk: a killed benchmark goes on where it stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipoint3d_ros.adaptation.config import load_recipe
from clipoint3d_ros.clip.backbone import file_checksum, load_backbone, named_device
from clipoint3d_ros.clip.bundle import BundleError
from clipoint3d_ros.clip.descriptions import read_classes
from clipoint3d_ros.datasets.domains import domain_key
from clipoint3d_ros.evaluation.adaptation.runs import Start
from clipoint3d_ros.evaluation.processes import in_processes
from clipoint3d_ros.evaluation.streams.encoding import Encoded, Pooled, encode, look_at, pool_views
from clipoint3d_ros.evaluation.streams.methods import find_methods
from clipoint3d_ros.evaluation.streams.online import Look, Online, Seen, Setting, softmax
from clipoint3d_ros.evaluation.streams.ours import GradientConfig, StatisticsConfig
from clipoint3d_ros.evaluation.streams.pools import Pool, Sizes, probe_pool, real_pool, simulated_pool
from clipoint3d_ros.evaluation.streams.streams import find_streams
from clipoint3d_ros.pretraining.config import fingerprint
from clipoint3d_ros.recognition.classifier import Classifier
from clipoint3d_ros.recognition.config import ClassifierConfig
from clipoint3d_ros.recognition.familiarity import known
from clipoint3d_ros.resources import config_file

FORMAT = 3  # of the runs on disk; a change of what a method does makes old ones unused
PERIOD_S = 0.5  # between two objects of a stream
TIMED = 24  # objects encoded one by one for the time that encoding takes
_PROBE = "source"


@dataclass(frozen=True)
class Cell:
    """One method from one start on one stream in one order; names as in the tables of these."""

    stream: str
    start: Start
    method: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """A whole table.

    streams, methods: by name. scenes: folder of real scenes, None without. views: `entropy` or `sensor`.
    settings: (method, its configuration) where they are not the published ones. bundle: of the offline method.
    named: the methods were asked for by name, so that none is left out as too slow.
    """

    starts: tuple[Start, ...]
    streams: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    cache: Path
    views: str = "entropy"
    sizes: Sizes = field(default_factory=Sizes)
    scenes: str | None = None
    classes: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    bundle: str | None = None
    named: bool = False
    device: str | None = None

    def pools(self) -> tuple[str, ...]:
        """The names of the pools that its streams are drawn from."""
        return tuple(dict.fromkeys(stream.pool for stream in find_streams(",".join(self.streams))))

    def config(self, method: str) -> Any:
        """A method's settings; references of a source of files are kept apart for every state of these."""
        config = dict(self.settings).get(method, find_methods(method)[-1].config)
        if isinstance(config, StatisticsConfig) and (state := domain_key(config.source)) != config.source:
            return replace(config, references=f"{config.references}/{fingerprint(state)}")
        return config


@dataclass(frozen=True, eq=False)
class Run:
    """What a method said of a stream.

    rows: (n,) int64 of the pool. truth: (n,) int64, `NO_LABEL` for unknown objects. scenes: (n,) int64.
    probabilities: (n, C) float32; not finite where the method gave no number.
    familiarity: (n,) float32, how likely the object is of any class: the frozen model's, with the method's own share
        of such objects where it estimates that.
    probe: share of source objects named rightly before and after the stream.
    step_ms: (n,) float32, the method's own time on each object.
    update_ms: the mean of it that is learning rather than answering; NaN where the method does not tell them apart.
    encode_ms: of one object, measured beside it.
    """

    rows: np.ndarray
    truth: np.ndarray
    scenes: np.ndarray
    probabilities: np.ndarray
    familiarity: np.ndarray
    probe: tuple[float, float]
    step_ms: np.ndarray
    update_ms: float
    encode_ms: float


def cells_of(plan: Plan) -> tuple[list[Cell], list[str]]:
    """What is to be run, and a sentence for everything that is left out."""
    cells: list[Cell] = []
    left_out: list[str] = []
    streams, on_gpu = find_streams(",".join(plan.streams)), _on_gpu(plan.device)
    if plan.scenes is None and any(stream.pool == "real" for stream in streams):
        left_out.append("streams of real scenes are left out: there are none; name their folder with --scenes")
    for method in find_methods(",".join(plan.methods)):
        starts = plan.starts
        if method.bundle:
            starts = tuple(start for start in plan.starts if _fits(plan, start))
            if not starts:
                left_out.append(
                    f"{method.name} is left out: "
                    + (f"{plan.bundle} fits none of the backbones" if plan.bundle else "no --bundle was named")
                )
        slow = method.gradient and not plan.named and not on_gpu
        if slow and any(stream.long for stream in streams):
            left_out.append(
                f"{method.name} is left out of the simulated streams: it takes hours there without a GPU; name it with "
                "--methods to have it run"
            )
        for stream in streams:
            if (stream.pool == "real" and plan.scenes is None) or (slow and stream.long):
                continue
            cells += [Cell(stream.name, start, method.name, seed) for start in starts for seed in plan.seeds]
    return cells, left_out


def prepare(plan: Plan, cells: list[Cell]) -> None:
    """Simulate and encode all that the cells need, once, before several processes need it at the same time."""
    for start in dict.fromkeys(cell.start for cell in cells):
        for name in (_PROBE, *dict.fromkeys(find_streams(cell.stream)[0].pool for cell in cells)):
            _encoded(plan, start, name, adapted=False)
            if any(find_methods(cell.method)[-1].bundle and cell.start == start for cell in cells):
                _encoded(plan, start, name, adapted=True)


def run_all(plan: Plan, cells: list[Cell], jobs: int = 1, told: Callable[[], object] = lambda: None) -> dict[Cell, Run]:
    """Every cell's run.

    Args:
        jobs: processes, each with its share of the cores; 1 works in this one.
        told: called after each cell.

    Raises:
        ChildProcessError: a process was killed.
    """
    prepare(plan, cells)
    return in_processes(partial(run_cell, plan), cells, jobs, plan.cache, told)


def run_cell(plan: Plan, cell: Cell) -> Run:
    """One cell, from disk where it is there."""
    stream, method = find_streams(cell.stream)[0], find_methods(cell.method)[-1]
    classifier, pool = _classifier(plan, cell.start), _pool(plan, stream.pool)
    rows = stream.rows(pool, cell.seed, plan.sizes)
    path = plan.cache / f"run-{_key(plan, cell, classifier, pool, rows)}.npz"
    if path.is_file():
        return _read(path)
    view = _pooled(plan, cell.start, stream.pool, adapted=False)
    probe = _pooled(plan, cell.start, _PROBE, adapted=False)
    look = _look_function(plan, cell.start, stream.pool)
    adapted = _adapted_function(plan, cell.start, stream.pool)
    cloud, by_entropy = _cloud_function(plan, cell.start, stream.pool), plan.views == "entropy"
    method_setting = Setting(classifier, cell.seed, look, adapted, cloud, by_entropy)
    online = method.make(method_setting, plan.config(cell.method))
    encoded = _encoded(plan, cell.start, stream.pool, adapted=False)
    before = _probe_accuracy(plan, cell.start, online, probe, len(pool))
    encode_ms = _encode_ms(plan, cell.start, stream.pool)
    said = np.full((len(rows), len(classifier.classes)), np.nan, np.float32)
    familiar, step_ms = view.familiarity[rows], np.zeros(len(rows), np.float32)
    for at, row in enumerate(rows.tolist()):
        seen = _seen(encoded, view, row, row, at * PERIOD_S)
        if method.gradient:
            look(row)  # rendering is perception's work, not the method's
        familiar[at] = known(float(familiar[at]), getattr(online, "known", 0.5))
        began = time.perf_counter()
        said[at] = online.answer(seen)
        step_ms[at] = 1000 * (time.perf_counter() - began)
    run = Run(
        rows,
        pool.labels[rows],
        pool.scenes[rows],
        said,
        familiar,
        (before, _probe_accuracy(plan, cell.start, online, probe, len(pool))),
        step_ms,
        1000 * getattr(online, "learning_s", float("nan")) / max(len(rows), 1),
        encode_ms,
    )
    _write(path, run)
    return run


def _key(plan: Plan, cell: Cell, classifier: Classifier, pool: Pool, rows: np.ndarray) -> str:
    """All that a run depends on."""
    method = find_methods(cell.method)[-1]
    config = {"method": cell.method, "code": method.source(), "settings": _settings(plan.config(cell.method))}
    adapter = fingerprint(*bundle_checksums(plan.bundle)) if method.bundle and plan.bundle else None
    order = fingerprint(rows.tolist())
    told = [f"{name}: {texts}" for name, texts in zip(*_told(classifier), strict=True)]
    seed = cell.seed
    probe = _pool(plan, _PROBE).digest
    model = classifier.backbone.checksum
    return fingerprint(FORMAT, config, adapter, order, told, seed, pool.digest, probe, model, plan.views)


def bundle_checksums(bundle: str) -> tuple[str, ...]:
    """Of all files of an adapter: its statistics and its temperature answer, too."""
    return tuple(file_checksum(path) for path in sorted(Path(bundle).iterdir()) if path.is_file())


def _settings(config: Any) -> dict[str, Any]:
    """A method's settings, with what the recipe says in place of where it lies."""
    if not isinstance(config, GradientConfig):
        return asdict(config)
    recipe = load_recipe(config.recipe or config_file("train/online.yaml"))
    return {**asdict(config), "recipe": asdict(recipe)}


def _told(classifier: Classifier) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    return classifier.descriptions.names, classifier.descriptions.descriptions


def _seen(encoded: Encoded, view: Pooled, row: int, cloud: int, stamp_s: float) -> Seen:
    return Seen(
        encoded.features[row].numpy(),
        view.weights[row],
        cloud,
        int(encoded.points[row]),
        float(view.familiarity[row]),
        stamp_s=stamp_s,
    )


def _probe_accuracy(plan: Plan, start: Start, online: Online, view: Pooled, offset: int) -> float:
    """Share of the source's objects that the method names rightly as it stands; it learns nothing of them."""
    encoded = _encoded(plan, start, _PROBE, adapted=False)
    answers = [online.predict(_seen(encoded, view, row, offset + row, 0.0)) for row in range(len(encoded))]
    return float((np.stack(answers).argmax(1) == encoded.labels).mean())


def _look_function(plan: Plan, start: Start, name: str) -> Callable[[int], Look]:
    """Views of a cloud: of the stream's pool by its row, of the probe by the number of rows before it."""
    every = _classifier(plan, start).with_config(ClassifierConfig(selection="all"))
    pool, probe = _pool(plan, name), _pool(plan, _PROBE)

    @lru_cache(maxsize=256)
    def look(cloud: int) -> Look:
        source, row = (pool, cloud) if cloud < len(pool) else (probe, cloud - len(pool))
        images, extents = look_at(every, source, [row])
        return Look(images[0], extents[0])

    return look


def _cloud_function(plan: Plan, start: Start, name: str) -> Callable[[int], tuple[np.ndarray, float, float]]:
    """Levelled metric points of a cloud with the sensor's elevation and distance, likewise numbered."""
    classifier = _classifier(plan, start)
    pool, probe = _pool(plan, name), _pool(plan, _PROBE)

    @lru_cache(maxsize=256)
    def cloud(number: int) -> tuple[np.ndarray, float, float]:
        source, row = (pool, number) if number < len(pool) else (probe, number - len(pool))
        points, up, eye = source.cloud(row), source.objects.up, source.viewpoint(row)
        levelled = classifier.project([points], up, eye).metric_points()[0].cpu().numpy()
        if eye is None:
            return levelled, 0.0, 0.0
        towards = eye - points.mean(0, dtype=np.float64)
        distance = float(np.linalg.norm(towards))
        height = float(towards @ np.asarray(up) / np.linalg.norm(up)) / max(distance, 1e-9)
        return levelled, float(np.arcsin(np.clip(height, -1, 1))), distance

    return cloud


def _adapted_function(plan: Plan, start: Start, name: str) -> Callable[[int], np.ndarray]:
    """Probabilities by the bundle, likewise numbered."""
    pool = _pool(plan, name)

    def adapted(cloud: int) -> np.ndarray:
        source, row = (name, cloud) if cloud < len(pool) else (_PROBE, cloud - len(pool))
        return softmax(_pooled(plan, start, source, adapted=True).logits[row])

    return adapted


def _encode_ms(plan: Plan, start: Start, name: str) -> float:
    """Median time in milliseconds of one object's views and features, batch 1; taken once in a process."""
    return _time_of((name, plan.classes, plan.scenes, plan.sizes, plan.cache), start, plan.device, plan.views)


@lru_cache(maxsize=16)
@torch.inference_mode()
def _time_of(place: tuple[Any, ...], start: Start, device: str | None, views: str) -> float:
    pool, times = _made(*place), []
    every = _frozen(start, place[1], device).with_config(ClassifierConfig(selection=views))
    for row in range(min(TIMED + 1, len(pool))):
        cloud = [pool.cloud(row)]
        began = time.perf_counter()
        every.encode(every.project(cloud, pool.objects.up, pool.viewpoint(row)))
        if every.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times[1:] or times))


def _write(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part.npz")
    arrays = {name: np.asarray(value) for name, value in vars(run).items()}
    np.savez_compressed(beside, allow_pickle=False, **arrays)
    beside.replace(path)


def _read(path: Path) -> Run:
    with np.load(path, allow_pickle=False) as stored:
        kept = {name: stored[name] for name in stored.files if name in Run.__dataclass_fields__}
    before, after = kept.pop("probe").tolist()
    update_ms, encode_ms = (float(kept.pop(name)) for name in ("update_ms", "encode_ms"))
    return Run(probe=(before, after), update_ms=update_ms, encode_ms=encode_ms, **kept)


def classes_of(plan: Plan) -> tuple[str, ...]:
    """The names of the classes."""
    return read_classes(plan.classes).names


def _pool(plan: Plan, name: str) -> Pool:
    return _made(name, plan.classes, plan.scenes, plan.sizes, plan.cache)


def _classifier(plan: Plan, start: Start) -> Classifier:
    return _frozen(start, plan.classes, plan.device)


def _adapted(plan: Plan, start: Start) -> Classifier:
    return _with_bundle(start, plan.classes, plan.device, plan.bundle)


def _encoded(plan: Plan, start: Start, name: str, adapted: bool) -> Encoded:
    place = (name, plan.classes, plan.scenes, plan.sizes, plan.cache)
    return _encoded_of(place, start, plan.device, plan.bundle if adapted else None)


def _pooled(plan: Plan, start: Start, name: str, adapted: bool) -> Pooled:
    place = (name, plan.classes, plan.scenes, plan.sizes, plan.cache)
    return _pooled_of(place, start, plan.device, plan.bundle if adapted else None, plan.views)


@lru_cache(maxsize=3)
def _made(name: str, classes: str | None, scenes: str | None, sizes: Sizes, cache: Path) -> Pool:
    known = read_classes(classes)
    if name == _PROBE:
        return probe_pool(known, sizes)
    if name == "simulated":
        return simulated_pool(known, sizes, cache)
    if scenes is None:
        raise ValueError("there are no real scenes; name their folder with --scenes")
    return real_pool(known, scenes)


@lru_cache(maxsize=2)
def _frozen(start: Start, classes: str | None, device: str | None) -> Classifier:
    return Classifier(load_backbone(start.name, start.pretrained, device), read_classes(classes))


@lru_cache(maxsize=2)
def _with_bundle(start: Start, classes: str | None, device: str | None, bundle: str | None) -> Classifier:
    return _frozen(start, classes, device).with_bundle(bundle)


def _model(start: Start, classes: str | None, device: str | None, bundle: str | None) -> Classifier:
    return _with_bundle(start, classes, device, bundle) if bundle else _frozen(start, classes, device)


@lru_cache(maxsize=6)
def _encoded_of(place: tuple[Any, ...], start: Start, device: str | None, bundle: str | None) -> Encoded:
    return encode(_model(start, place[1], device, bundle), _made(*place), place[4])


@lru_cache(maxsize=6)
def _pooled_of(place: tuple[Any, ...], start: Start, device: str | None, bundle: str | None, views: str) -> Pooled:
    return pool_views(_model(start, place[1], device, bundle), _encoded_of(place, start, device, bundle), views)


def _fits(plan: Plan, start: Start) -> bool:
    """Whether the plan's bundle belongs to a start's backbone."""
    if plan.bundle is None:
        return False
    try:
        _adapted(plan, start)
    except BundleError as error:
        if "belongs to backbone" in str(error):
            return False
        raise
    return True


def _on_gpu(device: str | None) -> bool:
    return named_device(device).type != "cpu"
