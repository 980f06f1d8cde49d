"""COCO json in and out: classes by name, boxes as xyxy in px of the upright image, every fault in one error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from poolscout.errors import AnnotationError, DataError, nearest, some
from poolscout.formats.boxes import usable_box
from poolscout.formats.document import Scalar, load_document, read_categories, read_images, records
from poolscout.formats.faults import Faults
from poolscout.tables.atomic import write_text
from poolscout.tables.declared import BOXES


@dataclass(frozen=True)
class CocoImage:
    """One entry of `images`.

    Attributes:
        image_id: the file name, relative to the images' folder.
        width: of the upright image, px; None where the file does not say.
        height: likewise.
        metadata: every further scalar of the entry.
    """

    image_id: str
    width: int | None = None
    height: int | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class CocoFile:
    """A COCO file that has passed every check.

    Attributes:
        path: where it was read.
        classes: category names in the file's order.
        images: in the file's order.
        boxes: BOXES table in the file's order, clipped to the images.
        dropped: one line for each unusable box that was left out (`bad_boxes="drop"`).
        n_clipped: boxes that reached over the image's border.
        n_crowd: `iscrowd` boxes, which are left out: they stand for many objects.
        info: the file's own `info`.
    """

    path: Path
    classes: tuple[str, ...]
    images: list[CocoImage]
    boxes: pa.Table
    dropped: list[str]
    n_clipped: int = 0
    n_crowd: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or cut, for a person to read; empty when nothing was."""
        counted = (
            (self.n_clipped, "boxes reached over the image's border and were cut there"),
            (self.n_crowd, "boxes marked iscrowd were left out"),
            (len(self.dropped), f"unusable annotations were left out: {some(self.dropped)}"),
        )
        return tuple(f"{self.path.name}: {number} {told}" for number, told in counted if number)


def read_coco(
    path: Path,
    *,
    bad_boxes: Literal["error", "drop"] = "error",
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> CocoFile:
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
    rows = _Boxes(by_id, class_by_id, sizes or {})
    annotations = records(path, document, "annotations")
    for annotation in annotations:
        rows.add(annotation)
    if bad_boxes == "error":
        rows.faults.raise_if_any(
            f"{path}: {rows.faults.count} of {len(annotations)} annotations are unusable",
            expected="bbox [x, y, width, height] in px, finite, of positive size, inside its image; "
            "image_id and category_id that the file lists",
            fix="mend the annotations of these ids, or set labelling.bad_boxes: drop to go on without them",
        )
    info = document.get("info")
    return CocoFile(
        path, tuple(class_by_id.values()), images, rows.table(), rows.dropped, rows.n_clipped, rows.n_crowd,
        info if isinstance(info, dict) else {},
    )  # fmt: skip


def read_coco_images(path: Path) -> list[CocoImage]:
    """The images of a COCO file; its annotations are not looked at, so nothing of them can leak into a pool.

    Raises:
        DataError: there is no such file, or it is not json.
        AnnotationError: an entry of `images` is wrong.
    """
    return _images(Path(path), load_document(Path(path)))


def write_coco(
    path: Path,
    images: Sequence[CocoImage],
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
    image_ids = {image.image_id: number for number, image in enumerate(images, 1)}
    category_ids = {name: number for number, name in enumerate(classes, 1)}
    _refuse_unknown(path, "image", boxes.column("image_id").to_pylist(), image_ids)
    _refuse_unknown(path, "class", boxes.column("class").to_pylist(), category_ids)
    annotations = [_annotation(number, row, image_ids, category_ids) for number, row in enumerate(boxes.to_pylist(), 1)]
    for annotation, score in zip(annotations, scores or (), strict=False):
        annotation["score"] = float(score)
    document = {
        "info": [info or {}],
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
        "images": [_entry(image, image_ids[image.image_id]) for image in images],
        "annotations": annotations,
    }
    write_text(path, _lines(path, document))


def _images(path: Path, document: dict[str, Any]) -> list[CocoImage]:
    return [CocoImage(*fields) for fields in read_images(path, document)]


_Row = tuple[str, str, float, float, float, float]  # a row of BOXES


class _Boxes:
    """The usable boxes of a file, and what is wrong with the others."""

    def __init__(
        self,
        images: Mapping[Any, CocoImage],
        classes: Mapping[Any, str],
        sizes: Mapping[str, tuple[int, int]],
    ) -> None:
        self._images, self._classes, self._sizes = images, classes, sizes
        self._rows: list[_Row] = []
        self.faults, self.dropped = Faults(), list[str]()
        self.n_clipped = self.n_crowd = 0

    def add(self, annotation: dict[str, Any]) -> None:
        if annotation.get("iscrowd") in (1, True):
            self.n_crowd += 1
            return
        row = self._row(annotation)
        if isinstance(row, str):
            who = annotation.get("id", "without id")
            self.faults.add(row, who)
            self.dropped.append(f"annotation {who} of image {annotation.get('image_id')}: {row}")
        else:
            self._rows.append(row)

    def table(self) -> pa.Table:
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in BOXES.columns)
        arrays = [pa.array(values, c.type) for values, c in zip(columns, BOXES.columns, strict=True)]
        return BOXES.check(pa.Table.from_arrays(arrays, names=[c.name for c in BOXES.columns]), "COCO boxes")

    def _row(self, annotation: dict[str, Any]) -> _Row | str:
        image = _known(self._images, annotation, "image_id")
        if image is None:
            return "image_id that no image has"
        name = _known(self._classes, annotation, "category_id")
        if name is None:
            return "category_id that no category has"
        width, height = self._sizes.get(image.image_id, (None, None))
        box = usable_box(annotation.get("bbox"), image.width or width, image.height or height)
        if isinstance(box, str):
            return box
        self.n_clipped += box.clipped
        return image.image_id, name, *box.xyxy_px


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


def _entry(image: CocoImage, number: int) -> dict[str, Any]:
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


def _refuse_unknown(path: Path, what: str, named: Sequence[str], known: Mapping[str, int]) -> None:
    unknown = sorted(set(named) - known.keys())
    if unknown:
        raise AnnotationError(
            f"{path}: boxes of an unknown {what}",
            got=some(unknown), expected=some(known), fix=nearest(unknown[0], known) or f"give the {what} too",
        )  # fmt: skip
