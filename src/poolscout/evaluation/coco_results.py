"""`wmap` on COCO files: ground truth and results as they lie on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poolscout.errors import AnnotationError, DataError, NonFiniteError, nearest
from poolscout.evaluation.average_precision import Boxes, average_precision
from poolscout.evaluation.size_weighted import WmapResult, area_ranges, combine, default_bounds
from poolscout.formats.annotations import format_of, read_annotations
from poolscout.formats.coco import coco_document
from poolscout.formats.content import Annotations


def wmap(
    ground_truth: Path | str | Mapping[str, Any] | Annotations,
    detections: Path | str | Sequence[Mapping[str, Any]],
    size_buckets: Sequence[float | int] | None = None,
) -> WmapResult:
    """wMAP, the mean AP averaged over object sizes; the result's `definition` says what exactly.

    Args:
        ground_truth: annotations (a path), a COCO json's content, or annotations already read. The ids of YOLO and VOC
            are their numbers from 1, in the order of the images and of the classes, as `poolscout convert` writes them.
        detections: COCO results: [{"image_id", "category_id", "bbox": [x, y, w, h] px, "score"}], a path or a list.
        size_buckets: bounds between box areas, px²; default COCO's 32² and 96², scaled by image area.

    Raises:
        DataError: a file that cannot be read; a test set without images or boxes; images without a size.
        AnnotationError: a box that refers to no image or category, or whose sides are negative.
        NonFiniteError: NaN or infinity in a box or score.
        ConfigError: size buckets that do not rise.

    Example:
        >>> truth = {"images": [{"id": 1, "width": 640, "height": 480}], "categories": [{"id": 1, "name": "car"}],
        ...          "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40]}]}
        >>> found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40], "score": 0.9}]
        >>> round(wmap(truth, found).value, 6)
        1.0
    """
    truth = _load(_as_coco(ground_truth), "the ground truth", dict)
    found = _load(detections, "the detections", list)
    images, categories = _entries(truth, "images"), _entries(truth, "categories")
    bounds = default_bounds(_sizes(images)) if size_buckets is None else size_buckets
    ranges = area_ranges(bounds)
    image_of, class_of = _positions(images, "image"), _positions(categories, "category")
    truth_boxes = _boxes(_entries(truth, "annotations"), image_of, class_of, "the ground truth", scored=False)
    found_boxes = _boxes(found, image_of, class_of, "the detections", scored=True)
    table = average_precision(truth_boxes, found_boxes, len(images), len(categories), ranges)
    return combine(table, ranges, [str(category.get("name", category["id"])) for category in categories])


def _as_coco(truth: Path | str | Mapping[str, Any] | Annotations) -> Path | str | Mapping[str, Any]:
    """A COCO file's path, or what is written for other annotations."""
    if isinstance(truth, Path | str) and format_of(Path(truth)) != "coco":
        truth = read_annotations(Path(truth))
    if isinstance(truth, Annotations):
        is_coco = format_of(truth.path) == "coco"
        return truth.path if is_coco else coco_document(truth.images, truth.boxes, truth.classes, where=truth.path)
    return truth


def _load(source: Any, what: str, kind: type) -> Any:
    if isinstance(source, Path | str):
        try:
            source = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{source}: {what} cannot be read", got=str(error), expected="a COCO json file", fix="check the path"
            ) from error
    if not isinstance(source, Mapping if kind is dict else Sequence):
        words = "a COCO object with images, annotations and categories" if kind is dict else "a list of COCO results"
        raise DataError(f"{what}: not in COCO's format", got=type(source).__name__, expected=words)
    return source


def _entries(truth: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = truth.get(key)
    if not isinstance(entries, list) or not all(
        isinstance(e, Mapping) and (key == "annotations" or isinstance(e.get("id"), int | str)) for e in entries
    ):
        raise DataError(
            f"the ground truth: '{key}' is not a list of COCO {key}",
            got=f"keys {sorted(map(str, truth))}" if entries is None else type(entries).__name__,
            expected=f"'{key}': [{{'id': …}}, …]",
            fix=nearest(key, map(str, truth)) or "write it as COCO json",
        )
    return entries


def _positions(entries: Sequence[Mapping[str, Any]], what: str) -> dict[Any, int]:
    position = {entry["id"]: i for i, entry in enumerate(entries)}
    if len(position) < len(entries):
        raise AnnotationError(
            f"the ground truth: {what} ids that occur twice",
            got=f"{len(entries)} entries, {len(position)} different ids",
            expected="each id once",
            fix="remove the doubles",
        )
    return position


def _sizes(images: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    sized = [(image.get("width"), image.get("height")) for image in images]
    bad = [
        image["id"]
        for image, sides in zip(images, sized, strict=True)
        if not all(isinstance(side, int | float) and 0 < side < math.inf for side in sides)
    ]
    if bad:
        raise DataError(
            f"the ground truth: {len(bad)} images without width and height",
            got=f"the first is image {bad[0]!r}",
            expected="sizes in px: the default size buckets are scaled to them",
            fix="add width and height, or give size_buckets",
        )
    return [(int(w), int(h)) for w, h in sized if w and h]


def _boxes(
    rows: Sequence[Mapping[str, Any]], image_of: dict[Any, int], class_of: dict[Any, int], what: str, *, scored: bool
) -> Boxes:
    image, cls, xywh, score, crowd = [], [], [], [], []
    for position, row in enumerate(rows):
        where = f"{what}, entry {position}"
        try:
            box, number = [float(v) for v in row["bbox"]], float(row["score"]) if scored else 0.0
            image_id, category_id = row["image_id"], row["category_id"]
            hash((image_id, category_id))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            keys = "image_id, category_id, bbox" + (", score" if scored else "")
            raise AnnotationError(f"{where}: not a COCO box", got=repr(error), expected=keys) from error
        if not all(map(math.isfinite, [*box, number])):
            raise NonFiniteError(f"{where}: NaN or infinity", got=dict(row), expected="finite numbers")
        if len(box) != 4 or box[2] < 0 or box[3] < 0:
            raise AnnotationError(f"{where}: not a box", got=box, expected="[x, y, width, height], sides not negative")
        for name, key, known in (("image_id", image_id, image_of), ("category_id", category_id, class_of)):
            if key not in known:
                raise AnnotationError(
                    f"{where}: its {name} is not in the ground truth", got=repr(key),
                    expected=f"one of {len(known)} ids such as {next(iter(known), None)!r}",
                    fix="use the ids of the ground-truth file",
                )  # fmt: skip
        image.append(image_of[image_id])
        cls.append(class_of[category_id])
        xywh.append(box)
        score.append(number)
        crowd.append(bool(row.get("iscrowd", 0)))
    return Boxes(
        np.array(image, np.int64),
        np.array(cls, np.int64),
        np.array(xywh, np.float64).reshape(-1, 4),
        np.array(score, np.float64) if scored else None,
        None if scored else np.array(crowd, bool),
    )
