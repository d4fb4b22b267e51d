"""Shared by the tests of streams: a small simulated pool, and a setting with made-up features."""

import pytest
from streams_made import CLASSES, SIZES, Toy

from clipoint3d_ros.evaluation.streams.pools import simulated_pool


@pytest.fixture(scope="session")
def streams_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="session")
def pool(streams_cache):
    """24 known and 12 unknown objects of simulated scenes, with their corrupted and worn copies."""
    return simulated_pool(CLASSES, SIZES, streams_cache, progress=False)


@pytest.fixture
def toy():
    return Toy()
