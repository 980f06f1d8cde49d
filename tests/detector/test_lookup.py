import pytest
import torch

from poolscout.detector.calibration import Calibration
from poolscout.detector.lookup import STEPS, WIDEST, CalibrationTable

CPU = torch.device("cpu")
HALF_A_STEP = WIDEST / (STEPS - 1)


def some_logits(*shape: int) -> torch.Tensor:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 4 - 3
    return logits.clamp(-WIDEST, WIDEST)


@pytest.mark.parametrize("focus", [0.0, 2.0])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_table_is_the_formula_of_a_logit_at_most_half_a_step_away(focus, temperature):
    calibration = Calibration(focus=focus, temperature=temperature, biases=(0.3, -2.0, 4.0, 0.0, 1.0))
    logits = some_logits(2, 5, 40, 50).double()
    p, entropy = CalibrationTable(calibration, CPU)(logits.float())
    assert p.dtype == entropy.dtype == torch.float32
    lowest, highest = (calibration.apply(logits + d) for d in (-1.02 * HALF_A_STEP, 1.02 * HALF_A_STEP))
    assert (p >= lowest * (1 - 1e-6)).all()
    assert (p <= highest * (1 + 1e-6)).all()
    torch.testing.assert_close(p.double(), calibration.apply(logits), rtol=3e-3, atol=0)


def test_entropies_are_those_of_the_probabilities_beside_them():
    p, entropy = CalibrationTable(Calibration(focus=2.0, biases=(0.0, 1.0)), CPU)(some_logits(3, 2, 30, 30))
    p = p.double()
    expected = torch.special.entr(p) + torch.special.entr(1 - p)
    torch.testing.assert_close(entropy.double(), expected, rtol=1e-5, atol=6e-7)


def test_it_rises_with_the_logit_over_its_whole_range():
    table = CalibrationTable(Calibration(focus=2.0, biases=(0.0,)), CPU)
    p, entropy = (values.flatten() for values in table(torch.linspace(-40, 40, 8001).view(1, 1, 1, -1)))
    assert (p.diff() >= 0).all()
    assert p[0] < 1e-20
    assert p[-1] == 1
    assert entropy[4000].item() == pytest.approx(0.6931472, abs=1e-6)


def test_what_is_no_number_stays_none():
    table = CalibrationTable(Calibration(focus=2.0, biases=(0.0, 0.0)), CPU)
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 1] = torch.nan
    logits[0, 0, 0, 0], logits[0, 0, 0, 1] = torch.inf, -torch.inf
    p, entropy = table(logits)
    assert p[0, 1, 0, 1].isnan()
    assert entropy[0, 1, 0, 1].isnan()
    assert p.isnan().sum() == 1
    assert p[0, 0, 0, 0] == 1
    assert p[0, 0, 0, 1] < 1e-20


def test_the_logits_are_left_alone():
    logits = torch.randn(1, 1, 4, 4)
    before = logits.clone()
    CalibrationTable(Calibration(focus=2.0, biases=(0.0,)), CPU)(logits)
    assert torch.equal(logits, before)
