"""The one box convention."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from poolscout.boxes import box_area, box_iou, clip_boxes, xywh_to_xyxy, xyxy_to_xywh

corner = st.integers(-50, 150)
box = st.tuples(corner, corner, st.integers(0, 100), st.integers(0, 100))


@given(st.lists(box, min_size=1, max_size=5))
def test_xywh_and_back(boxes: list[tuple[int, int, int, int]]) -> None:
    given_boxes = torch.tensor(boxes, dtype=torch.float32)
    assert torch.equal(xyxy_to_xywh(xywh_to_xyxy(given_boxes)), given_boxes)


@given(box, box)
def test_iou_counts_pixels(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> None:
    """Against the obvious way: draw both boxes and count the pixels they share."""
    canvas = torch.zeros(2, 300, 300, dtype=torch.bool)
    for mask, (x, y, w, h) in zip(canvas, (a, b), strict=True):
        mask[y + 50 : y + h + 50, x + 50 : x + w + 50] = True
    shared, either = (canvas[0] & canvas[1]).sum().item(), (canvas[0] | canvas[1]).sum().item()
    boxes = xywh_to_xyxy(torch.tensor([a, b], dtype=torch.float32))
    assert abs(box_iou(boxes[:1], boxes[1:]).item() - (shared / either if either else 0.0)) < 1e-6
    assert box_area(boxes).tolist() == [mask.sum().item() for mask in canvas]


def test_clipping_cuts_at_the_border_and_empties_what_is_outside() -> None:
    boxes = torch.tensor([[-5.0, 2, 5, 50], [90, 90, 120, 130], [200, 10, 220, 20]])
    clipped = clip_boxes(boxes, 100, 40)
    assert clipped.tolist() == [[0, 2, 5, 40], [90, 40, 100, 40], [100, 10, 100, 20]]
    assert box_area(clipped).tolist() == [190, 0, 0]
