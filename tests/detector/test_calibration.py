import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from poolscout.detector.calibration import (
    calibration_error,
    fit_calibration,
    no_calibration,
    undo_focal,
)


def focal_risk(q: float, eta: float, gamma: float) -> float:
    return -eta * (1 - q) ** gamma * np.log(q) - (1 - eta) * q**gamma * np.log1p(-q)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("eta", [0.003, 0.04, 0.3, 0.5, 0.8, 0.99])
def test_undo_focal_finds_the_probability_behind_the_minimiser(eta, gamma):
    q = minimize_scalar(focal_risk, bounds=(1e-9, 1 - 1e-9), args=(eta, gamma), method="bounded",
                        options={"xatol": 1e-12}).x  # fmt: skip
    logit = torch.tensor(np.log(q / (1 - q)))
    assert undo_focal(logit, gamma).sigmoid().item() == pytest.approx(eta, rel=2e-3)


def test_undo_focal_keeps_order_and_stays_finite():
    logits = torch.linspace(-40, 40, 2001)
    undone = undo_focal(logits, 2.0)
    assert undone.isfinite().all()
    assert (undone.diff() > 0).all()
    assert torch.allclose(undone, -undone.flip(0), atol=1e-3)


def test_the_fit_recovers_a_known_temperature_and_biases():
    generator = torch.Generator().manual_seed(0)
    true_logits = torch.randn(8, 2, 60, 60, generator=generator) * 2 - 2
    centres = torch.rand(true_logits.shape, generator=generator) < true_logits.sigmoid()
    raw = (true_logits - torch.tensor([0.7, -0.4])[:, None, None]) * 1.8
    fitted = fit_calibration(raw, centres, focus=0.0, n_objects=9)
    assert fitted.temperature == pytest.approx(1.8, rel=0.05)
    assert fitted.biases == pytest.approx((0.7, -0.4), abs=0.08)
    assert fitted.error_after < 0.01 < fitted.error_before
    assert torch.allclose(fitted.apply(raw), true_logits.sigmoid(), atol=0.03)
    assert fitted.n_images == 8
    assert fitted.n_positions == int(centres.sum())


def test_a_class_never_seen_in_the_held_back_images_keeps_a_finite_bias():
    logits = torch.full((3, 2, 20, 20), -3.0)
    centres = torch.zeros(3, 2, 20, 20, dtype=torch.bool)
    centres[:, 0, ::5, ::5] = True
    fitted = fit_calibration(logits, centres, focus=2.0, n_objects=9)
    p = fitted.apply(logits)[0, :, 0, 0]
    assert p[0].item() == pytest.approx(1 / 25, rel=0.1)
    assert 0 < p[1] < 0.01
    assert abs(fitted.biases[1]) < 10


def test_one_image_is_fitted_but_its_error_cannot_be_measured():
    centres = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    centres[0, 0, 2, 2] = True
    fitted = fit_calibration(torch.zeros(1, 1, 8, 8), centres, focus=2.0, n_objects=9)
    assert fitted.error_before is None
    assert fitted.error_after is None
    assert fitted.apply(torch.zeros(1, 1, 8, 8)).mean().item() == pytest.approx(1 / 64, abs=0.03)


def test_calibration_error_by_hand():
    """30 positions in 15 bins of two: p = 0.2 with none and p = 0.7 with all happening."""
    p = torch.tensor([0.2] * 16 + [0.7] * 14)
    y = torch.tensor([False] * 16 + [True] * 14)
    assert calibration_error(p, y) == pytest.approx((16 * 0.2 + 14 * 0.3) / 30, rel=1e-6)
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert calibration_error(p[shuffled], y[shuffled]) == pytest.approx(calibration_error(p, y))
    assert calibration_error(p[:0], y[:0]) == 0


def test_a_crowd_of_hopeless_positions_does_not_dilute_the_error():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 1, 30, 30, generator=generator) * 2
    centres = torch.rand(logits.shape, generator=generator) < (logits * 0.5).sigmoid()
    crowd = torch.full((8, 1, 300, 30), -30.0)
    alone = fit_calibration(logits, centres, focus=0.0, n_objects=9)
    crowded = fit_calibration(torch.cat([logits, crowd], 2), torch.cat([centres, crowd > 0], 2), focus=0.0, n_objects=9)
    assert crowded.error_before == pytest.approx(alone.error_before, rel=0.02)
    assert alone.error_before > 0.05 > alone.error_after


def test_without_labels_only_the_focal_loss_is_undone():
    logits = torch.randn(1, 3, 4, 4)
    calibration = no_calibration(3, focus=2.0)
    assert torch.equal(calibration.apply(logits), undo_focal(logits, 2.0).sigmoid())
    assert calibration.error_after is None
