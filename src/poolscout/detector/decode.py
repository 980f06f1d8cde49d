"""From maps to boxes: keep the peaks, decode their boxes, drop doubles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from poolscout.boxes import clip_boxes
from poolscout.detector.operators import nms

LARGEST = 8.0  # ln of the largest box side in cells: keeps exp() finite


class Detections(NamedTuple):
    """Boxes of a batch of images: image by image, in each the most probable first."""

    images: Int[Tensor, " k"]  # position in the batch
    boxes_xyxy_px: Float[Tensor, "k 4"]
    classes: Int[Tensor, " k"]
    probabilities: Float[Tensor, " k"]
    class_probabilities: Float[Tensor, "k classes"] | None  # of each class at the box's place; None: not known

    def take(self, which: Tensor) -> Detections:
        """The detections at some positions, or where a mask is true."""
        return Detections._make(None if part is None else part[which] for part in self)


def boxes_at(
    parameters: Float[Tensor, "k 4"], y: Int[Tensor, " k"], x: Int[Tensor, " k"], height: int, width: int, stride: int
) -> Float[Tensor, "k 4"]:
    """Boxes of some map positions, xyxy in input pixels, cut at the input's border.

    Args:
        parameters: the centre's offset (dx, dy) from the middle of its cell, ln width and ln height, all in cells.
        y, x: the positions.
        height, width: of the map, in cells.
        stride: input pixels a cell.
    """
    centres = torch.stack([x, y], 1) + 0.5 + parameters[:, :2]
    half = parameters[:, 2:].clamp(max=LARGEST).exp() / 2
    ends = torch.cat([centres - half, centres + half], 1)
    return clip_boxes(ends, width, height) * stride


def decode(
    probabilities: Float[Tensor, "images classes height width"],
    parameters: Float[Tensor, "images 4 height width"],
    stride: int,
    *,
    min_probability: float,
    max_boxes: int,
    nms_iou: float,
) -> Detections:
    """Detections of a batch: local maxima of each class's map, then class-wise non-maximum suppression.

    Args:
        probabilities: p(an object of this class is centred here).
        parameters: the box of each position; see `boxes_at`.
        stride: input pixels a cell.
        min_probability: weaker peaks are dropped.
        max_boxes: most boxes an image.
        nms_iou: of two boxes of a class that overlap more than this, the less probable goes.

    Returns:
        Boxes in input pixels; in each image probability descending, ties by class, then by position (row-major).
    """
    # class-major, row-major: the order of ties
    image, cls, y, x = torch.nonzero(_peaks(probabilities, min_probability), as_tuple=True)
    scores = probabilities[image, cls, y, x]
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.argsort(image[order], stable=True)]
    image, cls, y, x, scores = image[order], cls[order], y[order], x[order], scores[order]
    height, width = probabilities.shape[2:]
    boxes = boxes_at(parameters[image, :, y, x], y, x, height, width, stride)
    # Boxes of two classes are moved apart, so that one suppression serves all classes.
    apart = boxes + (cls * (stride * (max(height, width) + 1)))[:, None]
    kept, start = [], 0
    for n in torch.bincount(image, minlength=len(probabilities)).tolist():
        if n:
            candidates = slice(start, start + min(n, 10 * max_boxes))
            chosen = nms(apart[candidates], scores[candidates], nms_iou).sort().values[:max_boxes]
            kept.append(chosen + start)
        start += n
    keep = torch.cat(kept) if kept else image.new_zeros(0)
    found = Detections(image, boxes, cls, scores, probabilities[image, :, y, x])
    return found.take(keep)


def _peaks(
    p: Float[Tensor, "images classes height width"], least: float
) -> Bool[Tensor, "images classes height width"]:
    """Positions that no neighbour exceeds. As four maxima of shifted maps: ten times as fast as max_pool2d on a CPU."""
    padded = F.pad(p, (1, 1, 1, 1))
    rows = torch.maximum(torch.maximum(padded[..., :-2], padded[..., 1:-1]), padded[..., 2:])
    around = torch.maximum(torch.maximum(rows[..., :-2, :], rows[..., 1:-1, :]), rows[..., 2:, :])
    return (p >= around).logical_and_(p >= least)
