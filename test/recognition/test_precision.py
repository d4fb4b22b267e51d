"""Which number format a precision means."""

import pytest
import torch

from clipoint3d_ros.recognition import precision


@pytest.mark.parametrize(("gain", "dtype"), [(4.0, torch.bfloat16), (0.5, torch.float32), (1.1, torch.float32)])
def test_auto_takes_bf16_only_where_it_is_measured_to_pay(monkeypatch, gain, dtype):
    monkeypatch.setattr(precision, "_gain", lambda: gain)
    assert precision.resolve("auto", torch.device("cpu")) == dtype


def test_a_named_format_is_taken_and_an_unknown_one_refused():
    assert precision.resolve("bf16", torch.device("cpu")) == torch.bfloat16
    assert precision._gain() > 0
    with pytest.raises(ValueError, match="'int4' is none of"):
        precision.resolve("int4", torch.device("cpu"))
