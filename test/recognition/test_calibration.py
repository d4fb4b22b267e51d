"""What is fitted so that scores mean probabilities."""

import numpy as np
import pytest
import torch

from clipoint3d_ros.recognition.calibration import fit_temperature, fit_unknown_logit


def test_temperature_is_recovered():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=rng) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.15)


def test_the_unknown_logit_parts_listed_from_unlisted_classes():
    # An object's own class has the logit 6, all others 0: a list with it has the energy log(e⁶ + 7), one without log 8.
    labels = torch.arange(40).repeat(5)
    logits = 6.0 * torch.nn.functional.one_hot(labels, 40).float()
    fitted = fit_unknown_logit(logits, labels)
    assert np.log(8) < fitted < 6.02
    assert fitted == pytest.approx((np.log(8) + 6.02) / 2, abs=0.1), "both sides weigh the same"
    assert fitted == fit_unknown_logit(logits, labels), "the draw is fixed"
