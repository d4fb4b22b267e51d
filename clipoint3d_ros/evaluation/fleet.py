"""Many recordings: each bag a job of its own, many at a time, kept on disk when done, and merged into one evaluation.

A job is a plain function of picklable words. With one at a time it runs in this process; with several, each runs in a
process of its own, so that one that dies takes no other along; or on an existing Ray cluster. Through the nodes every
job has its own perception node in its own corner of the network (`node_process.Graph`).

The answers of a finished bag, not its figures, are kept: one file a bag in a folder, written whole, which holds what
was asked (the bag's files with size and time, parameters, pace, versions) beside what was answered. A file whose
question differs in anything counts for nothing, and the bag is played again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from clipoint3d_ros.evaluation.answers import Answer, Frame, FrameAnswer, FrameKey, Replayed, end_to_end, survey
from clipoint3d_ros.evaluation.bags import BagError, LabelledBag, TrueObject
from clipoint3d_ros.evaluation.files import write_whole
from clipoint3d_ros.evaluation.node_process import ReplayError, end_with_parent
from clipoint3d_ros.evaluation.playing import Playing, play

_FORMAT = 1  # of the files of finished bags
_PACKAGES = ("clipoint3d_ros", "torch", "open_clip_torch", "numpy")
_PATHS = ("bundle", "classes", "pretrained", "backbone")  # parameters that may name files
_LOCAL = "local-dir:"


@dataclass(frozen=True)
class Job:
    """One bag, and how it is to be answered."""

    bag: Path
    playing: Playing


@dataclass(frozen=True)
class Answered:
    """A finished job: the bag's frames by themselves (it is bag 0, from 0 s on) and the answers to them."""

    frames: tuple[Frame, ...]
    replayed: Replayed


Outcome: TypeAlias = Answered | str  # a string says why there are no answers, and names the bag
Work: TypeAlias = Callable[[Job], Outcome]
Cores: TypeAlias = Callable[[Sequence[Job]], Iterator[tuple[Job, Outcome]]]


def answer(job: Job) -> Outcome:
    """Read a bag, play it, take in the answers; what goes wrong comes back as a sentence."""
    try:
        bag = LabelledBag(job.bag, job.playing.topics)
        frames = tuple(survey([bag], job.playing.config.segments))
        return Answered(frames, play([bag], job.playing))
    except BagError as error:
        return str(error)  # names the bag itself
    except Exception as error:  # whatever one recording does must not end the night's others
        return f"{job.bag}: {error if isinstance(error, ReplayError | ValueError | OSError) else repr(error)}"


def answer_all(
    bags: Sequence[Path],
    playing: Playing,
    cores: Cores,
    kept_in: Path | None = None,
    told: Callable[[Job, Outcome], object] = lambda job, outcome: None,
) -> dict[Path, Outcome]:
    """The outcome of every bag, in the bags' order.

    Args:
        bags: each once.
        cores: where jobs run: `here`, `in_processes` or `on_ray`.
        kept_in: folder of finished bags: what it holds is not played again, and what is finished is put there.
        told: called with each bag as it is finished or found finished.
    """
    jobs = [Job(bag.absolute(), playing) for bag in bags]
    found: dict[Path, Outcome] = {}
    for job in jobs:
        kept = None if kept_in is None else _recalled(job, kept_in)
        if kept is not None:
            found[job.bag] = kept
            told(job, kept)
    for job, outcome in cores([job for job in jobs if job.bag not in found]):
        if kept_in is not None and isinstance(outcome, Answered):
            _keep(job, outcome, kept_in)
        found[job.bag] = outcome
        told(job, outcome)
    return {bag: found[job.bag] for bag, job in zip(bags, jobs, strict=True)}


def merged(answered: Sequence[Answered]) -> tuple[list[Frame], Replayed]:
    """Bags that were answered one by one as one stream, as if they had been played one after another.

    Raises:
        ValueError: there are none.
    """
    if not answered:
        raise ValueError("there are no answers to merge: no bag was answered")
    first = answered[0].replayed

    def together(of: Callable[[Replayed], Mapping[FrameKey, FrameAnswer] | None]) -> dict[FrameKey, FrameAnswer]:
        return {
            FrameKey(number, key.stamp): given
            for number, one in enumerate(answered)
            for key, given in (of(one.replayed) or {}).items()
        }

    adapted = None if first.adapted is None else together(lambda replayed: replayed.adapted)
    frames = end_to_end([one.frames for one in answered])
    return frames, Replayed(first.classes, together(lambda replayed: replayed.frozen), adapted)


