"""The training loss: penalty-reduced focal loss on the maps, GIoU and L1 on the boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from poolscout.detector.operators import giou_loss
from poolscout.detector.targets import Targets

FOCUS = 2.0  # γ of the focal loss; `calibration.undo_focal` inverts it
REDUCTION = 4.0  # how fast a negative's weight falls towards an object's centre


class Maps(NamedTuple):
    """What the loss looks at of a `DetectorOutput`."""

    logits: Float[Tensor, "images classes height width"]
    boxes: Float[Tensor, "images 4 height width"]


class Loss(NamedTuple):
    """The loss of a batch, and what it is made of."""

    total: Float[Tensor, ""]
    maps: Float[Tensor, ""]  # per object
    boxes: Float[Tensor, ""]  # averaged over objects, before it is weighted


def detection_loss(output: Maps, targets: Targets, stride: int, box_weight: float) -> Loss:
    """Loss of a batch: map loss + box_weight · box loss, each per object.

    Raises:
        Nothing: the caller checks that the loss is finite.
    """
    n_objects = (targets.heat == 1).sum().clamp_min(1)
    maps, boxes = map_loss(output.logits, targets.heat) / n_objects, box_loss(output, targets, stride)
    return Loss(maps + box_weight * boxes, maps, boxes)


def map_loss(
    logits: Float[Tensor, "images classes height width"], heat: Float[Tensor, "images classes height width"]
) -> Float[Tensor, ""]:
    """Penalty-reduced focal loss, summed (Zhou et al. 2019, eq. 1; Lin et al. 2017)."""
    p = logits.sigmoid()
    positive = (1 - p).pow(FOCUS) * F.softplus(-logits)
    negative = (1 - heat).pow(REDUCTION) * p.pow(FOCUS) * F.softplus(logits)
    return torch.where(heat == 1, positive, negative).sum()


def box_loss(output: Maps, targets: Targets, stride: int) -> Float[Tensor, ""]:
    """GIoU (Rezatofighi et al. 2019) plus L1 on the box parameters, averaged over objects."""
    if len(targets.core_image) == 0:
        return output.boxes.sum() * 0
    at = (targets.core_image, slice(None), targets.core_y, targets.core_x)
    predicted = output.boxes[at]  # [k, 4]
    wanted = targets.core_boxes_xyxy_px / stride
    cells = torch.stack([targets.core_x, targets.core_y], dim=1) + 0.5
    centre, size = (wanted[:, :2] + wanted[:, 2:]) / 2, (wanted[:, 2:] - wanted[:, :2]).clamp_min(0.1)
    parameters = torch.cat([centre - cells, size.log()], dim=1)
    # an offset matters in proportion to the box, as the IoU does
    scale = torch.cat([size, torch.ones_like(size)], dim=1)
    l1 = ((predicted - parameters) / scale).abs().sum(1)
    size_p = predicted[:, 2:].clamp(max=8).exp()
    centre_p = predicted[:, :2] + cells
    giou = giou_loss(torch.cat([centre_p - size_p / 2, centre_p + size_p / 2], dim=1), wanted)
    return ((giou + 0.5 * l1) * targets.core_weights).sum() / targets.core_weights.sum().clamp_min(1)
