import math

import pytest
import torch

from poolscout.training.muon import COEFFICIENTS, ITERATIONS, MOMENTUM, Muon, _padded, _product, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_orthogonal_keeps_the_singular_vectors_and_evens_out_the_values(shape):
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    values = torch.logspace(0, -1.5, min(shape))
    (result,) = orthogonal([u @ torch.diag(values) @ v * 100])
    assert result.shape == shape
    inside = u.T @ result @ v.T
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.3
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 0.05


@pytest.mark.parametrize("shape", [(1, 9), (8, 72), (72, 8), (96, 864), (30, 30)])
@pytest.mark.parametrize("rank", [1, 3, 1000])
def test_orthogonal_is_the_iteration_on_the_whole_matrix(shape, rank):
    generator = torch.Generator().manual_seed(sum(shape) + rank)
    inner = min(rank, *shape)
    matrix = torch.randn(shape[0], inner, generator=generator) @ torch.randn(inner, shape[1], generator=generator)
    x = (matrix / matrix.norm()).double()
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    assert torch.allclose(orthogonal([matrix])[0], x.float(), atol=1e-4)


def test_matrices_taken_together_give_what_each_gives_alone():
    generator = torch.Generator().manual_seed(4)
    shapes = [(8, 27), (16, 72), (8, 72), (72, 16), (8, 8), (16, 144)]  # three of side 8, three of side 16, one tall
    matrices = [torch.randn(shape, generator=generator) * 10**i for i, shape in enumerate(shapes)]
    for together, matrix in zip(orthogonal(matrices), matrices, strict=True):
        assert together.shape == matrix.shape
        assert torch.allclose(together, orthogonal([matrix])[0], atol=1e-5)


def test_a_padded_square_gives_the_product_of_the_square_in_its_corner():
    x = torch.randn(5, 20, generator=torch.Generator().manual_seed(2))
    square = x @ x.T / x.square().sum()
    padded = _product(_padded(square, 9)[None])[0]
    assert torch.allclose(padded[:5, :5], _product(square[None])[0], atol=1e-6)
    assert not padded[:5, 5:].any()


def test_a_zero_gradient_changes_nothing_but_decay():
    kernel = torch.nn.Parameter(torch.ones(4, 2, 3, 3))
    kernel.grad = torch.zeros_like(kernel)
    Muon([kernel], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(kernel, torch.full_like(kernel, 1 - 0.1 * 0.5))


def test_a_step_is_downhill_and_as_large_as_adamws():
    generator = torch.Generator().manual_seed(1)
    kernel = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=generator) * 1e-4  # its size must not matter
    Muon([kernel], lr=0.01, weight_decay=0.0).step()
    moved = kernel.detach()
    assert (moved * kernel.grad).sum() < 0
    # 16 singular values near 1 spread over 16·72 entries, times 0.2·√72
    expected = 0.01 * 0.2 * math.sqrt(72) * math.sqrt(16 / (16 * 72))
    assert moved.square().mean().sqrt().item() == pytest.approx(expected, rel=0.3)


def test_momentum_carries_on():
    kernel = torch.nn.Parameter(torch.zeros(4, 2, 1, 1))
    optimiser = Muon([kernel], lr=1.0, weight_decay=0.0)
    first = torch.eye(4, 2)[:, :, None, None]
    kernel.grad = first.clone()
    optimiser.step()
    before = kernel.detach().clone()
    kernel.grad = -first * (1 - MOMENTUM) / 10  # weak: the memory of the first gradient outweighs it
    optimiser.step()
    assert ((kernel.detach() - before) * first).sum() < 0