def here(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    """One after another in this process."""
    for job in jobs:
        yield job, answer(job)


def in_processes(count: int, work: Work = answer) -> Cores:
    """`count` at a time, each in a process of its own with its share of the cores."""

    def run(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        threads = max((os.cpu_count() or 1) // count, 1)
        with ThreadPoolExecutor(count) as pool:
            waiting = {pool.submit(_in_own_process, job, work, threads): job for job in jobs}
            try:
                for done in as_completed(waiting):
                    yield waiting[done], done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    return run


def on_ray(address: str, work: Work = answer) -> Cores:
    """On an existing Ray cluster, whose machines have this package and see the bags and models at the same paths.

    Raises:
        ReplayError: Ray is not installed here, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise ReplayError(
            "--ray needs the package ray, which is not installed here: `pip install ray` in the version of your "
            "cluster, or leave --ray out and use --jobs"
        ) from None
    try:
        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    except Exception as error:  # of many types, by what is wrong with the address
        raise ReplayError(f"no Ray cluster answers at '{address}': {error}") from None
    remote = ray.remote(num_cpus=1, max_retries=0)(work)

    def run(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        waiting = {remote.remote(job): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                outcome = ray.get(done)
            except Exception as error:  # the worker died, or cannot import this package
                outcome = f"{job.bag}: its Ray task failed: {error}"
            yield job, outcome

    return run


def _in_own_process(job: Job, work: Work, threads: int) -> Outcome:
    context = multiprocessing.get_context("spawn")  # open3d's and torch's threads do not survive a fork
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, job, work, threads))
    process.start()
    theirs.close()  # else the end of the process would not be the end of the pipe
    try:
        outcome: Outcome = ours.recv()
    except EOFError:
        process.join()
        outcome = (
            f"{job.bag}: its process ended with exit code {process.exitcode}; if that is -9, most likely for lack of "
            "memory: use fewer --jobs"
        )
    finally:
        ours.close()
        process.join()
    return outcome


def _child(pipe: Connection, job: Job, work: Work, threads: int) -> None:
    end_with_parent()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # for the nodes it starts
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    pipe.send(work(job))


def _keep(job: Job, answered: Answered, folder: Path) -> None:
    question = _question(job)
    content = {"asked": question, **_as_json(answered)}
    write_whole(_file(job, question, folder), json.dumps(content) + "\n")


def _recalled(job: Job, folder: Path) -> Answered | None:
    """What a folder holds of a job; None where it was not finished, or asked otherwise."""
    question = _question(job)
    try:
        content = json.loads(_file(job, question, folder).read_text(encoding="utf-8"))
        return _from_json(content) if content["asked"] == question else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not whole: the bag is played again


def _file(job: Job, question: Mapping[str, Any], folder: Path) -> Path:
    mark = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{job.bag.name}-{mark}.json"


def _question(job: Job) -> dict[str, Any]:
    """All that the answers depend on, as JSON gives it back."""
    playing = asdict(job.playing)
    named = {
        name: files
        for name in _PATHS
        if isinstance(value := job.playing.parameters.get(name), str)
        and (files := _files(Path(value.removeprefix(_LOCAL))))
    }
    question = {
        "format": _FORMAT,
        "bag": str(job.bag),
        "files": _files(job.bag),
        "named_files": named,
        "versions": {package: _version(package) for package in _PACKAGES},
        **playing,
    }
    return json.loads(json.dumps(question, default=str))


def _files(path: Path) -> list[list[Any]]:
    """[name, size in bytes, time of the last change in ns] of a file, or of all files in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        [str(file.relative_to(path)), (stat := file.stat()).st_size, stat.st_mtime_ns]
        for file in files
        if file.is_file()
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""  # a checkout need not be installed


def _as_json(answered: Answered) -> dict[str, Any]:
    def answers(given: Mapping[FrameKey, FrameAnswer] | None) -> dict[str, Any] | None:
        if given is None:
            return None
        return {
            str(key.stamp): [{name: list(one) for name, one in of.objects.items()}, of.latency, of.version]
            for key, of in given.items()
        }

    replayed = answered.replayed
    return {
        "frames": [
            [f.key.stamp, f.time, [list(o) for o in f.objects], sorted(f.segments), f.recorded] for f in answered.frames
        ],
        "classes": list(replayed.classes),
        "frozen": answers(replayed.frozen),
        "adapted": answers(replayed.adapted),
    }


def _from_json(content: Mapping[str, Any]) -> Answered:
    def answers(given: Mapping[str, Any]) -> dict[FrameKey, FrameAnswer]:
        return {
            FrameKey(0, int(stamp)): FrameAnswer({name: Answer(*one) for name, one in objects.items()}, latency, served)
            for stamp, (objects, latency, served) in given.items()
        }

    frames = tuple(
        Frame(
            FrameKey(0, stamp),
            time,
            tuple(TrueObject(name, kind, tuple(center), tuple(size)) for name, kind, center, size in objects),
            frozenset(segments),
            recorded,
        )
        for stamp, time, objects, segments, recorded in content["frames"]
    )
    adapted = None if content["adapted"] is None else answers(content["adapted"])
    return Answered(frames, Replayed(tuple(content["classes"]), answers(content["frozen"]), adapted))
