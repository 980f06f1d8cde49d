"""Shapes of probability maps, and what a scorer may ask the members' mean of."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "images classes height width"]
PerClass = Float[Tensor, "images classes"]

LN_2 = math.log(2)
_TINY = torch.finfo(torch.float32).tiny


def probability(p: Maps) -> Maps:
    """p itself."""
    return p


def squared(p: Maps) -> Maps:
    """p²: with the mean of p, what a variance over members is made of."""
    return p.square()


def bernoulli_entropy(p: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """H(p) = −p ln p − (1−p) ln(1−p), nats, 0…ln 2, exactly 0 at p = 0 and p = 1 (Haussmann et al. 2020, eq. 1).

    The paper's equation lacks the minus sign. Error in float32: below 2e-7. NaN stays NaN.
    """
    q = 1 - p
    # clamp + log is vectorised, torch.xlogy is not: seven times the time, on every map of every member
    p_log_p = p.clamp_min(_TINY).log_().mul_(p)
    return q.clamp_min(_TINY).log_().mul_(q).add_(p_log_p).neg_()
