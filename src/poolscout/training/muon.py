"""Muon: momentum whose update is made orthogonal, for the convolutions; AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

MOMENTUM = 0.9
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration (Jordan et al. 2024)


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) with the update's size matched to AdamW's (Liu et al. 2025, "Muon is scalable").

    Args:
        params: convolution kernels [out, in, height, width]; each is treated as a matrix [out, in·height·width].
        lr: learning rate, on AdamW's scale.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                momentum = state.setdefault("momentum", torch.zeros_like(kernel))
                momentum.lerp_(kernel.grad, 1 - MOMENTUM)
                direction = kernel.grad.lerp(momentum, MOMENTUM).flatten(1)
                update = orthogonal(direction) * (0.2 * max(direction.shape) ** 0.5)
                kernel.mul_(1 - group["lr"] * group["weight_decay"])
                kernel.sub_(update.view_as(kernel), alpha=group["lr"])


def orthogonal(matrix: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Roughly U·Vᵀ of the matrix's singular value decomposition: all singular values near 1.

    Each step of the iteration multiplies X by a polynomial of X·Xᵀ. These all commute, so the steps are carried out on
    the small square X·Xᵀ alone, and X is multiplied once: a third to a half of the work for convolutions.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-12)
    gram, product = x @ x.T, torch.eye(min(matrix.shape), dtype=x.dtype, device=x.device)
    for left in reversed(range(ITERATIONS)):
        step = b * gram + c * gram @ gram
        step.diagonal().add_(a)
        product = step @ product
        if left:
            gram = step @ gram @ step
    x = product @ x
    return x.T if tall else x
