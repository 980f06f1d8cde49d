"""From maps to boxes: decode every position, keep the peaks, drop doubles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms

LARGEST = 8.0  # ln of the largest box side in cells: keeps exp() finite


class Detections(NamedTuple):
    """Boxes of one image, most probable first."""

    boxes_xyxy_px: Float[Tensor, "k 4"]
    classes: Int[Tensor, " k"]
    probabilities: Float[Tensor, " k"]


def boxes_from_map(
    parameters: Float[Tensor, "images 4 height width"], stride: int
) -> Float[Tensor, "images 4 height width"]:
    """Boxes of every position, xyxy in input pixels, cut at the input's border.

    A position's four parameters are the centre's offset (dx, dy) from the middle of its cell and ln width, ln height,
    all in cells.
    """
    height, width = parameters.shape[-2:]
    dx, dy, log_w, log_h = parameters.unbind(1)
    x = torch.arange(width, device=dx.device) + 0.5 + dx
    y = (torch.arange(height, device=dx.device) + 0.5)[:, None] + dy
    half_w, half_h = log_w.clamp(max=LARGEST).exp() / 2, log_h.clamp(max=LARGEST).exp() / 2
    x_edges = torch.stack([x - half_w, x + half_w], 1).clamp(0, width) * stride
    y_edges = torch.stack([y - half_h, y + half_h], 1).clamp(0, height) * stride
    return torch.stack([x_edges[:, 0], y_edges[:, 0], x_edges[:, 1], y_edges[:, 1]], dim=1)


def decode(
    probabilities: Float[Tensor, "images classes height width"],
    boxes_xyxy_px: Float[Tensor, "images 4 height width"],
    min_probability: float,
    max_boxes: int,
    nms_iou: float,
) -> list[Detections]:
    """Detections of each image: local maxima of each class's map, then class-wise non-maximum suppression.

    Args:
        probabilities: p(an object of this class is centred here).
        boxes_xyxy_px: the box of each position, in any pixel frame.
        min_probability: weaker peaks are dropped.
        max_boxes: most boxes an image.
        nms_iou: of two boxes of a class that overlap more than this, the less probable goes.

    Returns:
        One `Detections` an image, probability descending, ties by class, then by position (row-major).
    """
    peaks = (F.max_pool2d(probabilities, 3, stride=1, padding=1) == probabilities) & (probabilities >= min_probability)
    return [
        _decode_one(p, peak, boxes, max_boxes, nms_iou)
        for p, peak, boxes in zip(probabilities, peaks, boxes_xyxy_px, strict=True)
    ]


def _decode_one(p: Tensor, peak: Tensor, boxes: Tensor, max_boxes: int, nms_iou: float) -> Detections:
    classes, y, x = torch.nonzero(peak, as_tuple=True)  # class-major, row-major: the order of ties
    scores = p[classes, y, x]
    order = torch.argsort(scores, descending=True, stable=True)[: 10 * max_boxes]
    classes, scores, boxes_k = classes[order], scores[order], boxes[:, y[order], x[order]].T
    keep = batched_nms(boxes_k, scores, classes, nms_iou).sort().values[:max_boxes]
    return Detections(boxes_k[keep], classes[keep], scores[keep])
