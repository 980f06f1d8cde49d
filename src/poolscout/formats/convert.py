"""Annotations of one format into another, with their images; what has no place there is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from poolscout.errors import AnnotationError, ConfigError, some
from poolscout.formats import write_voc, write_yolo
from poolscout.formats.annotations import Format, annotation_images, read_annotations
from poolscout.formats.coco import write_coco
from poolscout.formats.content import AnnotatedImage, Annotations, BadBoxes, SourceImage
from poolscout.formats.image_files import Placing, check_there, place_images, upright_size

_IMAGES = {"coco": "images", "yolo": write_yolo.IMAGES, "voc": write_voc.IMAGES}


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        path: what `read_annotations` takes: a COCO json, else the folder.
        n_images: with or without boxes.
        n_boxes: boxes.
        classes: in their order.
        notes: what was cut or left out, for a person to read.
    """

    path: Path
    n_images: int
    n_boxes: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def convert(
    source: Path,
    out: Path,
    to: Format,
    *,
    placing: Placing = "link",
    images_root: Path | None = None,
    bad_boxes: BadBoxes = "error",
) -> Converted:
    """Write the annotations of `source` as another format into a new folder; names and order stay as they are.

    COCO is written to annotations.json beside images/. Where an image can be opened, its own upright size is what
    counts, and a source that says otherwise is refused.

    Args:
        source: as `read_annotations`.
        out: a new or empty folder.
        to: the format to write.
        placing: whether images are linked, copied or left where they are.
        images_root: the folder that image ids start from, if it is not where the format has it.
        bad_boxes: "drop" goes on without unusable boxes and notes them.

    Raises:
        ConfigError: `out` is not empty.
        DataError, AnnotationError: as `read_annotations`; images that are missing or of another size; names that the
            format cannot hold.
        StorageError: the disk is full or refuses.
    """
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else [out.name] if out.exists() else []
    if found:
        raise ConfigError(
            f"{out}: not a new or empty folder", got=some(found), fix="choose another folder",
            expected="a folder that holds nothing yet: files of two data sets would mix",
        )  # fmt: skip
    listed = annotation_images(source, images_root)
    sizes = {image.image_id: size for image in listed if (size := upright_size(image.path))}
    annotations = read_annotations(source, bad_boxes=bad_boxes, sizes=sizes)
    images = _sized(annotations, sizes)
    files = {image.image_id: image.path for image in listed}
    if placing != "none":
        check_there(files)
    boxes, classes, path = annotations.boxes, annotations.classes, out
    if to == "coco":
        path = out / "annotations.json"
        write_coco(path, images, boxes, classes, info=annotations.info)
    elif to == "yolo":
        write_yolo.write_yolo(out, images, boxes, classes)
    else:
        write_voc.write_voc(out, images, boxes, classes)
    if placing != "none":
        place_images(out / _IMAGES[to], files, placing)
    notes = annotations.notes if to == "coco" else (*annotations.notes, *_without_place(listed, to))
    return Converted(path, len(images), boxes.num_rows, classes, notes)


def _sized(annotations: Annotations, sizes: dict[str, tuple[int, int]]) -> Sequence[AnnotatedImage]:
    images, other = [], []
    for image in annotations.images:
        said, size = (image.width, image.height), sizes.get(image.image_id, (image.width, image.height))
        if any(a is not None and a != b for a, b in zip(said, size, strict=True)):
            other.append(f"{image.image_id} is {size[0]}×{size[1]}, annotated as {said[0]}×{said[1]}")
        images.append(replace(image, width=size[0], height=size[1]))
    if other:
        raise AnnotationError(
            f"{annotations.path}: {len(other)} images are of another size than annotated", got=some(other),
            expected="the size of the upright image, px", fix="use the images that were annotated, or mend the sizes",
        )  # fmt: skip
    return images


def _without_place(images: Sequence[SourceImage], to: Format) -> list[str]:
    names = dict.fromkeys(name for image in images for name in image.metadata)
    return [f"{to} has no place for the images' {some(names, 20)}: left out"] if names else []
