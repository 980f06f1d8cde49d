"""Calibrated probabilities, and their entropies, read off a table: a quarter of the time of the formulas.

For logits that were calculated in bfloat16, and are uncertain by far more than a table's step.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from poolscout.detector.calibration import Calibration

Map = Float[Tensor, "images classes height width"]
WIDEST = 16.0  # logits beyond count as this: with a focal loss undone, as good as certain
STEPS = 2**15  # a logit is off by 5e-4 at most; bfloat16 leaves it uncertain by 1e-2 and more
PER_LOGIT = (STEPS - 1) / (2 * WIDEST)


class CalibrationTable:
    """`Calibration.apply` at the nearest of many logits, and H(p) of the same; NaN stays NaN.

    Args:
        calibration: what to tabulate.
        device: where the logits are.
    """

    def __init__(self, calibration: Calibration, device: torch.device) -> None:
        n_classes = len(calibration.biases)
        logits = torch.linspace(-WIDEST, WIDEST, STEPS, dtype=torch.double).expand(n_classes, -1)
        p = calibration.apply(logits.reshape(1, n_classes, STEPS, 1)).view(n_classes, STEPS)
        p = torch.nn.functional.pad(p, (0, 1), value=torch.nan)  # what NaN finds
        entropy = torch.special.entr(p) + torch.special.entr(1 - p)
        self._p, self._entropy = (values.float().flatten().to(device) for values in (p, entropy))
        self._starts = (torch.arange(n_classes, dtype=torch.int32) * (STEPS + 1)).view(n_classes, 1, 1).to(device)

    def __call__(self, logits: Map) -> tuple[Map, Map]:
        """Calibrated probabilities of raw logits, and their entropies in nats."""
        # a half more, so that cutting off the digits behind the point is rounding
        at = logits.clamp(-WIDEST, WIDEST).mul_(PER_LOGIT).add_(WIDEST * PER_LOGIT + 0.5).nan_to_num_(STEPS)
        rows = at.to(torch.int32).add_(self._starts).flatten()
        return self._p.index_select(0, rows).view_as(at), self._entropy.index_select(0, rows).view_as(at)
