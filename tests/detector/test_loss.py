import math

import pytest
import torch

from poolscout.detector.decode import boxes_at
from poolscout.detector.loss import Maps, box_loss, detection_loss, map_loss
from poolscout.detector.targets import build_targets

BOXES = torch.tensor([[10.0, 10, 50, 34], [2, 20, 6, 31]])


@pytest.fixture
def targets():
    return build_targets(BOXES, torch.tensor([1, 0]), torch.tensor([0, 0]), 1, 2, 12, 16, 4)


def perfect_boxes(targets) -> torch.Tensor:
    """Parameters that decode to the wanted box at each core position."""
    boxes = torch.zeros(1, 4, 12, 16)
    wanted = targets.core_boxes_xyxy_px / 4
    cells = torch.stack([targets.core_x, targets.core_y], 1) + 0.5
    boxes[0, :2, targets.core_y, targets.core_x] = ((wanted[:, :2] + wanted[:, 2:]) / 2 - cells).T
    boxes[0, 2:, targets.core_y, targets.core_x] = (wanted[:, 2:] - wanted[:, :2]).log().T
    return boxes


def test_box_loss_is_zero_exactly_where_decoding_gives_the_label(targets):
    boxes = perfect_boxes(targets)
    y, x = targets.core_y, targets.core_x
    decoded = boxes_at(boxes[0][:, y, x].T, y, x, 12, 16, 4)
    assert torch.allclose(decoded, targets.core_boxes_xyxy_px, atol=1e-3)
    output = Maps(torch.zeros(1, 2, 12, 16), boxes)
    assert box_loss(output, targets, 4).item() == pytest.approx(0, abs=1e-4)
    worse = output._replace(boxes=boxes + 0.2)
    assert box_loss(worse, targets, 4) > 0.05
    assert box_loss(output._replace(boxes=boxes + 0.4), targets, 4) > box_loss(worse, targets, 4)


def test_map_loss_against_a_loop():
    torch.manual_seed(0)
    logits, heat = torch.randn(1, 2, 3, 4) * 2, torch.rand(1, 2, 3, 4)
    heat[0, 1, 1, 2] = 1
    expected = 0.0
    for z, y in zip(logits.flatten().tolist(), heat.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        expected += -((1 - p) ** 2) * math.log(p) if y == 1 else -((1 - y) ** 4) * p**2 * math.log(1 - p)
    assert map_loss(logits, heat).item() == pytest.approx(expected, rel=1e-5)


def test_loss_is_per_object_and_falls_towards_the_label(targets):
    good = torch.where(targets.heat == 1, 8.0, -8.0)
    boxes = perfect_boxes(targets)
    best = detection_loss(Maps(good, boxes), targets, 4, 2.0).total
    flat = detection_loss(Maps(torch.zeros_like(good), boxes), targets, 4, 2.0).total
    assert best < 0.01 < flat
    assert flat.item() == pytest.approx(map_loss(torch.zeros_like(good), targets.heat).item() / 2, rel=1e-4)


def test_a_batch_without_objects_has_a_finite_loss_and_gradient():
    empty = build_targets(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long(), 1, 2, 12, 16, 4)
    logits = torch.zeros(1, 2, 12, 16, requires_grad=True)
    boxes = torch.zeros(1, 4, 12, 16, requires_grad=True)
    loss = detection_loss(Maps(logits, boxes), empty, 4, 2.0).total
    loss.backward()
    assert loss.item() == pytest.approx(2 * 12 * 16 * 0.25 * math.log(2), rel=1e-5)
    assert (logits.grad > 0).all()
    assert (boxes.grad == 0).all()


def test_extreme_parameters_stay_finite(targets):
    boxes = torch.full((1, 4, 12, 16), 500.0, requires_grad=True)
    logits = torch.full((1, 2, 12, 16), -200.0, requires_grad=True)
    loss = detection_loss(Maps(logits, boxes), targets, 4, 2.0).total
    loss.backward()
    assert loss.isfinite()
    assert boxes.grad.isfinite().all()
    assert logits.grad.isfinite().all()
