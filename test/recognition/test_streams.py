"""Streams: nothing on a CPU, an order of precedence on a GPU."""

from __future__ import annotations

import pytest
import torch

from clipoint3d_ros.recognition.streams import FIRST, LAST, finish, stream

CPU = torch.device("cpu")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_cpu_has_no_streams_and_nothing_to_wait_for():
    assert stream(CPU, FIRST) is None
    with torch.cuda.stream(stream(CPU, LAST)):
        finish(CPU)
        assert torch.ones(2).sum() == 2


def test_what_comes_first_has_the_lower_number():
    assert FIRST < LAST, "CUDA counts priorities downwards"


@gpu
def test_perception_s_stream_precedes_the_companion_s():
    device = torch.device("cuda")
    assert stream(device, FIRST).priority < stream(device, LAST).priority


@gpu
def test_finish_waits_for_this_thread_s_stream_alone():
    device = torch.device("cuda")
    own, other = stream(device, FIRST), stream(device, LAST)
    with torch.cuda.stream(other):
        torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    with torch.cuda.stream(own):
        result = torch.ones(4, device=device) * 2
        finish(device)
    assert not other.query(), "the other stream is still at work"
    assert result.sum().item() == 8
