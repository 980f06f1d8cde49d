"""Annotations of any known format: COCO json, a YOLO data set, a Pascal VOC data set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from poolscout.errors import DataError
from poolscout.formats.coco import read_coco, read_coco_images
from poolscout.formats.content import Annotations, BadBoxes, Sizes, SourceImage
from poolscout.formats.image_files import find_images_root, kind_of
from poolscout.formats.voc import is_voc, read_voc, voc_above, voc_hash, voc_images
from poolscout.formats.yolo import read_yolo, yolo_hash
from poolscout.formats.yolo_files import YAML_NAMES, find_yolo, yaml_above
from poolscout.tables.manifest import file_hash

Format = Literal["coco", "yolo", "voc"]
EXPECTED = "a COCO json, a YOLO data.yaml or its folder, or a VOC folder with Annotations/ (docs/formats.md)"


def tell_format(path: Path) -> Format | None:
    """What `path` surely is, by its name and what lies in it; None for an image folder or anything else.

    .json is COCO; .yaml, .yml or a folder with data.yaml is YOLO; a folder with Annotations/ and JPEGImages/ or
    ImageSets/, or a list in that ImageSets/, is VOC.
    """
    suffix = path.suffix.lower()
    if kind_of(path) == "folder":
        if any(kind_of(path / name) == "file" for name in YAML_NAMES):
            return "yolo"
        return "voc" if is_voc(path) else None
    if suffix in (".yaml", ".yml"):
        return "yolo"
    if suffix == ".txt":
        return None if voc_above(path) is None else "voc"
    return "coco" if suffix == ".json" else None


def format_of(path: Path) -> Format:
    """What `read_annotations` reads `path` as: `tell_format`, or one split of a YOLO data set.

    Raises:
        DataError: nothing there, or no known format.
    """
    known, found, suffix = tell_format(path), kind_of(path), path.suffix.lower()
    if known is not None:
        return known
    if found is not None and (found == "folder" or suffix == ".txt") and yaml_above(path):
        return "yolo"
    if found == "file" and suffix not in (".txt", ".parquet"):
        return "coco"  # whatever its name: the reader says what is wrong with it
    raise DataError(
        f"{path}: no annotations of a known format", got=f"a {found}" if found else "nothing at this path",
        expected=EXPECTED, fix="check the path",
    )  # fmt: skip


def read_annotations(path: Path, *, bad_boxes: BadBoxes = "error", sizes: Sizes | None = None) -> Annotations:
    """Read and check annotations.

    Args:
        path: as `tell_format` knows them; also one split of a YOLO data set: its folder of images or its .txt list.
        bad_boxes: "drop" goes on without unusable boxes and lists them; "error" refuses the source.
        sizes: image_id → (width, height) in px, for images whose size the source does not give.

    Raises:
        DataError: nothing there, no known format, or a file that cannot be read.
        AnnotationError: the structure, a name, a class or a box is wrong; names the first few of each kind.
    """
    read = {"coco": read_coco, "yolo": read_yolo, "voc": read_voc}[format_of(Path(path))]
    return read(Path(path), bad_boxes=bad_boxes, sizes=sizes)


def annotation_images(path: Path, images_root: Path | None = None) -> list[SourceImage]:
    """The images of an annotation source, in its order; their labels are not looked at.

    Args:
        path: as `read_annotations`.
        images_root: the folder that image ids start from, if it is not where the format has it.

    Raises:
        DataError, AnnotationError: as `read_annotations`, for all but boxes; `images_root` is no folder.
    """
    kind = format_of(Path(path))
    if kind == "coco" or images_root is not None:
        root = find_images_root(Path(path), images_root)
    if kind == "coco":
        found = [
            SourceImage(i.image_id, root / i.image_id, i.width, i.height, i.metadata) for i in read_coco_images(path)
        ]
    elif kind == "voc":
        found = voc_images(path)
    else:
        found = [SourceImage(image.image_id, image.path, None, None, {}) for image in find_yolo(path).images]
    return found if images_root is None else [image._replace(path=root / image.image_id) for image in found]


def annotations_hash(path: Path) -> str:
    """Changes with any file that `read_annotations` would read.

    Raises:
        DataError, AnnotationError: as `read_annotations`, for the list of images.
    """
    return {"coco": file_hash, "yolo": yolo_hash, "voc": voc_hash}[format_of(Path(path))](Path(path))
