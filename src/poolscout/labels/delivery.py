"""Labels that come back from people: read, checked against the pool, added to the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import AnnotationError, nearest
from poolscout.formats.coco import CocoFile, CocoImage, read_coco
from poolscout.formats.faults import Faults
from poolscout.labels.request import guesses_digest, link_name
from poolscout.labels.store import Labels, LabelStore, sizes_of


@dataclass(frozen=True)
class Receipt:
    """What a delivery brought.

    Attributes:
        delivery: its number in the store.
        n_images: labelled images in it.
        n_boxes: boxes in it.
        n_replaced: images that had labels before.
        unasked: images that nobody had asked for.
        missing: images asked for that still have no labels.
        notes: what was left out or cut, for a person to read.
    """

    delivery: int
    n_images: int
    n_boxes: int
    n_replaced: int
    unasked: list[str]
    missing: list[str]
    notes: tuple[str, ...]


def add_delivery(
    store: LabelStore,
    file: Path,
    pool: pa.Table,
    classes: Sequence[str],
    *,
    asked: Collection[str] = (),
    bad_boxes: Literal["error", "drop"] = "error",
    allow_empty: bool = False,
) -> Receipt:
    """Check a delivered COCO file and add it to the store; nothing is stored unless all of it is right.

    Args:
        asked: image ids that labels were asked for.

    Raises:
        DataError, AnnotationError: as `read_delivery`.
    """
    labels = read_delivery(file, pool, classes, bad_boxes=bad_boxes, allow_empty=allow_empty)
    before = set(store.current().labelled["image_id"].to_pylist())
    new = labels.labelled["image_id"].to_pylist()
    number = store.add(labels, Path(file).name)
    return Receipt(
        delivery=number,
        n_images=len(new),
        n_boxes=labels.boxes.num_rows,
        n_replaced=len(before & set(new)),
        unasked=sorted(set(new) - set(asked)),
        missing=sorted(set(asked) - before - set(new)),
        notes=labels.notes,
    )


def read_delivery(
    file: Path,
    pool: pa.Table,
    classes: Sequence[str],
    *,
    bad_boxes: Literal["error", "drop"] = "error",
    allow_empty: bool = False,
) -> Labels:
    """Read a COCO file of labels for images of `pool`. Every image it lists counts as labelled, also without boxes.

    Args:
        file: COCO json; images are named by image_id or by their name in the folder of links.
        pool: POOL table.
        classes: the run's classes.
        bad_boxes: "drop" goes on without unusable boxes and notes them.
        allow_empty: take a file without any box: these images show no object.

    Raises:
        DataError: there is no such file, or it is not json.
        AnnotationError: images that are not in the pool, of another size or listed twice, unknown classes, boxes
            outside, no images, no boxes at all, or the run's own pre-annotations.
    """
    sizes = sizes_of(pool)
    by_link = {link_name(image_id): image_id for image_id in sizes}
    coco = read_coco(file, bad_boxes=bad_boxes, sizes={**sizes, **{link: sizes[i] for link, i in by_link.items()}})
    if coco.boxes.num_rows and coco.info.get("poolscout_guesses") == guesses_digest(coco.boxes):
        raise AnnotationError(
            f"{file}: these are the ensemble's guesses, not labels", got="the pre-annotations that poolscout wrote",
            expected="what a person exported from a label tool", fix="correct them in a label tool and export",
        )  # fmt: skip
    if not coco.images or (coco.boxes.num_rows == 0 and not allow_empty):
        raise AnnotationError(
            f"{file}: a delivery without any box" if coco.images else f"{file}: a delivery without images",
            got=f"{len(coco.images)} images, 0 boxes", expected="labelled images",
            fix="check the export; if these images really show no object, add --allow-empty",
        )  # fmt: skip
    names = {image.image_id: _image_id(image.image_id, sizes, by_link) for image in coco.images}
    _check_images(coco, names, sizes)
    _check_classes(coco, classes)
    image_ids = pa.array([names[name] for name in coco.boxes["image_id"].to_pylist()], pa.string())
    boxes = coco.boxes.set_column(0, "image_id", image_ids)
    return Labels.build([str(name) for name in names.values()], boxes, Path(file).name, coco.notes)


def _image_id(name: str, known: Collection[str], by_link: dict[str, str]) -> str | None:
    return name if name in known else by_link.get(name)


def _check_images(coco: CocoFile, names: dict[str, str | None], sizes: dict[str, tuple[int, int]]) -> None:
    faults, seen = Faults(), set[str]()
    for image in coco.images:
        image_id = names[image.image_id]
        if image_id is None:
            faults.add("not in the pool", image.image_id)
        elif image_id in seen:
            faults.add("listed twice", image_id)
        elif not _fits(image, sizes[image_id]):
            width, height = sizes[image_id]
            faults.add("another size", f"{image_id} is {width}×{height}, delivered as {image.width}×{image.height}")
        else:
            seen.add(image_id)
    unknown = next((name for name, image_id in names.items() if image_id is None), None)
    faults.raise_if_any(
        f"{coco.path}: {faults.count} of {len(coco.images)} images are not this pool's",
        expected="images named by their image_id or their name in the folder of links, in the pool's size",
        fix=(unknown and _closest(unknown, sizes)) or "export the images that were asked for, unscaled",
    )


def _fits(image: CocoImage, size: tuple[int, int]) -> bool:
    return image.width in (None, size[0]) and image.height in (None, size[1])


def _closest(name: str, known: Collection[str]) -> str:
    same = [image_id for image_id in known if PurePosixPath(image_id).name == PurePosixPath(name).name]
    return nearest(name, same[:1] or list(known)[:20_000])  # the search is slow: seconds for a large pool


def _check_classes(coco: CocoFile, classes: Sequence[str]) -> None:
    used = pc.value_counts(coco.boxes["class"]).to_pylist()
    unknown = {row["values"]: row["counts"] for row in used if row["values"] not in classes}
    if unknown:
        first = next(iter(unknown))
        raise AnnotationError(
            f"{coco.path}: boxes of classes that this run does not learn",
            got=", ".join(f"{name} ({count} boxes)" for name, count in unknown.items()), expected=", ".join(classes),
            fix=nearest(first, classes) or "rename the class in the label tool, or leave its boxes out",
        )  # fmt: skip
