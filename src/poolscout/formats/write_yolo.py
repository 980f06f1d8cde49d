"""YOLO out: images/, labels/, a list in the given order, data.yaml last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import yaml

from poolscout.formats.content import AnnotatedImage, rows_by_image, safe_name
from poolscout.formats.faults import Faults
from poolscout.formats.yolo_files import label_path
from poolscout.tables.atomic import write_text

IMAGES = "images"
LIST = "train.txt"


def write_yolo(folder: Path, images: Sequence[AnnotatedImage], boxes: pa.Table, classes: Sequence[str]) -> None:
    """Write labels, train.txt and data.yaml; each file whole or not at all, and data.yaml last.

    Images keep their names, folders included: `a/b.jpg` is images/a/b.jpg with labels/a/b.txt, also without objects.
    Shares have 12 digits: read back, a box is where it was to less than 0.001 px.

    Args:
        folder: made when missing.
        images: in this order in train.txt; their own metadata has no place here.
        boxes: BOXES table.
        classes: by their index.

    Raises:
        AnnotationError: a box of an image or class that is not given, an image with boxes whose size is not known,
            names that a list cannot hold, two images that would share a label file.
        StorageError: the disk is full or refuses.
    """
    index = {name: number for number, name in enumerate(classes)}
    by_image = rows_by_image(folder, images, boxes, index)
    labels = _label_files(folder, images, by_image)
    for image in images:
        lines = [_line(index[row["class"]], row, image) for row in by_image[image.image_id]]
        write_text(folder / labels[image.image_id], "".join(lines))
    write_text(folder / LIST, "".join(f"./{IMAGES}/{image.image_id}\n" for image in images))
    description = {"train": LIST, "names": dict(enumerate(classes))}
    write_text(folder / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))


def _label_files(
    folder: Path, images: Sequence[AnnotatedImage], by_image: dict[str, list[dict[str, Any]]]
) -> dict[str, str]:
    faults, taken, labels = Faults(), dict[str, str](), dict[str, str]()
    for image in images:
        image_id = image.image_id
        if safe_name(image_id) != image_id or "\\" in image_id or image_id != image_id.rstrip():
            faults.add("a name that a list of files cannot hold", ascii(image_id))
            continue
        label = str(label_path(PurePosixPath(IMAGES, image_id)))
        if label in taken:
            faults.add("two images of one label file", f"{taken[label]} and {image_id}")
        if by_image[image_id] and not (image.width and image.height):
            faults.add("size not known", image_id)
        taken[label], labels[image_id] = image_id, label
    faults.raise_if_any(
        f"{folder}: {faults.count} images cannot be written as YOLO",
        expected="relative names, each with a stem of its own in its folder, and the size of every image with boxes",
        fix="rename these images, or write COCO",
    )
    return labels


def _line(index: int, row: dict[str, Any], image: AnnotatedImage) -> str:
    width, height = float(image.width or 1), float(image.height or 1)
    x1, y1, x2, y2 = (row[name] for name in ("x1_px", "y1_px", "x2_px", "y2_px"))
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{index} {' '.join(f'{share:.12g}' for share in shares)}\n"
