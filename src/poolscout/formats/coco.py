"""COCO json in and out: classes by name, boxes as xyxy in px of the upright image, every fault in one error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.errors import AnnotationError, DataError
from poolscout.formats.content import AnnotatedImage, Annotations, BadBoxes, BoxRows, Sizes, refuse_strangers
from poolscout.formats.document import load_document, read_categories, read_images, records
from poolscout.tables.atomic import write_text


def read_coco(path: Path, *, bad_boxes: BadBoxes = "error", sizes: Sizes | None = None) -> Annotations:
    """Read and check a COCO file.

    Args:
        path: the json file.
        bad_boxes: "drop" goes on without unusable boxes and lists them; "error" refuses the file.
        sizes: image_id → (width, height) in px, for images whose size the file does not give.

    Raises:
        DataError: there is no such file, or it is not json.
        AnnotationError: its structure, an image, a category or a box is wrong; names the first few of each kind.
    """
    path = Path(path)
    document = load_document(path)
    images = _images(path, document)
    by_id = {entry["id"]: image for entry, image in zip(document["images"], images, strict=True)}
    class_by_id = read_categories(path, document)
    rows, n_crowd = BoxRows(), 0
    annotations = records(path, document, "annotations")
    for annotation in annotations:
        if annotation.get("iscrowd") in (1, True):
            n_crowd += 1
        elif fault := _add(rows, annotation, by_id, class_by_id, sizes or {}):
            who = annotation.get("id", "without id")
            rows.refuse(fault, who, f"annotation {who} of image {annotation.get('image_id')}")
    if bad_boxes == "error":
        rows.faults.raise_if_any(
            f"{path}: {rows.faults.count} of {len(annotations)} annotations are unusable",
            expected="bbox [x, y, width, height] in px, finite, of positive size, inside its image; "
            "image_id and category_id that the file lists",
            fix="mend the annotations of these ids, or set labelling.bad_boxes: drop to go on without them",
        )
    info, classes = document.get("info"), tuple(class_by_id.values())
    return Annotations(
        path, classes, images, rows.table("COCO boxes"), rows.dropped, rows.n_clipped, n_crowd,
        info if isinstance(info, dict) else {},
    )  # fmt: skip


def read_coco_images(path: Path) -> list[AnnotatedImage]:
    """The images of a COCO file; its annotations are not looked at, so nothing of them can leak into a pool.

    Raises:
        DataError: there is no such file, or it is not json.
        AnnotationError: an entry of `images` is wrong.
    """
    return _images(Path(path), load_document(Path(path)))


def write_coco(
    path: Path,
    images: Sequence[AnnotatedImage],
    boxes: pa.Table,
    classes: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    info: dict[str, Any] | None = None,
) -> None:
    """Write a COCO file, whole or not at all: ids count from 1, keys sorted, one entry a line.

    Args:
        path: where to.
        images: entries of `images`, in this order.
        boxes: BOXES table (xyxy, px); each row becomes an annotation.
        classes: category names, in this order.
        scores: a probability for each row of `boxes`, written as `score`.
        info: the file's `info`.

    Raises:
        AnnotationError: a box of an image or class that is not given, or scores of another number.
        StorageError: the disk is full or refuses.
    """
    if scores is not None and len(scores) != boxes.num_rows:
        raise AnnotationError(f"{path}: scores and boxes differ in number", got=len(scores), expected=boxes.num_rows)
    document = coco_document(images, boxes, classes, where=path)
    for annotation, score in zip(document["annotations"], scores or (), strict=False):
        annotation["score"] = float(score)
    write_text(path, _lines(path, {"info": [info or {}], **document}))


def coco_document(
    images: Sequence[AnnotatedImage], boxes: pa.Table, classes: Sequence[str], *, where: object
) -> dict[str, list[dict[str, Any]]]:
    """`categories`, `images` and `annotations` as `write_coco` writes them: ids count from 1 in the given order.

    Raises:
        AnnotationError: a box of an image or class that is not given.
    """
    image_ids = {image.image_id: number for number, image in enumerate(images, 1)}
    category_ids = {name: number for number, name in enumerate(classes, 1)}
    refuse_strangers(where, boxes, image_ids, category_ids)
    return {
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
        "images": [_entry(image, image_ids[image.image_id]) for image in images],
        "annotations": [
            _annotation(number, row, image_ids, category_ids) for number, row in enumerate(boxes.to_pylist(), 1)
        ],
    }


def _images(path: Path, document: dict[str, Any]) -> list[AnnotatedImage]:
    return [AnnotatedImage(*fields) for fields in read_images(path, document)]


def _add(
    rows: BoxRows,
    annotation: dict[str, Any],
    images: Mapping[Any, AnnotatedImage],
    classes: Mapping[Any, str],
    sizes: Sizes,
) -> str | None:
    """Add the box of one annotation; or what is wrong with it."""
    image = _known(images, annotation, "image_id")
    if image is None:
        return "image_id that no image has"
    name = _known(classes, annotation, "category_id")
    if name is None:
        return "category_id that no category has"
    width, height = image.width, image.height
    if not (width and height):
        told = sizes.get(image.image_id, (None, None))
        width, height = width or told[0], height or told[1]
    return rows.add(image.image_id, name, annotation.get("bbox"), (width, height))


def _known(known: Mapping[Any, Any], annotation: dict[str, Any], key: str) -> Any:
    identity = annotation.get(key)
    return known.get(identity) if isinstance(identity, int | str | float) else None


def _annotation(
    number: int, row: dict[str, Any], image_ids: Mapping[str, int], category_ids: Mapping[str, int]
) -> dict[str, Any]:
    width, height = row["x2_px"] - row["x1_px"], row["y2_px"] - row["y1_px"]
    return {
        "id": number,
        "image_id": image_ids[row["image_id"]],
        "category_id": category_ids[row["class"]],
        "bbox": [row["x1_px"], row["y1_px"], width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def _entry(image: AnnotatedImage, number: int) -> dict[str, Any]:
    sizes = {"width": image.width, "height": image.height}
    known = {key: value for key, value in sizes.items() if value is not None}
    return {**image.metadata, **known, "id": number, "file_name": image.image_id}


def _lines(path: Path, document: dict[str, list[dict[str, Any]]]) -> str:
    try:
        lines = {
            key: ",\n".join(json.dumps(entry, sort_keys=True, allow_nan=False) for entry in entries)
            for key, entries in document.items()
        }
    except ValueError as error:
        raise DataError(f"{path}: NaN or infinity cannot be written as json", got=str(error)) from error
    head = f'{{\n"info": {lines.pop("info")},\n'
    return head + ",\n".join(f'"{key}": [\n{text}\n]' for key, text in lines.items()) + "\n}\n"
