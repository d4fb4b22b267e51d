"""Many cases of one fact: what a stranger sent is answered soundly, or refused in one of our sentences.

    CLIPOINT3D_FUZZ_CASES=1000000 python -m pytest test/fuzz          # so many cases in all; 2000 unless told
    CLIPOINT3D_FUZZ_SEED=7 …                                          # other ones; the same seed has the same cases

A case fails on any other exception, on a refusal that is no sentence, after ten seconds, and where it wants memory
without bounds: the address space is limited while the tests of this folder run (`conftest`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("CLIPOINT3D_FUZZ_CASES", "2000"))
SEED = int(os.environ.get("CLIPOINT3D_FUZZ_SEED", "0"))
ROUND = 2000  # cases between which hypothesis forgets what it has tried, which would fill the memory
SHARES = {  # of all cases, by how long one takes
    "clouds near plain": 0.15,
    "clouds near ros": 0.10,
    "clouds wild plain": 0.15,
    "clouds wild ros": 0.10,
    "rows": 0.20,
    "class files": 0.10,
    "descriptions of bundles": 0.12,
    "scenes": 0.05,
    "bags": 0.01,  # of each storage
    "weights": 0.01,
}
LONGEST_S = 10.0
LONGEST_SENTENCE = 6000  # characters; a path of this machine is in most

numbers = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**7, 2**8 - 1, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1]),
)
floats = st.one_of(st.floats(-3, 3, width=32), st.floats(), st.sampled_from([float("nan"), float("inf"), 3e38, 1e300]))


def explore(name: str, check: Callable[..., None], **strategies: st.SearchStrategy) -> None:
    """`check` with this test's share of the cases, in rounds."""
    cases = max(1, round(CASES * SHARES[name]))
    for number, start in enumerate(range(0, cases, ROUND)):
        rules = settings(
            max_examples=min(ROUND, cases - start),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        seed(SEED * 1_000_003 + number)(rules(given(**strategies)(check)))()


def answer(call: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What the call gives; None where it refused in words."""
    began = time.monotonic()
    try:
        given = call()
    except errors as error:
        sentence, given = str(error), None
        kind = type(error)
    else:
        sentence = None
    took = time.monotonic() - began
    assert took < LONGEST_S, f"one case took {took:.1f} s"
    if sentence is not None:
        assert kind in errors, f"{kind.__name__} is another error than {errors}: {sentence:.300}"
        assert len(sentence.split()) >= 4, f"'{sentence}' is no sentence"
        assert len(sentence) < LONGEST_SENTENCE, f"a sentence of {len(sentence)} characters: {sentence:.300}…"
        sentence.encode()  # can be logged
    return given


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Bytes with some flipped, cut off, doubled, or put in."""
    return damages(len(whole)).map(partial(spoilt, whole))


@st.composite
def damages(draw: st.DrawFn, length: int) -> list[tuple[str, int, Any]]:
    """What to do to so many bytes, for `spoilt`: hypothesis keeps what it draws, so megabytes should not be drawn."""
    parts = {
        "flip": st.integers(0, 7),
        "cut": st.integers(1, 64),
        "end": st.none(),
        "insert": st.binary(max_size=16),
        "double": st.none(),
        "fill": st.sampled_from([0, 0x7F, 0x80, 0xFF]),
    }
    found = []
    for _ in range(draw(st.integers(1, 4))):
        change = draw(st.sampled_from(["flip", "flip", *parts]))
        found.append((change, draw(st.integers(0, max(length - 1, 0))), draw(parts[change])))
    return found


def spoilt(whole: bytes, changes: list[tuple[str, int, Any]]) -> bytes:
    """Bytes after those changes: (what, where, how)."""
    content = bytearray(whole)
    for change, place, how in changes:
        place = min(place, max(len(content) - 1, 0))
        if change == "flip" and content:
            content[place] ^= 1 << how
        elif change == "cut":
            del content[place : place + how]
        elif change == "end":
            del content[place:]
        elif change == "insert":
            content[place:place] = how
        elif change == "double":
            content[place:place] = content[place : place + 64]
        elif change == "fill":
            content[place : place + 8] = bytes([how]) * 8
    return bytes(content)


def nested(depth: int) -> Any:
    """A list in a list in a list …"""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


# What JSON can say, and what it should not.
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.sampled_from([0, 1, -1, 10**400, 10**4000, float("nan"), float("inf"), 1e308, -0.0]),
        st.text(max_size=6),
        st.sampled_from(["\ud800", "../../etc/passwd", "/etc/passwd", "x" * 5000, "{class} {description}", "unknown"]),
        st.builds(nested, st.sampled_from([3, 200, 700])),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=6,
)


@st.composite
def changed_json(draw: st.DrawFn, whole: Any) -> Any:
    """A JSON value of which a few parts are replaced, removed or added."""
    value = _copied(whole)
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value)
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _changed(draw: st.DrawFn, value: Any, chance: int = 8) -> Any:
    inner = isinstance(value, dict | list) and value
    if not inner or draw(st.integers(0, chance)) == 0:
        return draw(json_values)
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    key = draw(st.sampled_from(list(keys)))
    what = draw(st.sampled_from(["change", "change", "change", "remove", "add"]))
    if what == "change":
        value[key] = _changed(draw, value[key], 2)
    elif what == "remove":
        del value[key]
    elif isinstance(value, dict):
        value[draw(st.text(max_size=8))] = draw(json_values)
    else:
        value.append(draw(json_values))
    return value
