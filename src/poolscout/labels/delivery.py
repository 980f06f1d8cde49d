"""Labels that come back from people: read, checked against the pool, added to the store."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import AnnotationError, nearest
from poolscout.formats.annotations import read_annotations
from poolscout.formats.content import AnnotatedImage, Annotations, Sizes
from poolscout.formats.faults import Faults
from poolscout.formats.lookup import Rows, in_order
from poolscout.labels.request import guesses_digest, link_name
from poolscout.labels.store import Labels, LabelStore, sizes_of

_BATCH_ROWS = 10_000
_SPLIT = re.compile(r"^(train|val|valid|test)/(images/)?")  # label tools sort what they export into splits


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
    """Check delivered annotations and add them to the store; nothing is stored unless all of it is right.

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
    """Read labels for images of `pool`. Every image that the annotations list counts as labelled, also without boxes.

    Args:
        file: annotations (COCO, YOLO or VOC); images are named by image_id or by their name in the folder of links,
            or so below the folder of a split (train, val, test).
        pool: POOL table.
        classes: the run's classes.
        bad_boxes: "drop" goes on without unusable boxes and notes them.
        allow_empty: take a file without any box: these images show no object.

    Raises:
        DataError: there are no such annotations, or they cannot be read.
        AnnotationError: images that are not in the pool, of another size or listed twice, unknown classes, boxes
            outside, no images, no boxes at all, or the run's own pre-annotations.
    """
    known = _PoolNames(pool)
    delivered = read_annotations(file, bad_boxes=bad_boxes, sizes=known)
    if delivered.boxes.num_rows and delivered.info.get("poolscout_guesses") == guesses_digest(delivered.boxes):
        raise AnnotationError(
            f"{file}: these are the ensemble's guesses, not labels", got="the pre-annotations that poolscout wrote",
            expected="what a person exported from a label tool", fix="correct them in a label tool and export",
        )  # fmt: skip
    if not delivered.images or (delivered.boxes.num_rows == 0 and not allow_empty):
        raise AnnotationError(
            f"{file}: a delivery without any box" if delivered.images else f"{file}: a delivery without images",
            got=f"{len(delivered.images)} images, 0 boxes", expected="labelled images",
            fix="check the export; if these images really show no object, add --allow-empty",
        )  # fmt: skip
    names = {image.image_id: known.image_id(image.image_id) for image in delivered.images}
    _check_images(delivered, names, known.sizes)
    _check_classes(delivered, classes)
    image_ids = pa.array([names[name] for name in delivered.boxes["image_id"].to_pylist()], pa.string())
    boxes = delivered.boxes.set_column(0, "image_id", image_ids)
    return Labels.build([str(name) for name in names.values()], boxes, Path(file).name, delivered.notes)


class _PoolNames(Mapping[str, tuple[int, int]]):
    """(width, height) in px under every name that an image of the pool may be delivered with.

    That is its image_id or its name in the folder of links, each also below the folder of a split.
    """

    def __init__(self, pool: pa.Table) -> None:
        self.sizes, self._pool = sizes_of(pool), pool.select(["image_id", "uri"])

    @cached_property
    def _links(self) -> tuple[Rows, pa.ChunkedArray]:
        """The rows of names in the folder of links, and the image ids there; made where a name is no image_id."""
        batches = (batch.to_pydict().values() for batch in self._pool.to_batches(max_chunksize=_BATCH_ROWS))
        links = pa.chunked_array([pa.array(map(link_name, *columns), pa.string()) for columns in batches], pa.string())
        table = in_order(pa.table({"link": links, "image_id": self._pool["image_id"]}), "link")
        return Rows(table["link"]), table["image_id"]

    def image_id(self, name: str) -> str | None:
        """The image of the pool that a name stands for."""
        for told in (name, _SPLIT.sub("", name)):
            if told in self.sizes:
                return told
            links, image_ids = self._links
            if (row := links.get(told)) is not None:
                return image_ids[row].as_py()
        return None

    def __getitem__(self, name: str) -> tuple[int, int]:
        image_id = self.image_id(name)
        if image_id is None:
            raise KeyError(name)
        return self.sizes[image_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def _check_images(delivered: Annotations, names: dict[str, str | None], sizes: Sizes) -> None:
    faults, seen = Faults(), set[str]()
    for image in delivered.images:
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
    are_others = len(names) > 1 and not any(names.values())  # one name may be misspelt
    faults.raise_if_any(
        f"{delivered.path}: {faults.count} of {len(delivered.images)} images are not this pool's",
        expected="images named by their image_id or their name in the folder of links, in the pool's size",
        fix=(unknown and _closest(unknown, sizes, are_others)) or "export the images that were asked for, unscaled",
    )


def _fits(image: AnnotatedImage, size: tuple[int, int]) -> bool:
    return image.width in (None, size[0]) and image.height in (None, size[1])


def _closest(name: str, known: Collection[str], are_others: bool) -> str:
    same = [image_id for image_id in known if PurePosixPath(image_id).name == PurePosixPath(name).name]
    if are_others and not same:
        return "none of its images is in the pool: the file seems to be of another data set; check FILE and --run"
    return nearest(name, same[:1] or list(islice(known, 20_000)))  # the search is slow: seconds for a large pool


def _check_classes(delivered: Annotations, classes: Sequence[str]) -> None:
    used = pc.value_counts(delivered.boxes["class"]).to_pylist()
    unknown = {row["values"]: row["counts"] for row in used if row["values"] not in classes}
    if unknown:
        first = next(iter(unknown))
        raise AnnotationError(
            f"{delivered.path}: boxes of classes that this run does not learn",
            got=", ".join(f"{name} ({count} boxes)" for name, count in unknown.items()), expected=", ".join(classes),
            fix=nearest(first, classes) or "rename the class in the label tool, or leave its boxes out",
        )  # fmt: skip
