"""Length of the whole image's gradient at the output layer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from poolscout.scoring.maps import Maps, PerClass
from poolscout.scoring.registry import FIRST_MAP, HIDDEN_OF_FIRST, scorer


@scorer(FIRST_MAP, HIDDEN_OF_FIRST, unit="1", most=math.inf, gives="image", blurred=("whole",))
def gradient_total(p: Maps, hidden: Float[Tensor, "images channels height width"]) -> PerClass:
    """‖G_c‖ with G_c = Σ_positions δ · [h; 1], δ = p − 1[p > ½]: the first member's gradient from an image and class.

    Unlike the lengths at single positions (`gradient`), pulls in opposite directions cancel. Range 0…∞, without a
    unit. Source: Haussmann et al. 2020, section III-A (Grad).
    """
    delta = (p - (p > 0.5).to(p.dtype)).flatten(2)  # [images, classes, positions]
    # flatten(2) of features that lie channel beside channel, turned around: no copy
    weights, biases = torch.bmm(delta, hidden.permute(0, 2, 3, 1).flatten(1, 2)), delta.sum(2)
    return (weights.square().sum(2) + biases.square()).sqrt()
