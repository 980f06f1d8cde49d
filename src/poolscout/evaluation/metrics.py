"""What a detector ensemble's members find on the test images, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import AnnotationError, DataError, some
from poolscout.evaluation.average_precision import ANY_AREA, ApTable, Boxes, average_precision
from poolscout.evaluation.size_weighted import (
    DEFINITION,
    LEFT_OUT,
    Bucket,
    area_ranges,
    combine,
    default_bounds,
    no_boxes,
)
from poolscout.formats.content import Annotations


@dataclass(frozen=True)
class MemberMetrics:
    """Figures of one member, or their mean over members; all 0 to 1.

    Attributes:
        ap: COCO AP, IoU 0.50:0.95, mean over the classes with ground truth.
        ap50: the same at IoU 0.5.
        wmap, wmap_by_count: see `poolscout.evaluation.size_weighted`.
        per_class: class → {"AP", "AP50", "wMAP"}; None for a class without ground truth. The last is AP averaged over
            the ranges of sizes that it has ground truth in.
        buckets: the size ranges wMAP is made of.
    """

    ap: float
    ap50: float
    wmap: float
    wmap_by_count: float
    per_class: dict[str, dict[str, float | None]]
    buckets: tuple[Bucket, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "AP": self.ap,
            "AP50": self.ap50,
            "wMAP": self.wmap,
            "wMAP_by_count": self.wmap_by_count,
            "per_class": self.per_class,
            "per_bucket": [
                {"low_px2": b.low_px2, "high_px2": b.high_px2, "AP": b.ap, "n_boxes": b.n_boxes} for b in self.buckets
            ],
        }


@dataclass(frozen=True)
class Metrics:
    """Figures per member and their mean.

    Attributes:
        members: in member order.
        mean: mean over members, figure by figure.
        test_images: images evaluated.
        test_boxes: ground-truth boxes of each class.
        detections: detections evaluated, over all members.
        least_boxes: a class with fewer in a range of sizes is left out of wMAP there.
    """

    members: tuple[MemberMetrics, ...]
    mean: MemberMetrics
    test_images: int
    test_boxes: dict[str, int]
    detections: int
    least_boxes: int = 1

    def to_json(self) -> dict[str, Any]:
        """For `metrics.json`: finite numbers, or null where a class has no ground truth."""
        return {
            "members": [member.to_json() for member in self.members],
            "mean": self.mean.to_json(),
            "test": {"images": self.test_images, "boxes": self.test_boxes},
            "detections": self.detections,
            "wMAP_definition": DEFINITION + (LEFT_OUT.format(least=self.least_boxes) if self.least_boxes > 1 else ""),
        }


def evaluate(
    ground_truth: pa.Table | Annotations,
    detections: pa.Table,
    image_sizes: Mapping[str, tuple[int, int]],
    classes: Sequence[str],
    members: int,
    size_buckets: Sequence[float | int] | None = None,
    least_boxes: int = 1,
) -> Metrics:
    """AP, AP50 and wMAP of each ensemble member, and their means.

    Args:
        ground_truth: BOXES table, or a COCO file read; boxes of other classes than `classes`, and on images that
            are not in `image_sizes` (unreadable, so never shown to a detector), are left out.
        detections: DETECTIONS table; member −1 (the ensemble's own boxes) is left out.
        image_sizes: (width, height) in px of every test image, also of those without boxes.
        classes: the classes that were learnt.
        members: how many members there are: one that found nothing scores 0.
        size_buckets: wMAP's bounds between box areas, px²; default COCO's, scaled to the images.
        least_boxes: a class with fewer ground-truth boxes in a range of sizes is left out of wMAP there.

    Raises:
        DataError: no test images, no ground truth of any class on them, or too little of every class.
        AnnotationError: detections on images that are not test images, or of unknown classes.
        ConfigError: size buckets that do not rise.
    """
    if not image_sizes or size_buckets is None:
        size_buckets = default_bounds(image_sizes.values())
    ranges = area_ranges(size_buckets)
    boxes = ground_truth.boxes if isinstance(ground_truth, Annotations) else ground_truth
    for column, values in (("class", classes), ("image_id", image_sizes)):
        boxes = boxes.filter(pc.is_in(boxes.column(column), value_set=pa.array(list(values), pa.string())))
    truth = _columns(boxes, image_sizes, classes, "the ground truth")
    if len(truth) == 0:
        raise no_boxes()
    detections = detections.filter(pc.greater_equal(detections.column("member"), 0))
    _check_members(detections, members)
    each = []
    for member in range(members):
        own = detections.filter(pc.equal(detections.column("member"), member))
        found = _columns(own, image_sizes, classes, "the detections")
        table = average_precision(truth, found, len(image_sizes), len(classes), [ANY_AREA, *ranges])
        each.append(_member_metrics(table, ranges, classes, least_boxes))
    counts = np.bincount(truth.cls, minlength=len(classes)).tolist()
    test_boxes = dict(zip(classes, counts, strict=True))
    return Metrics(tuple(each), mean_metrics(each), len(image_sizes), test_boxes, detections.num_rows, least_boxes)


def _check_members(detections: pa.Table, members: int) -> None:
    numbers = pc.unique(detections.column("member")).to_pylist()
    if members < 1 or max(numbers, default=0) >= members:
        raise DataError(
            "the detections table and the ensemble do not belong together",
            got=f"{members} members, and detections of {some(numbers)}",
            expected="detections of members 0 to their number − 1",
            fix="evaluate the models whose detections these are",
        )


def _member_metrics(
    table: ApTable, ranges: Sequence[tuple[float, float]], classes: Sequence[str], least_boxes: int
) -> MemberMetrics:
    """From AP per class over any area (first) and over each of `ranges`."""
    sized = combine(table.without_first_area(), ranges, classes, least_boxes)
    ap, ap50 = table.ap[:, 0], table.ap50[:, 0]
    per_class: dict[str, dict[str, float | None]] = {
        name: {"AP": _number(ap[c]), "AP50": _number(ap50[c]), "wMAP": sized.of_class(name)}
        for c, name in enumerate(classes)
    }
    return MemberMetrics(
        float(np.nanmean(ap)), float(np.nanmean(ap50)), sized.value, sized.by_count, per_class, sized.per_bucket
    )


def mean_metrics(members: Sequence[MemberMetrics]) -> MemberMetrics:
    """Mean over members of every figure; what is None for one (no ground truth) is None for all."""
    first = members[0]
    per_class = {
        name: {key: _mean([m.per_class[name][key] for m in members]) for key in figures}
        for name, figures in first.per_class.items()
    }
    buckets = tuple(
        Bucket(
            bucket.low_px2, bucket.high_px2, _mean([m.buckets[b].ap for m in members]), bucket.n_boxes,
            {name: float(np.mean([m.buckets[b].per_class[name] for m in members])) for name in bucket.per_class},
        )
        for b, bucket in enumerate(first.buckets)
    )  # fmt: skip
    figures = [[m.ap, m.ap50, m.wmap, m.wmap_by_count] for m in members]
    ap, ap50, wmap, by_count = np.mean(figures, axis=0).tolist()
    return MemberMetrics(ap, ap50, wmap, by_count, per_class, buckets)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _columns(table: pa.Table, image_sizes: Mapping[str, tuple[int, int]], classes: Sequence[str], what: str) -> Boxes:
    image = pc.index_in(table.column("image_id"), pa.array(list(image_sizes), pa.string()))
    cls = pc.index_in(table.column("class"), pa.array(list(classes), pa.string()))
    for name, index, expected in (
        ("image_id", image, f"one of the {len(image_sizes)} test images"), ("class", cls, ", ".join(classes)),
    ):  # fmt: skip
        if index.null_count:
            strangers = pc.unique(table.column(name).filter(index.is_null())).to_pylist()
            raise AnnotationError(
                f"{what}: {table.num_rows} boxes, some with an unknown {name}",
                got=some(strangers), expected=expected, fix="evaluate on the images and classes the boxes are about",
            )  # fmt: skip
    corners = ("x1_px", "y1_px", "x2_px", "y2_px")
    x1, y1, x2, y2 = (table.column(c).to_numpy().astype(np.float64) for c in corners)
    score = table.column("probability").to_numpy().astype(np.float64) if "probability" in table.column_names else None
    xywh = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)
    return Boxes(image.to_numpy().astype(np.int64), cls.to_numpy().astype(np.int64), xywh, score)
