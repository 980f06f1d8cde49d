"""The operators on boxes against torchvision's, and that its package stays away."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.detector.operators import giou_loss, nms
from poolscout.training.augment import resized_window


def boxes_of(seed: int, n: int) -> torch.Tensor:
    corners = torch.rand(n, 2, 2, generator=torch.Generator().manual_seed(seed)) * 40
    low, high = corners.amin(1), corners.amax(1)
    return torch.cat([low, high + 0.5], 1)


@given(seed=st.integers(0, 2**30), n=st.integers(0, 40), iou=st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_suppression_is_torchvisions(seed: int, n: int, iou: float) -> None:
    from torchvision import ops

    boxes, scores = boxes_of(seed, n), torch.rand(n, generator=torch.Generator().manual_seed(seed + 1))
    assert nms(boxes, scores, iou).tolist() == ops.nms(boxes, scores, iou).tolist()


@given(seed=st.integers(0, 2**30), n=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_the_loss_and_its_gradient_are_torchvisions(seed: int, n: int) -> None:
    from torchvision import ops

    wanted = boxes_of(seed + 1, n)
    ours, theirs = (boxes_of(seed, n).requires_grad_() for _ in range(2))
    got, expected = giou_loss(ours, wanted), ops.generalized_box_iou_loss(theirs, wanted)
    assert torch.allclose(got, expected, atol=1e-6)
    got.sum().backward()
    expected.sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_a_loss_by_hand() -> None:
    pair = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    assert giou_loss(*pair).item() == pytest.approx(1 - 1 / 7 + (9 - 7) / 9)
    assert giou_loss(pair[0], pair[0]).item() == pytest.approx(0, abs=1e-6)
    apart = giou_loss(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[9.0, 0, 10, 1]]))
    assert apart.item() == pytest.approx(1 + (10 - 2) / 10)


@pytest.mark.parametrize("size", [(32, 48), (17, 90), (40, 20)])
def test_windows_are_resized_as_torchvision_does(size: tuple[int, int]) -> None:
    from torchvision.transforms.v2 import functional as tv

    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for layout in (image, image.permute(1, 2, 0).contiguous().permute(2, 0, 1)):
        expected = tv.resize(layout[:, 5:35, 10:50], list(size), antialias=True)
        assert torch.equal(resized_window(layout, 10, 5, 40, 30, *size), expected)


def test_neither_its_package_nor_the_compiler_is_loaded() -> None:
    """They would double the time that every process takes to start."""
    words = "import sys, torch, poolscout.loop, poolscout.detector.operators as o\n"
    words += "o.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"
    words += "print([name for name in ('torchvision', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
