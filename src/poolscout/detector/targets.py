"""From labelled boxes to the maps the detector should give."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

SPREAD = 0.18  # standard deviation of a target's Gaussian, as a share of the box's side
NARROWEST = 0.5  # its least standard deviation, in cells: the neighbours of a tiny object's centre count a little
CORE = 0.6  # where the Gaussian is above this, the position learns the object's box


class Targets(NamedTuple):
    """Targets of a batch; `core_*` list the positions that learn a box."""

    heat: Float[Tensor, "images classes height width"]  # 1 at the cell that holds a centre, Gaussian around it
    core_image: Int[Tensor, " k"]
    core_y: Int[Tensor, " k"]
    core_x: Int[Tensor, " k"]
    core_boxes_xyxy_px: Float[Tensor, "k 4"]
    core_weights: Float[Tensor, " k"]  # 1 in total for each box


def build_targets(
    boxes_xyxy_px: Float[Tensor, "n 4"],
    classes: Int[Tensor, " n"],
    images: Int[Tensor, " n"],
    n_images: int,
    n_classes: int,
    height: int,
    width: int,
    stride: int,
) -> Targets:
    """Targets of all boxes of a batch at once (Zhou et al. 2019, "Objects as Points", with box-shaped Gaussians).

    Args:
        boxes_xyxy_px: boxes in input pixels; centres outside the map are moved to its border.
        classes: class index of each box.
        images: position in the batch of each box's image.
        n_images, n_classes: size of the batch and of the class list.
        height, width: size of the map in cells.
        stride: pixels a cell.
    """
    heat = boxes_xyxy_px.new_zeros(n_images * n_classes, height, width)
    best = boxes_xyxy_px.new_zeros(n_images, height, width)
    gaussians = _gaussians(boxes_xyxy_px / stride, height, width)
    _keep_largest(heat, images * n_classes + classes, gaussians)
    _keep_largest(best, images, gaussians)
    # a position that two objects share learns the box of the nearer one
    box, y, x = torch.nonzero((gaussians >= CORE) & (gaussians == best[images]), as_tuple=True)
    shares = gaussians[box, y, x]
    totals = shares.new_zeros(len(boxes_xyxy_px)).index_add_(0, box, shares)
    return Targets(
        heat.view(n_images, n_classes, height, width), images[box], y, x, boxes_xyxy_px[box], shares / totals[box]
    )


def _gaussians(boxes_cells: Float[Tensor, "n 4"], height: int, width: int) -> Float[Tensor, "n height width"]:
    """One Gaussian a box, 1 at the cell of its centre."""

    def axis(low: Tensor, high: Tensor, size: int) -> Tensor:
        centre = ((low + high) / 2).floor().clamp(0, size - 1)
        sigma = ((high - low) * SPREAD).clamp_min(NARROWEST)
        cells = torch.arange(size, device=low.device, dtype=low.dtype)
        return torch.exp(-((cells - centre[:, None]) ** 2) / (2 * sigma[:, None] ** 2))

    x1, y1, x2, y2 = boxes_cells.unbind(1)
    return axis(y1, y2, height)[:, :, None] * axis(x1, x2, width)[:, None, :]


def _keep_largest(maps: Float[Tensor, "m height width"], rows: Int[Tensor, " n"], values: Tensor) -> None:
    maps.scatter_reduce_(0, rows[:, None, None].expand_as(values), values, "amax")
