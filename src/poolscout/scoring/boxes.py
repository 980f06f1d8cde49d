"""Figures of boxes: matched over members, and laid out for the aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poolscout.boxes import box_area, box_iou
from poolscout.detector.decode import Detections

MATCH_IOU = 0.5  # boxes of two members that overlap at least this much mean the same object


class BoxScores(NamedTuple):
    """One figure for each of some boxes or objects, in any order."""

    images: Int[Tensor, " k"]  # position in the batch
    classes: Int[Tensor, " k"]
    values: Float[Tensor, " k"]


def lay_out(
    scores: BoxScores, n_images: int, n_classes: int
) -> tuple[Float[Tensor, "images classes n"], Float[Tensor, "images classes"]]:
    """Values side by side for each image and class, filled up with 0, and how many there are."""
    group = scores.images * n_classes + scores.classes
    counts = torch.bincount(group, minlength=n_images * n_classes)
    order = torch.argsort(group, stable=True)
    starts = counts.cumsum(0) - counts
    slot = torch.arange(len(group), device=group.device) - starts[group[order]]
    values = scores.values.new_zeros(n_images * n_classes, max(int(counts.max()) if len(counts) else 0, 1))
    values[group[order], slot] = scores.values[order]
    return values.view(n_images, n_classes, values.shape[1]), counts.view(n_images, n_classes).to(values.dtype)


def match_members(found: Sequence[Detections]) -> BoxScores:
    """Spread of each object's box over the members that see it: 1 − mean IoU with the mean box.

    Greedy, as the suppression of doubles is: the most probable box not yet taken, of any member, gathers from every
    other member the free box of its class that overlaps it most, at least by `MATCH_IOU`. Objects with a single box
    are left out. Ties: the lower member, then the more probable box. Does not depend on the order of the members
    except through ties.
    """
    objects = _matched(found)
    own, middle = objects.every.boxes_xyxy_px, objects.mean(objects.every.boxes_xyxy_px)
    overlap = own.new_zeros(len(own))
    overlap[objects.rows] = _iou_of_pairs(own[objects.rows], middle[objects.of])
    kept = objects.sizes > 1
    first = objects.first[kept]
    spread = (1 - objects.mean(overlap)[kept]).clamp_min(0)
    return BoxScores(objects.every.images[first], objects.every.classes[first], spread)


def fuse_members(found: Sequence[Detections]) -> Detections:
    """One list of boxes from those of n members, matched as in `match_members`, with objects that one alone sees.

    Args:
        found: of each member, over the same batch; a member without boxes counts all the same.

    Returns:
        Each object once: the mean box of the members that see it, p = Σ_e p_e / n, where a member that does not see it
        counts 0, as in the ensemble's mean map p̄; class probabilities likewise where every member has them.
    """
    objects, n_members = _matched(found), len(found)
    every, first = objects.every, objects.first
    lists = every.class_probabilities
    fused = Detections(
        every.images[first],
        objects.mean(every.boxes_xyxy_px),
        every.classes[first],
        objects.mean(every.probabilities, n_members),
        None if lists is None else objects.mean(lists, n_members),
    )
    order = torch.argsort(fused.probabilities, descending=True, stable=True)
    return fused.take(order[torch.argsort(fused.images[order], stable=True)])


class _Objects(NamedTuple):
    """What boxes of several members mean the same object."""

    every: Detections  # of all members, one after the other
    rows: Int[Tensor, " k"]  # positions in `every`: object by object, in each the most probable box first
    of: Int[Tensor, " k"]  # the object of each of these
    sizes: Int[Tensor, " n"]  # boxes of each object

    @property
    def first(self) -> Int[Tensor, " n"]:
        """Position in `every` of each object's most probable box."""
        return self.rows[self.sizes.cumsum(0) - self.sizes]

    def mean(self, values: Tensor, over: int | None = None) -> Tensor:
        """Sum over each object's boxes, divided by their number or by `over`; `values` are in the order of `every`."""
        # in float64, so that the order of the members is not seen in the last digit
        total = values.new_zeros(len(self.sizes), *values.shape[1:], dtype=torch.float64)
        total.index_add_(0, self.of, values[self.rows].double())
        divisor = self.sizes.view(-1, *[1] * (values.ndim - 1)) if over is None else over
        return (total / divisor).to(values.dtype)


def _matched(found: Sequence[Detections]) -> _Objects:
    """The objects that all members' boxes stand for; see `match_members`."""
    member = torch.cat([torch.full_like(one.images, number) for number, one in enumerate(found)])
    images, boxes, classes, p = (torch.cat(parts) for parts in zip(*[one[:4] for one in found], strict=True))
    known = [one.class_probabilities for one in found if one.class_probabilities is not None]
    every = Detections(images, boxes, classes, p, torch.cat(known) if len(known) == len(found) else None)
    n_classes = int(classes.max()) + 1 if len(classes) else 1
    group = images * n_classes + classes
    order = torch.argsort(p, descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    _, sizes = torch.unique_consecutive(group[order], return_counts=True)
    objects: list[list[int]] = []
    for rows in order.split(sizes.tolist()):
        at = rows.tolist()
        objects += [[at[i] for i in one] for one in _objects(boxes[rows], member[rows])]
    lengths = order.new_tensor([len(one) for one in objects])
    numbers = torch.arange(len(objects), device=order.device).repeat_interleave(lengths)
    return _Objects(every, order.new_tensor([row for one in objects for row in one]), numbers, lengths)


def _objects(boxes: Float[Tensor, "k 4"], member: Int[Tensor, " k"]) -> list[list[int]]:
    """Positions of the boxes of each object; boxes come most probable first."""
    if len(boxes) == 1:
        return [[0]]
    overlap, owner = box_iou(boxes, boxes).tolist(), member.tolist()
    free, objects = [True] * len(boxes), []
    for first in range(len(boxes)):
        if not free[first]:
            continue
        best = {owner[first]: first}
        for other, iou in enumerate(overlap[first]):
            if iou < MATCH_IOU or not free[other] or owner[other] == owner[first]:
                continue
            rival = best.get(owner[other])
            if rival is None or iou > overlap[first][rival]:
                best[owner[other]] = other
        for taken in best.values():
            free[taken] = False
        objects.append(list(best.values()))
    return objects


def _iou_of_pairs(a_xyxy: Float[Tensor, "k 4"], b_xyxy: Float[Tensor, "k 4"]) -> Float[Tensor, " k"]:
    """Intersection over union of each row's two boxes."""
    sides = torch.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - torch.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    overlap = sides.clamp_min(0).prod(1)
    return overlap / (box_area(a_xyxy) + box_area(b_xyxy) - overlap).clamp_min(torch.finfo(a_xyxy.dtype).tiny)
