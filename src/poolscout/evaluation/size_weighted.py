"""wMAP: the mean AP averaged over object sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from poolscout.errors import ConfigError, DataError
from poolscout.evaluation.average_precision import ApTable

DEFINITION = (
    "wMAP v1 = sum_b w_b * mean_c AP(c, b). AP: COCO's, IoU 0.50:0.05:0.95, 101 recall points, 100 detections an "
    "image and class. b: ranges of box area (width * height, px^2); boxes outside the range are ignored by COCO's "
    "rule, both bounds belong to it. A class without ground truth in b is left out of mean_c, a range without any "
    "is left out of sum_b. w_b = 1/B over the remaining B ranges; by count: w_b proportional to the ground-truth "
    "boxes in b. Default bounds: 32^2 and 96^2 px^2, times the median image area / (640 * 480 px^2)."
)
LEFT_OUT = " Here a class with fewer than {least} boxes in b is left out of mean_c, too."
COCO_BOUNDS_PX2 = (32.0**2, 96.0**2)
COCO_IMAGE_PX2 = 640.0 * 480.0
NO_BOUND_PX2 = 1e10  # COCO's 100,000² px²: "no upper bound"


@dataclass(frozen=True)
class Bucket:
    """One range of box areas.

    Attributes:
        low_px2, high_px2: bounds, px²; `high_px2` is None where there is no upper bound.
        ap: mean AP over the classes with ground truth here; None where no class has any.
        n_boxes: ground-truth boxes here.
        per_class: AP of each class with ground truth here.
    """

    low_px2: float
    high_px2: float | None
    ap: float | None
    n_boxes: int
    per_class: dict[str, float]


@dataclass(frozen=True)
class WmapResult:
    """What `combine` found.

    Attributes:
        value: wMAP with equal weights, 0 to 1.
        by_count: wMAP with weights proportional to the ground truth.
        per_bucket: its parts, small to large.
        definition: what exactly was computed, with its version.
    """

    value: float
    by_count: float
    per_bucket: tuple[Bucket, ...]
    definition: str = DEFINITION

    def of_class(self, name: str) -> float | None:
        """A class's AP averaged over the ranges it has ground truth in: its figure in the paper's Tables IV and V."""
        aps = [bucket.per_class[name] for bucket in self.per_bucket if name in bucket.per_class]
        return float(np.mean(aps)) if aps else None

    def __float__(self) -> float:
        return self.value


def default_bounds(image_sizes: Iterable[tuple[int, int]]) -> tuple[float, ...]:
    """COCO's 32² and 96² px², scaled by the median image area relative to COCO's 640 × 480.

    Args:
        image_sizes: (width, height) of each test image, px.

    Raises:
        DataError: no images.
    """
    areas = [float(width) * float(height) for width, height in image_sizes]
    if not areas:
        raise DataError(
            "the test set has no images", got="0 images", expected="at least one", fix="check the test annotations"
        )
    scale = float(np.median(areas)) / COCO_IMAGE_PX2
    return tuple(bound * scale for bound in COCO_BOUNDS_PX2)


def area_ranges(bounds_px2: Sequence[float | int]) -> list[tuple[float, float]]:
    """The ranges between `bounds_px2`: B − 1 bounds make B ranges.

    Raises:
        ConfigError: bounds that are not positive, finite and rising.
    """
    edges = [0.0, *map(float, bounds_px2), NO_BOUND_PX2]
    if not all(math.isfinite(edge) for edge in edges) or any(a >= b for a, b in itertools.pairwise(edges)):
        raise ConfigError(
            "size_buckets: not usable as bounds between box areas",
            got=list(bounds_px2),
            expected=f"rising numbers above 0 and below {NO_BOUND_PX2:g}, in px²",
            fix="for example [1024, 9216], COCO's 32² and 96²",
        )
    return list(itertools.pairwise(edges))


def combine(
    table: ApTable, ranges: Sequence[tuple[float, float]], classes: Sequence[str], least_boxes: int = 1
) -> WmapResult:
    """wMAP from the AP of every class in every range.

    Args:
        least_boxes: a class with fewer ground-truth boxes in a range is left out there: the AP of a single box is
            chance, and weighs as much as that of a thousand.

    Raises:
        DataError: no class has so much ground truth in any range.
    """
    seen = table.n_boxes >= max(least_boxes, 1)
    buckets = []
    for b, (low, high) in enumerate(ranges):
        per_class = {name: float(table.ap[c, b]) for c, name in enumerate(classes) if seen[c, b]}
        mean = float(np.mean(list(per_class.values()))) if per_class else None
        upper = None if high == NO_BOUND_PX2 else high
        buckets.append(Bucket(low, upper, mean, int(table.n_boxes[:, b].sum()), per_class))
    parts = [(bucket.ap, bucket.n_boxes) for bucket in buckets if bucket.ap is not None]
    if not parts and least_boxes > 1:
        raise DataError(
            "evaluation.least_boxes: no class has so many ground-truth boxes in any range of sizes",
            got=f"{int(table.n_boxes.max(initial=0))} boxes at most", expected=f"{least_boxes} or more",
            fix="lower evaluation.least_boxes, or set fewer evaluation.size_buckets",
        )  # fmt: skip
    if not parts:
        raise no_boxes()
    aps, counts = np.array(parts, dtype=np.float64).T
    return WmapResult(float(aps.mean()), float(np.average(aps, weights=counts)), tuple(buckets))


def no_boxes() -> DataError:
    """The error for a test set in which nothing can be found."""
    return DataError(
        "the test images have no ground-truth boxes of the classes that were learnt",
        got="0 boxes",
        expected="at least one box: AP is not defined without",
        fix="check the class names and file names in the test annotations, or leave evaluation.annotations out",
    )
