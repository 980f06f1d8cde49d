"""COCO's average precision for a list of box-area ranges, through faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

MAX_DETECTIONS = 100  # an image and class, as COCO does
ANY_AREA = (0.0, 1e10)


@dataclass(frozen=True)
class Boxes:
    """Boxes of a set of images as columns.

    Attributes:
        image: position of each box's image, int64 [n].
        cls: position of each box's class, int64 [n].
        xywh_px: COCO boxes, float64 [n, 4].
        score: probability of each box, float64 [n]; None for ground truth.
        crowd: boxes that stand for a group (COCO's `iscrowd`), bool [n]; None where there are none.
    """

    image: np.ndarray
    cls: np.ndarray
    xywh_px: np.ndarray
    score: np.ndarray | None = None
    crowd: np.ndarray | None = None

    @property
    def area_px2(self) -> np.ndarray:
        """Area of each box, px², float64 [n]."""
        return self.xywh_px[:, 2] * self.xywh_px[:, 3]

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class ApTable:
    """Average precision per class and area range; NaN where there is no ground truth.

    Attributes:
        ap: mean over IoU thresholds 0.50:0.05:0.95, float64 [classes, areas].
        ap50: at IoU 0.5, float64 [classes, areas].
        n_boxes: ground-truth boxes inside the range, int64 [classes, areas].
    """

    ap: np.ndarray
    ap50: np.ndarray
    n_boxes: np.ndarray

    def without_first_area(self) -> ApTable:
        return ApTable(self.ap[:, 1:], self.ap50[:, 1:], self.n_boxes[:, 1:])


def average_precision(
    truth: Boxes, detections: Boxes, n_images: int, n_classes: int, areas_px2: Sequence[tuple[float, float]]
) -> ApTable:
    """COCO's AP of every class in every area range (Lin et al. 2014; 101 recall points, 100 detections an image).

    Ground truth outside a range is ignored, and so are detections outside it that match nothing; both bounds belong
    to the range (COCO's rule). No detections at all give 0 wherever there is ground truth.

    Args:
        truth, detections: boxes; image and class positions are below `n_images` and `n_classes`.
        areas_px2: (lowest, highest) box area of each range.
    """
    counts = _count(truth, n_classes, areas_px2)
    if len(detections) == 0:
        zero = np.where(counts > 0, 0.0, np.nan)
        return ApTable(zero, zero.copy(), counts)
    coco_truth = COCO(_dataset(truth, n_images, n_classes), print_function=_silent)
    coco_found = COCO(_dataset(detections, n_images, n_classes), print_function=_silent)
    run = COCOeval_faster(coco_truth, coco_found, iouType="bbox", print_function=_silent)
    run.params.areaRng = [list(area) for area in areas_px2]
    run.params.areaRngLbl = [str(i) for i in range(len(areas_px2))]
    run.params.maxDets = [MAX_DETECTIONS]
    run.evaluate()
    run.accumulate()
    shape = (len(run.params.iouThrs), len(run.params.recThrs), n_classes, len(areas_px2))
    precision = np.asarray(run.eval["precision"], dtype=np.float64).reshape(shape)
    per_threshold = np.where(counts > 0, precision.mean(axis=1), np.nan)  # [thresholds, classes, areas]
    return ApTable(per_threshold.mean(axis=0), per_threshold[0], counts)


def _count(truth: Boxes, n_classes: int, areas_px2: Sequence[tuple[float, float]]) -> np.ndarray:
    area = truth.area_px2
    single = np.ones(len(truth), bool) if truth.crowd is None else ~truth.crowd
    inside = [truth.cls[single & (area >= low) & (area <= high)] for low, high in areas_px2]
    return np.stack([np.bincount(cls, minlength=n_classes) for cls in inside], axis=1)


def _dataset(boxes: Boxes, n_images: int, n_classes: int) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        "image_id": boxes.image.tolist(),
        "category_id": boxes.cls.tolist(),
        "bbox": boxes.xywh_px.tolist(),
        "area": boxes.area_px2.tolist(),
        "iscrowd": [0] * len(boxes) if boxes.crowd is None else boxes.crowd.astype(int).tolist(),
        "id": list(range(1, len(boxes) + 1)),
    }
    if boxes.score is not None:
        columns["score"] = boxes.score.tolist()
    return {
        "images": [{"id": i} for i in range(n_images)],
        "categories": [{"id": c, "name": str(c)} for c in range(n_classes)],
        "annotations": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }


def _silent(*_: object) -> None:
    """The library's progress lines go nowhere."""
