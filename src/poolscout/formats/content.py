"""What every annotation format is read into: images, classes, boxes as xyxy in px of the upright image."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeGuard

import pyarrow as pa

from poolscout.errors import AnnotationError, nearest, some
from poolscout.formats.boxes import usable_box
from poolscout.formats.faults import Faults
from poolscout.tables.declared import BOXES

Scalar = str | int | float | bool | None
BadBoxes = Literal["error", "drop"]
Sizes = Mapping[str, tuple[int, int]]  # image_id → (width, height) in px of the upright image


@dataclass(frozen=True)
class AnnotatedImage:
    """One image that an annotation source lists.

    Attributes:
        image_id: its name, relative to the images' folder.
        width: of the upright image, px; None where the source does not say.
        height: likewise.
        metadata: what else the source says of it (COCO: every further scalar of the entry).
    """

    image_id: str
    width: int | None = None
    height: int | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)


class SourceImage(NamedTuple):
    """One image that an annotation source lists, and where it should lie; nothing of its labels."""

    image_id: str
    path: Path
    width: int | None
    height: int | None
    metadata: dict[str, Scalar]


@dataclass(frozen=True)
class Annotations:
    """An annotation source that has passed every check.

    Attributes:
        path: where it was read.
        classes: names in the source's order.
        images: in the source's order.
        boxes: BOXES table in the source's order, clipped to the images.
        dropped: one line for each unusable box that was left out (`bad_boxes="drop"`).
        n_clipped: boxes that reached over the image's border.
        n_crowd: COCO's `iscrowd` boxes, which are left out: they stand for many objects.
        info: COCO's own `info`.
    """

    path: Path
    classes: tuple[str, ...]
    images: list[AnnotatedImage]
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


class BoxRows:
    """The usable boxes of a source, and what is wrong with the others."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, float, float, float, float]] = []
        self.faults, self.dropped, self.n_clipped = Faults(), list[str](), 0

    @property
    def count(self) -> int:
        """Boxes so far, good and bad."""
        return len(self._rows) + len(self.dropped)

    def add(self, image_id: str, name: str, bbox_xywh_px: object, size: tuple[int | None, int | None]) -> str | None:
        """Keep a box, cut at its image's border; or what is wrong with it."""
        box = usable_box(bbox_xywh_px, *size)
        if isinstance(box, str):
            return box
        self.n_clipped += box.clipped
        self._rows.append((image_id, name, *box.xyxy_px))
        return None

    def refuse(self, fault: str, who: object, where: str) -> None:
        """Note an unusable box: `who` for an error that gathers all of them, `where` for the list of dropped ones."""
        self.faults.add(fault, who)
        self.dropped.append(f"{where}: {fault}")

    def table(self, where: str) -> pa.Table:
        """The BOXES table."""
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in BOXES.columns)
        arrays = [pa.array(values, c.type) for values, c in zip(columns, BOXES.columns, strict=True)]
        return BOXES.check(pa.Table.from_arrays(arrays, names=[c.name for c in BOXES.columns]), where)


def safe_name(name: object) -> str | None:
    """A file name relative to a folder, normalised; None when it is absolute, leaves the folder or is no name."""
    if not isinstance(name, str) or not is_clean(name):
        return None
    parts = re.split(r"[/\\]", name)
    absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", name)
    normal = str(PurePosixPath(name))
    return None if absolute or ".." in parts or normal == "." else normal


def is_class_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and bool(name.strip()) and is_clean(name)


def is_clean(text: str) -> bool:
    """No control character and no half of a surrogate pair: neither fits a file name or a table."""
    return re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text) is None


def refuse_strangers(where: object, boxes: pa.Table, image_ids: Collection[str], classes: Collection[str]) -> None:
    """Check before writing that every box is of an image and a class that are given too.

    Raises:
        AnnotationError: names the strangers.
    """
    for what, column, known in (("image", "image_id", image_ids), ("class", "class", classes)):
        unknown = sorted(set(boxes.column(column).to_pylist()) - set(known))
        if unknown:
            raise AnnotationError(
                f"{where}: boxes of an unknown {what}",
                got=some(unknown), expected=some(known), fix=nearest(unknown[0], known) or f"give the {what} too",
            )  # fmt: skip


def rows_by_image(
    where: object, images: Sequence[AnnotatedImage], boxes: pa.Table, classes: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    """The rows of a BOXES table under each image's id, in their order.

    Raises:
        AnnotationError: a box of an image or class that is not given.
    """
    rows: dict[str, list[dict[str, Any]]] = {image.image_id: [] for image in images}
    refuse_strangers(where, boxes, rows, classes)
    for row in boxes.to_pylist():
        rows[row["image_id"]].append(row)
    return rows
