"""Length of the gradient that the output layer would get from the label it believes."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from poolscout.scoring.maps import Maps
from poolscout.scoring.registry import FIRST_MAP, HIDDEN_OF_FIRST, scorer


@scorer(FIRST_MAP, HIDDEN_OF_FIRST, unit="1", most=math.inf)
def gradient(p: Maps, hidden: Float[Tensor, "images channels height width"]) -> Maps:
    """‖g‖ = |p − ŷ| · √(‖h‖² + 1) = min(p, 1 − p) · √(‖h‖² + 1) of the first member, with ŷ = 1[p > ½].

    For cross-entropy the gradient at the logit is δ = p − ŷ; for the last layer, 1×1 with input h and a bias, it is
    g = δ · [h; 1]: a closed form, no backward pass. Range 0…½ √(‖h‖² + 1) per class and position, without a unit.
    p is the calibrated probability, so δ is the gradient at the calibrated logit; the slope of the calibration itself
    (with a focal loss undone 2.7 to 3 over the temperature, nearly the same everywhere) is left out.
    Source: Haussmann et al. 2020, section III-A (Grad), after Ash et al. 2020.
    """
    length = vector_norm(hidden, dim=1).square_().add_(1).sqrt_()
    return (1 - p).minimum(p).mul_(length[:, None])
