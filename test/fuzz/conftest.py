"""While strangers' files are read here memory is limited: a want without bounds is an error, and no dead machine."""

import resource
from pathlib import Path

import pytest

MORE_BYTES = 3 << 30  # of address space than the tests have when they begin


@pytest.fixture(autouse=True)
def limited_memory():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    wanted = used + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
