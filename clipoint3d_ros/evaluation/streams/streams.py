"""The streams of the benchmark by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipoint3d_ros.evaluation.streams import orders
from clipoint3d_ros.evaluation.streams.pools import Pool, Sizes

DELTA = 0.1
Order = Callable[[Pool, np.random.Generator, Sizes], np.ndarray]


@dataclass(frozen=True)
class Stream:
    """One stream of the table.

    name: on the command line and in the table. told: what it is. pool: `real` or `simulated`.
    order: the rows (n,) int64 of a pool, from a generator. long: too long for methods with gradients on a CPU.
    """

    name: str
    told: str
    pool: str
    order: Order
    long: bool = False

    def rows(self, pool: Pool, seed: int, sizes: Sizes) -> np.ndarray:
        """(n,) int64 rows of the pool, from the seed alone."""
        return self.order(pool, np.random.default_rng((seed, *self.name.encode())), sizes)


def _shuffled(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.shuffled(pool.clean, rng)


def _dirichlet(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.dirichlet(pool.clean, pool.labels[pool.clean], DELTA, rng)


def _by_class(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.by_class(pool.clean, pool.labels[pool.clean], rng)


def _by_scene(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.by_scene(pool.clean, pool.scenes[pool.clean], rng)


def _few_active(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.few_active(pool.clean, pool.labels[pool.clean], rng)


def _continual(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.continual(pool, rng)


def _unknown(share: float) -> Order:
    def order(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
        return orders.with_unknown(pool.clean, pool.unknown, share, rng)

    return order


def _endless(pool: Pool, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
    return orders.endless(pool, sizes.long, rng)


STREAMS: tuple[Stream, ...] = (
    Stream("real-iid", "real scenes' objects, shuffled", "real", _shuffled),
    Stream("real-dirichlet", f"real, classes in runs (Dirichlet δ = {DELTA})", "real", _dirichlet),
    Stream("real-classes", "real, one class after another", "real", _by_class),
    Stream("real-scenes", "real, one scene after another", "real", _by_scene),
    Stream("iid", "simulated scenes' objects, shuffled", "simulated", _shuffled, long=True),
    Stream("dirichlet", f"simulated, classes in runs (Dirichlet δ = {DELTA})", "simulated", _dirichlet, long=True),
    Stream("classes", "simulated, one class after another", "simulated", _by_class, long=True),
    Stream("scenes", "simulated, one scene after another", "simulated", _by_scene, long=True),
    Stream("active", "simulated, 1 to 4 classes at a time", "simulated", _few_active, long=True),
    Stream("corruption", "clean, every corruption in turn, clean again", "simulated", _continual, long=True),
    Stream("unknown-10", "10 % of the objects of no class", "simulated", _unknown(0.1), long=True),
    Stream("unknown-30", "30 % of the objects of no class", "simulated", _unknown(0.3), long=True),
    Stream("unknown-50", "50 % of the objects of no class", "simulated", _unknown(0.5), long=True),
    Stream("long", "a long run with changing classes and light faults", "simulated", _endless, long=True),
)


def find_streams(names: str | None) -> tuple[Stream, ...]:
    """Streams by name, separated by commas; `real` and `simulated` are groups; None gives all.

    Raises:
        ValueError: a name that no stream has.
    """
    if names is None:
        return STREAMS
    known = {stream.name: stream for stream in STREAMS}
    found: list[Stream] = []
    for name in (word.strip() for word in names.split(",")):
        group = [stream for stream in STREAMS if stream.pool == name]
        if not group and name not in known:
            raise ValueError(f"no stream '{name}'; there are {', '.join(known)}, and the groups real and simulated")
        found += group or [known[name]]
    return tuple(dict.fromkeys(found))
