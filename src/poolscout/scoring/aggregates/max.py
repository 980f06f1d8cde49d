"""The most informative position."""

import torch

from poolscout.scoring.maps import Maps, PerClass, Valid
from poolscout.scoring.registry import aggregate


@aggregate("max")
def maximum(scores: Maps, valid: Valid) -> PerClass:
    """max over the valid positions (Haussmann et al. 2020, eq. 4)."""
    return torch.where(valid[:, None], scores, -torch.inf).amax((2, 3))
