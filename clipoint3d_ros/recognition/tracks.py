"""Tracks: which segments of successive frames are one object, and what its sightings say together.

Most segmenters number their segments anew in every frame, so an object is known again by where it is and how large; a
segment's id only adds to that. Of a segmenter whose ids last, equal ids come first. Nothing here moves: a track is
where it was last seen, which is enough for objects that stand still in a levelled, fixed frame while the sensor passes
by.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

JUMP_BACK_S = 1.0  # seconds; neighbours may arrive out of order, a bag that starts again goes back further
_NEARNESS = 0.75  # of a pair's cost, against its size; two moves of three quarters of the gate cost more than one miss
_SAME_ID = 0.25  # what an equal id takes off a pair's cost: as much as a third of max_move
_MISS = 1.0  # cost of one more track and sighting without each other: what the worst pair within the gates costs
_SMALLEST = 1e-3  # metres; below it, sizes are noise
_FARTHEST = 1e9  # metres; beyond it, coordinates are garbage
_LEAST_PROBABILITY = 1e-12  # one certain mistake must not silence a class for good


@dataclass(frozen=True)
class TrackerConfig:
    """When two sightings may be of one object."""

    max_move: float = 0.10  # metres between sightings
    size_ratio: float = 1.6  # between sightings' largest extents
    forget_s: float = 2.0  # seconds without a sighting, then an object is not known again by its place
    ids_last_s: float = 0.0  # the same by its segment's id; 0 where ids are no object's own from frame to frame

    def __post_init__(self) -> None:
        if not 0 < self.max_move < math.inf:
            raise ValueError(f"max_move is {self.max_move} m; it must be above 0 and finite")
        if not 1 < self.size_ratio < math.inf:
            raise ValueError(f"size_ratio is {self.size_ratio}; it must be above 1 and finite: no size repeats exactly")
        if not self.forget_s > 0:
            raise ValueError(f"forget_s is {self.forget_s} s; it must be above 0")
        if not self.ids_last_s >= 0:
            raise ValueError(f"ids_last_s is {self.ids_last_s} s; it must be 0, for ids that do not last, or above")


@dataclass
class _Track:
    """Where an object was last seen: centre (3,) and largest extent in metres."""

    number: int
    id: str
    centre: np.ndarray
    extent: float
    stamp_s: float


class Clock:
    """Notices when stamps jump back by more than `JUMP_BACK_S`."""

    def __init__(self) -> None:
        self.newest_s = -math.inf

    def jumped_back(self, stamp_s: float) -> bool:
        """Whether this stamp begins a new run of time; it counts from here on.

        Raises:
            ValueError: a stamp that is not finite.
        """
        if not math.isfinite(stamp_s):
            raise ValueError(f"stamp {stamp_s} s is not finite; give the cloud's stamp in seconds")
        jumped = stamp_s < self.newest_s - JUMP_BACK_S
        self.newest_s = stamp_s if jumped else max(self.newest_s, stamp_s)
        return jumped


class Tracker:
    """Numbers objects from 1 on; one tracker never gives a number to two objects, whatever clears it in between."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._lock = threading.Lock()
        self._tracks: list[_Track] = []
        self._clock = Clock()
        self._next = 1

    def clear(self) -> None:
        """End all tracks; numbers go on."""
        with self._lock:
            self._tracks, self._clock = [], Clock()

    def update(self, stamp_s: float, ids: Sequence[str], centres: np.ndarray, sizes: np.ndarray) -> list[int]:
        """The track of each segment of a frame.

        Where ids last (`ids_last_s`), a segment belongs to the track of its id, wherever that was seen, as long as
        their sizes are within `size_ratio`: an id with another size is another object. An id that several segments of a
        frame have says nothing. Of the rest, pairs of tracks and segments within `max_move` and `size_ratio` are
        matched at the least sum of

            c = 0.75 · move / max_move + 0.25 · |log(size ratio)| / log(size_ratio) − 0.25 · [same id],

        where going without each other costs 1: an object that left is not dragged on to its neighbour. A stamp more
        than a second before the newest ends all tracks first.

        Args:
            stamp_s: of the frame, in seconds.
            ids: K, as the segmenter published them; "" where it published none.
            centres: (K, 3) metres, in a frame that does not move with the sensor, but for ids that last.
            sizes: (K, 3) metres, extents of the segments.

        Returns:
            K track numbers, all different. A segment whose centre or size is not finite gets one that ends at once.

        Raises:
            ValueError: a stamp that is not finite, or ids, centres and sizes of different lengths.
        """
        centres, extents = _vectors("centres", centres, len(ids)), _vectors("sizes", sizes, len(ids))
        usable = (np.abs(centres) < _FARTHEST).all(1) & np.isfinite(extents).all(1)
        largest = np.maximum(np.abs(extents).max(1, initial=0.0), _SMALLEST)
        with self._lock:
            if self._clock.jumped_back(stamp_s):
                self._tracks = []
            self._tracks = self._seen_within(max(self.config.forget_s, self.config.ids_last_s), stamp_s)
            seen: list[int] = np.flatnonzero(usable).tolist()
            found = self._matches(stamp_s, [ids[k] for k in seen], centres[seen], largest[seen])
            tracks = {seen[row]: track for row, track in found.items()}
            return [
                self._sighted(tracks.get(k), stamp_s, ids[k], centres[k], float(largest[k]), bool(usable[k]))
                for k in range(len(ids))
            ]

    def _sighted(
        self, track: _Track | None, stamp_s: float, id: str, centre: np.ndarray, extent: float, usable: bool
    ) -> int:
        if track is not None:
            track.id, track.centre, track.extent = id, centre, extent
            track.stamp_s = max(stamp_s, track.stamp_s)
            return track.number
        number, self._next = self._next, self._next + 1
        if usable:
            self._tracks.append(_Track(number, id, centre, extent, stamp_s))
        return number

    def _seen_within(self, seconds: float, stamp_s: float) -> list[_Track]:
        return [track for track in self._tracks if stamp_s - track.stamp_s <= seconds]

    def _matches(self, stamp_s: float, ids: list[str], centres: np.ndarray, extents: np.ndarray) -> dict[int, _Track]:
        """The tracks of those of K segments that have one, by their row."""
        found = self._by_id(stamp_s, ids, extents) if self.config.ids_last_s else {}
        rest = [row for row in range(len(ids)) if row not in found]
        taken = {track.number for track in found.values()}
        free = [track for track in self._seen_within(self.config.forget_s, stamp_s) if track.number not in taken]
        near = self._by_place(free, [ids[row] for row in rest], centres[rest], extents[rest])
        return found | {row: free[t] for row, t in zip(rest, near.tolist(), strict=True) if t >= 0}

    def _by_id(self, stamp_s: float, ids: list[str], extents: np.ndarray) -> dict[int, _Track]:
        """Of several tracks with one id, the one seen last whose size it can be."""
        known: dict[str, list[_Track]] = defaultdict(list)
        for track in sorted(self._seen_within(self.config.ids_last_s, stamp_s), key=lambda track: -track.stamp_s):
            known[track.id].append(track)
        found: dict[int, _Track] = {}
        times = Counter(id for id in ids if id)
        for row, (id, extent) in enumerate(zip(ids, extents.tolist(), strict=True)):
            alike = [track for track in known.get(id, ()) if self._ratio(extent, track.extent) <= 1]
            if times[id] == 1 and alike:
                found[row] = alike[0]
        return found

    def _ratio(self, extents: Any, known: Any) -> Any:
        """How far sizes are from each other; 1 at the limit."""
        return np.abs(np.log(extents) - np.log(known)) / math.log(self.config.size_ratio)

    def _by_place(
        self, tracks: Sequence[_Track], ids: list[str], centres: np.ndarray, extents: np.ndarray
    ) -> np.ndarray:
        """For each of K segments the index of its track, or −1."""
        found = np.full(len(ids), -1)
        if not len(ids) or not tracks:
            return found
        there = cKDTree(np.stack([track.centre for track in tracks]))
        near = cKDTree(centres).sparse_distance_matrix(there, self.config.max_move, output_type="ndarray")
        k, t, move = near["i"], near["j"], near["v"]
        ratio = self._ratio(extents[k], np.array([track.extent for track in tracks])[t])
        alike = ratio <= 1
        k, t, move, ratio = k[alike], t[alike], move[alike], ratio[alike]
        same = np.array([ids[i] != "" and ids[i] == tracks[j].id for i, j in zip(k, t, strict=True)], dtype=float)
        cost = _NEARNESS * move / self.config.max_move + (1 - _NEARNESS) * ratio - _SAME_ID * same
        for pairs in _neighbourhoods(k, t, len(ids), len(tracks)):
            if len(pairs) == 1:
                found[k[pairs]] = t[pairs]
                continue
            rows, k_at = np.unique(k[pairs], return_inverse=True)
            columns, t_at = np.unique(t[pairs], return_inverse=True)
            table = np.full((len(rows), len(columns)), _MISS)
            within = np.zeros(table.shape, bool)
            table[k_at, t_at], within[k_at, t_at] = cost[pairs], True
            for row, column in zip(*linear_sum_assignment(table), strict=True):
                if within[row, column]:
                    found[rows[row]] = columns[column]
        return found


