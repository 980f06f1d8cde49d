"""YOLO in: a text file beside each image, rows `class x_centre y_centre width height` in shares of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from poolscout.formats.content import AnnotatedImage, Annotations, BadBoxes, BoxRows, Sizes
from poolscout.formats.image_files import upright_size
from poolscout.formats.yolo_files import YoloFiles, YoloImage, find_yolo
from poolscout.tables.manifest import fingerprint

_FURTHEST = 2.0  # shares beyond 0–1 are boxes over the border; far beyond, they are something else


def read_yolo(path: Path, *, bad_boxes: BadBoxes = "error", sizes: Sizes | None = None) -> Annotations:
    """Read and check a YOLO data set or one split of it.

    An image's name is its path below the data set's folder, without a leading `images/`. Boxes, polygons (their
    bounding box) and rows with keypoints are read; confidences are not used; a missing label file means no objects.

    Args:
        path: as `find_yolo`.
        bad_boxes: "drop" goes on without unusable rows and lists them; "error" refuses the data set.
        sizes: image_id → (width, height) in px; the headers of other images are read.

    Raises:
        DataError: a file that is not there, or cannot be read.
        AnnotationError: names, splits or rows are wrong; names the first few of each kind.
    """
    found = find_yolo(path)
    rows, images = BoxRows(), []
    for image in found.images:
        size = (sizes or {}).get(image.image_id) or upright_size(image.path)
        _add(rows, found, image, _label_text(image), size)
        images.append(AnnotatedImage(image.image_id, *(size or (None, None))))
    if bad_boxes == "error":
        rows.faults.raise_if_any(
            f"{found.path}: {rows.faults.count} of {rows.count} rows are unusable",
            expected="class x_centre y_centre width height [confidence], or class x1 y1 x2 y2 x3 y3 …: a class of "
            "names, shares of the image from 0 to 1",
            fix="mend these rows, or set labelling.bad_boxes: drop to go on without them",
        )
    return Annotations(
        found.path, tuple(found.names.values()), images, rows.table("YOLO boxes"), rows.dropped, rows.n_clipped
    )


def yolo_hash(path: Path) -> str:
    """Changes with the classes, the list of images and every label file.

    Raises:
        DataError, AnnotationError: as `find_yolo`.
    """
    found = find_yolo(path)
    return fingerprint([found.names, [(image.image_id, _label_text(image)) for image in found.images]])


def _label_text(image: YoloImage) -> str | None:
    """The rows of an image, nothing where there is no file; None when it is no text."""
    try:
        return image.labels.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError):
        return None


def _add(rows: BoxRows, found: YoloFiles, image: YoloImage, text: str | None, size: tuple[int, int] | None) -> None:
    where = image.labels.relative_to(found.root).as_posix()
    if text is None:
        rows.refuse("no text file that can be read", where, where)
        return
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        fault: str | tuple[str, list[float]] | None = _row(words, found)
        if isinstance(fault, tuple):
            name, (x, y, width, height) = fault
            if size is None:
                fault = f"the size of its image is not known ({image.path.name} cannot be read)"
            else:
                bbox = [x * size[0], y * size[1], width * size[0], height * size[1]]
                fault = rows.add(image.image_id, name, bbox, size)
        if fault is not None:
            rows.refuse(fault, f"{where}:{number}", f"{where}:{number}")


def _row(words: Sequence[str], found: YoloFiles) -> tuple[str, list[float]] | str:
    """Class and [x1, y1, width, height] in shares of the image, or what is wrong with the row."""
    numbers = [_number(word) for word in words]
    if any(number is None for number in numbers):
        return "not numbers"
    index, *shares = [number for number in numbers if number is not None]
    if not all(map(math.isfinite, (index, *shares))):
        return "NaN or infinity"
    name = found.names.get(int(index)) if index == int(index) else None
    if name is None:
        return "class index that names does not list"
    if any(abs(share) > _FURTHEST for share in shares[:4]):
        return "not in shares of the image (0 to 1)"
    if len(shares) in (4, 5) or (found.with_keypoints and len(shares) > 5):
        x, y, width, height = shares[:4]
        return name, [x - width / 2, y - height / 2, width, height]
    if len(shares) < 6 or len(shares) % 2:
        return "neither a box (5 or 6 numbers) nor a polygon (a class and 3 or more points)"
    xs, ys = shares[0::2], shares[1::2]
    return name, [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
