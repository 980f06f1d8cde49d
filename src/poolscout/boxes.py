"""The one box convention: xyxy in pixels of the upright image, x2 and y2 exclusive (width = x2 − x1)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Boxes = Float[Tensor, "n 4"]


def xywh_to_xyxy(boxes_xywh: Boxes) -> Boxes:
    """COCO's [x, y, width, height] to [x1, y1, x2, y2], same unit."""
    x, y, width, height = boxes_xywh.unbind(-1)
    return torch.stack([x, y, x + width, y + height], dim=-1)


def xyxy_to_xywh(boxes_xyxy: Boxes) -> Boxes:
    """[x1, y1, x2, y2] to COCO's [x, y, width, height], same unit."""
    x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
    return torch.stack([x1, y1, x2 - x1, y2 - y1], dim=-1)


def clip_boxes(boxes_xyxy_px: Boxes, width_px: float | Tensor, height_px: float | Tensor) -> Boxes:
    """Boxes cut at the border of their image, or each at its own ([n] sizes); one outside ends with zero area."""
    sides = torch.stack([torch.as_tensor(side).to(boxes_xyxy_px) for side in (width_px, height_px)] * 2, dim=-1)
    return torch.minimum(boxes_xyxy_px.clamp_min(0), sides)


def box_area(boxes_xyxy: Boxes) -> Float[Tensor, " n"]:
    """Area in the square of the boxes' unit; 0 for an inverted box."""
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]).clamp_min(0) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]).clamp_min(0)


def box_iou(a_xyxy: Float[Tensor, "n 4"], b_xyxy: Float[Tensor, "k 4"]) -> Float[Tensor, "n k"]:
    """Intersection over union of every pair; 0 where both areas are 0."""
    top_left = torch.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    bottom_right = torch.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    overlap = (bottom_right - top_left).clamp_min(0).prod(-1)
    union = box_area(a_xyxy)[:, None] + box_area(b_xyxy)[None, :] - overlap
    return overlap / union.clamp_min(torch.finfo(a_xyxy.dtype).tiny)