class TrackFusion:
    """What the sightings of each track say together: the geometric mean of their probabilities, the latest most.

    log p̄ₜ = Σᵢ γⁱ · log pₜ₋ᵢ / Σᵢ γⁱ + const, with γ the decay from one sighting to the next. A geometric mean treats
    sightings as opinions on one object, as views are fused; one that is unsure says little. Opinions of two models are
    never combined, whenever the second takes the first one's place.
    """

    def __init__(self, decay: float = 0.7, forget_s: float = 2.0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must lie in [0, 1), where 0 forgets all but the latest sighting")
        if not forget_s > 0:
            raise ValueError(f"forget_s is {forget_s} s; it must be above 0")
        self.decay, self.forget_s = decay, forget_s
        self._lock = threading.Lock()
        self._clock = Clock()
        self._model: weakref.ref[object] | None = None  # whose opinions they are
        self._sums: dict[int, tuple[np.ndarray, float, float]] = {}  # track: (C,) Σ γⁱ log p, Σ γⁱ, stamp

    def clear(self) -> None:
        """Forget all tracks."""
        with self._lock:
            self._sums, self._clock, self._model = {}, Clock(), None

    def update(self, stamp_s: float, tracks: Sequence[int], probabilities: np.ndarray, model: object) -> np.ndarray:
        """Fuse a frame's predictions with what the same model said of the same tracks before.

        Another model than before, or a stamp more than a second before the newest, forgets all tracks.

        Args:
            stamp_s: of the frame, in seconds.
            tracks: K numbers, as `Tracker.update` gives them.
            probabilities: (K, C), rows summing to 1.
            model: the classifier that predicted them, of always the same C classes; it is not kept alive.

        Returns:
            (K, C) float64, rows summing to 1. A track's first row comes back as it was, as does a row that is no
            distribution (not finite, negative, all 0), which adds nothing.

        Raises:
            ValueError: a stamp that is not finite, or probabilities that are not K rows.
        """
        fused = np.array(probabilities, dtype=np.float64)
        if not len(tracks) and not fused.size:
            fused = fused.reshape(0, fused.shape[-1] if fused.ndim == 2 else 0)
        elif fused.ndim != 2 or len(fused) != len(tracks) or not fused.size:
            raise ValueError(
                f"probabilities have shape {fused.shape} for {len(tracks)} tracks; give ({len(tracks)}, C)"
            )
        with self._lock:
            if self._clock.jumped_back(stamp_s) or self._model is None or self._model() is not model:
                self._sums, self._model = {}, weakref.ref(model)
            self._sums = {t: kept for t, kept in self._sums.items() if stamp_s - kept[2] <= self.forget_s}
            usable = np.isfinite(fused).all(1) & (fused >= 0).all(1) & (fused > 0).any(1)
            for row in np.flatnonzero(usable).tolist():
                fused[row] = self._fused(tracks[row], stamp_s, fused[row])
        return fused

    def _fused(self, track: int, stamp_s: float, probabilities: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(probabilities, _LEAST_PROBABILITY))
        if track not in self._sums:
            self._sums[track] = (logs, 1.0, stamp_s)
            return probabilities
        before, weight, seen_s = self._sums[track]
        summed, weight = self.decay * before + logs, self.decay * weight + 1
        self._sums[track] = (summed, weight, max(stamp_s, seen_s))
        mean = summed / weight
        shares = np.exp(mean - mean.max())
        return shares / shares.sum()


def _vectors(what: str, given: Any, count: int) -> np.ndarray:
    array = np.array(given, dtype=np.float64)  # a copy: a track must not hold the frame's arrays
    if not count and not array.size:
        return array.reshape(0, 3)
    if array.shape != (count, 3):
        raise ValueError(f"{what} have shape {array.shape}, but {count} segment ids want ({count}, 3)")
    return array


def _neighbourhoods(k: np.ndarray, t: np.ndarray, segments: int, tracks: int) -> Iterator[np.ndarray]:
    """Groups of pairs that share a segment or a track: they compete, and with no others. (P,) each, indices of k."""
    nodes = segments + tracks
    graph = coo_matrix((np.ones(len(k)), (k, segments + t)), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][k]
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    return (pairs for pairs in np.split(order, ends) if len(pairs))
