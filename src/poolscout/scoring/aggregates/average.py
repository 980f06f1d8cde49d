"""The mean over positions."""

import torch

from poolscout.scoring.maps import Maps, PerClass, Valid
from poolscout.scoring.registry import aggregate


@aggregate("average")
def average(scores: Maps, valid: Valid) -> PerClass:
    """Mean over the valid positions (Haussmann et al. 2020, section III-A): rewards images that are hard everywhere."""
    return torch.where(valid[:, None], scores, 0).sum((2, 3)) / valid.sum((1, 2))[:, None]
