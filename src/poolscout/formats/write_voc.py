"""Pascal VOC out: Annotations/, ImageSets/Main/train.txt in the given order, labelmap.txt."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from poolscout.formats.content import AnnotatedImage, is_class_name, rows_by_image, safe_name
from poolscout.formats.faults import Faults
from poolscout.formats.voc import LABEL_MAP
from poolscout.tables.atomic import write_text

IMAGES = "JPEGImages"
LIST = "ImageSets/Main/train.txt"


def write_voc(folder: Path, images: Sequence[AnnotatedImage], boxes: pa.Table, classes: Sequence[str]) -> None:
    """Write one XML file an image, the list of images and that of classes; each file whole or not at all.

    Images keep their names, folders included: `a/b.jpg` is JPEGImages/a/b.jpg with Annotations/a/b.xml, and a/b in the
    list. xmin = x1 + 1, ymin = y1 + 1, xmax = x2, ymax = y2, with 9 digits, so that whole pixels stay whole numbers
    and a box read back is where it was to less than 0.001 px.

    Args:
        folder: made when missing.
        images: in this order in the list; their own metadata has no place here.
        boxes: BOXES table.
        classes: in this order in labelmap.txt.

    Raises:
        AnnotationError: a box of an image or class that is not given, names that the files cannot hold, two images
            that would share an XML file.
        StorageError: the disk is full or refuses.
    """
    by_image = rows_by_image(folder, images, boxes, classes)
    _check_names(folder, images, classes)
    stems = [str(PurePosixPath(image.image_id).with_suffix("")) for image in images]
    for image, stem in zip(images, stems, strict=True):
        element = _annotation(image, by_image[image.image_id])
        ET.indent(element, "\t")
        write_text(folder / "Annotations" / f"{stem}.xml", ET.tostring(element, encoding="unicode") + "\n")
    head = "# label:color_rgb:parts:actions\n"
    write_text(folder / LABEL_MAP, head + "".join(f"{name}:::\n" for name in classes))
    write_text(folder / LIST, "".join(f"{stem}\n" for stem in stems))


def _check_names(folder: Path, images: Sequence[AnnotatedImage], classes: Sequence[str]) -> None:
    faults, taken = Faults(), dict[str, str]()
    for name in classes:
        if not is_class_name(name) or not _survives(name):
            faults.add("a class name that XML or a list cannot hold", ascii(name))
    for image_id in (image.image_id for image in images):
        stem = str(PurePosixPath(image_id).with_suffix(""))
        if safe_name(image_id) != image_id or "\\" in image_id or not _survives(image_id) or not _survives(stem):
            faults.add("an image name that XML or a list cannot hold", ascii(image_id))
        elif stem == image_id:
            faults.add("an image name without suffix", image_id)
        elif stem in taken:
            faults.add("two images of one XML file", f"{taken[stem]} and {image_id}")
        taken.setdefault(stem, image_id)
    faults.raise_if_any(
        f"{folder}: {faults.count} names cannot be written as VOC",
        expected="relative names without white space at the ends, each with a stem of its own in its folder",
        fix="rename these, or write COCO",
    )


def _survives(name: str) -> bool:
    return name == name.strip() and re.search("[\ufffe\uffff]", name) is None


def _annotation(image: AnnotatedImage, rows: Sequence[dict[str, Any]]) -> ET.Element:
    annotation = ET.Element("annotation")
    _add(annotation, folder=IMAGES, filename=image.image_id)
    if image.width and image.height:
        _add(ET.SubElement(annotation, "size"), width=image.width, height=image.height, depth=3)
    _add(annotation, segmented=0)
    for row in rows:
        element = ET.SubElement(annotation, "object")
        _add(element, name=row["class"], pose="Unspecified", truncated=0, difficult=0)
        corners = (row["x1_px"] + 1, row["y1_px"] + 1, row["x2_px"], row["y2_px"])
        named = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        _add(ET.SubElement(element, "bndbox"), **{name: f"{value:.9g}" for name, value in named})
    return annotation


def _add(element: ET.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ET.SubElement(element, tag).text = str(text)
