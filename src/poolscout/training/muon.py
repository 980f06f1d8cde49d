"""Muon: momentum whose update is made orthogonal, for the convolutions; AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
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
            kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
            if not kernels:
                continue
            gradients = [kernel.grad for kernel in kernels]
            momenta = [self._momentum(kernel) for kernel in kernels]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            directions = [v.flatten(1) for v in torch._foreach_lerp(gradients, momenta, MOMENTUM)]
            updates = [
                direction.mul_(0.2 * max(direction.shape) ** 0.5).view_as(kernel)
                for direction, kernel in zip(orthogonal(directions), kernels, strict=True)
            ]
            torch._foreach_mul_(kernels, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_sub_(kernels, updates, alpha=group["lr"])

    def _momentum(self, kernel: Tensor) -> Tensor:
        state = self.state[kernel]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(kernel)
        return state["momentum"]


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Roughly U·Vᵀ of each matrix's singular value decomposition: all singular values near 1.

    Each step of the iteration multiplies X by a polynomial of X·Xᵀ. These all commute, so the steps are carried out on
    the small square X·Xᵀ alone, and X is multiplied once: a third to a half of the work for convolutions. Squares are
    taken together: those of the same size; on a GPU, where the number of calls is what counts, all at the largest size.
    """
    found, together = dict[int, Tensor](), dict[int, list[int]]()
    largest = max(min(matrix.shape) for matrix in matrices)
    for i, matrix in enumerate(matrices):
        together.setdefault(largest if matrix.is_cuda else min(matrix.shape), []).append(i)
    norms = torch._foreach_norm(matrices)
    for side, numbers in together.items():
        wide = {i: _wide(matrices[i] / (norms[i] + 1e-12)) for i in numbers}
        products = _product(torch.stack([_padded(x @ x.T, side) for x in wide.values()]))
        for (i, x), product in zip(wide.items(), products, strict=True):
            tall, n = matrices[i].shape[0] > matrices[i].shape[1], len(x)
            update = product[:n, :n] @ x
            found[i] = update.T if tall else update
    return [found[i] for i in range(len(matrices))]


def _product(gram: Float[Tensor, "m n n"]) -> Float[Tensor, "m n n"]:
    """The product of the iteration's polynomials of each X·Xᵀ."""
    a, b, c = COEFFICIENTS
    product = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    for left in reversed(range(ITERATIONS)):
        step = b * gram + c * gram @ gram
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step @ product
        if left:
            gram = step @ gram @ step
    return product


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def _padded(square: Tensor, side: int) -> Tensor:
    """With zeros, which stay apart in every product."""
    more = side - len(square)
    return F.pad(square, (0, more, 0, more)) if more else square
