"""Detections of somebody else's detector: names looked up, every value checked, boxes cut at their images' borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from poolscout.errors import AnnotationError, ConfigError, DataError, NonFiniteError, nearest, some
from poolscout.formats.document import load_document, read_categories, read_images
from poolscout.formats.prediction_files import RawBoxes, read_raw
from poolscout.tables.declared import ENSEMBLE
from poolscout.tables.manifest import fingerprint, rows_digest


@dataclass(frozen=True)
class Names:
    """What the ids in a file of predictions mean.

    Attributes:
        images: text, the image_ids of the source, also of images that could not be used.
        aliases: what else a file may call an image, its number or file name in a COCO file → its image_id.
        categories: category id → class name; empty: a category id is the class's name.
        classes: all there are, in the order of class_probabilities; None: those that boxes have.
    """

    images: pa.ChunkedArray
    aliases: Mapping[Any, str]
    categories: Mapping[Any, str]
    classes: tuple[str, ...] | None

    @property
    def fingerprint(self) -> str:
        """Digest of what every id means."""
        ids = rows_digest(pa.table({"image_id": self.images}))
        return fingerprint([ids, list(self.aliases.items()), list(self.categories.items()), self.classes])

    def meant(self, called: pa.Array) -> tuple[pa.Array, np.ndarray]:
        """What images in a file are called → their image_ids, and which of them the source does not list."""
        if self.aliases:
            own = [name if isinstance(name, str) else None for name in called.to_pylist()]
            meant = [self.aliases.get(name, own) for name, own in zip(called.to_pylist(), own, strict=True)]
            called = pa.array(meant, pa.string())
        if pa.types.is_large_string(called.type) or pa.types.is_string_view(called.type):
            called = called.cast(pa.string())
        if not pa.types.is_string(called.type):
            return called, np.ones(len(called), bool)
        return called, ~pc.is_in(called, value_set=self.images).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class Predictions:
    """Predicted boxes of a pool, in an order that does not depend on the files': by image, member, most probable first.

    Attributes:
        name: for messages: "the detections in a.json".
        classes: class names.
        members: the members' numbers, as in the detection table; -1 alone: boxes of an ensemble as a whole.
        images: row of the pool.
        member: position in `members`.
        boxes_xyxy_px: inside the upright image, of positive size.
        class_index: position in `classes`.
        probabilities: 0…1, as brought.
        class_probabilities: of each class at the box's place, where every file has them.
        notes: what was left out, for a person to read.
    """

    name: str
    classes: tuple[str, ...]
    members: tuple[int, ...]
    images: Int[np.ndarray, " k"]
    member: Int[np.ndarray, " k"]
    boxes_xyxy_px: Float[np.ndarray, "k 4"]
    class_index: Int[np.ndarray, " k"]
    probabilities: Float[np.ndarray, " k"]
    class_probabilities: Float[np.ndarray, "k classes"] | None
    notes: tuple[str, ...] = ()

    def take(self, which: np.ndarray) -> Predictions:
        """The boxes at some positions, or where a mask is true."""
        lists = self.class_probabilities
        return replace(
            self,
            images=self.images[which],
            member=self.member[which],
            boxes_xyxy_px=self.boxes_xyxy_px[which],
            class_index=self.class_index[which],
            probabilities=self.probabilities[which],
            class_probabilities=None if lists is None else lists[which],
        )


def names_of(image_ids: pa.ChunkedArray, coco: Path | None = None, classes: Sequence[str] | None = None) -> Names:
    """What ids may say about a pool.

    Args:
        image_ids: text, every image of the source, also those that could not be used.
        coco: the COCO file that the pool comes from: its ids of images and categories then count too.
        classes: names in the order of class_probabilities; default: the file's categories.

    Raises:
        DataError, AnnotationError: the COCO file cannot be read, or its images or categories are wrong.
    """
    aliases: dict[Any, str] = {}
    categories: dict[Any, str] = {}
    if coco is not None:
        document = load_document(coco)
        entries = list(zip(document["images"], read_images(coco, document), strict=True))
        aliases |= {entry["file_name"]: image_id for entry, (image_id, *_) in entries}
        aliases |= {entry["id"]: image_id for entry, (image_id, *_) in entries}  # an id wins over a name
        categories = read_categories(coco, document) if document.get("categories") else {}
    return Names(image_ids, aliases, categories, tuple(classes or categories.values()) or None)


def read_predictions(paths: Sequence[Path], pool: pa.Table, names: Names) -> Predictions:
    """Read one file of a single detector or with a column `member`, or one file for each member.

    Args:
        paths: COCO results (json), Parquet with the columns of either layout, or folders with a detection table.
        pool: POOL table: image_id and the size in px of each image that is scored.
        names: what ids mean; boxes of images that it knows and the pool lacks are left out and counted.

    Raises:
        DataError: unreadable, neither layout, no boxes at all, or scores outside 0…1.
        AnnotationError: unknown images or classes, empty cells, negative sides, class_probabilities that are none.
        NonFiniteError: NaN or infinity; names the images.
        ConfigError: class_probabilities of unknown order, a file given twice, members in several files and columns.
        TableError: a folder without parts of a detection table.
    """
    twice = [path for number, path in enumerate(paths) if path.resolve() in [p.resolve() for p in paths[:number]]]
    if twice:
        raise ConfigError(
            "the same detections are given twice", got=some(twice), expected="one file for each member",
            fix="give each file once",
        )  # fmt: skip
    raw = [read_raw(path, names.classes, prefer_ids=bool(names.categories)) for path in paths]
    name = f"the detections in {some([path.name for path in paths])}"
    if not sum(len(one.probabilities) for one in raw):
        raise DataError(f"{name}: no boxes", got="0 boxes", expected="at least one", fix="check the file")
    numbers, member = _members(raw)
    images, labels = zip(*[(_images(one, pool, names), _labels(one, names)) for one in raw], strict=True)
    classes = names.classes or tuple(sorted({label for _, known in labels for label in known}))
    lists = [one.class_probabilities for one in raw if one.class_probabilities is not None]
    boxes, seen = zip(*[_cut(one, at, pool) for one, at in zip(raw, images, strict=True)], strict=True)
    every = Predictions(
        name,
        classes,
        numbers,
        np.concatenate(images),
        np.concatenate(member),
        np.concatenate(boxes),
        np.concatenate([np.array([classes.index(k) for k in known], np.int64)[at] for at, known in labels]),
        np.concatenate([one.probabilities.astype(np.float32) for one in raw]),
        np.concatenate(lists) if len(lists) == len(raw) else None,
    )
    in_pool, visible = every.images >= 0, np.concatenate(seen)
    told = (
        (int((~in_pool).sum()), "boxes of images in the quarantine were left out"),
        (int((in_pool & ~visible).sum()), "boxes that lie outside their image, or have no area, were left out"),
    )
    notes = tuple(f"{name}: {count} {what}" for count, what in told if count)
    return _sorted(replace(every.take(in_pool & visible), notes=notes))


def _sorted(found: Predictions) -> Predictions:
    keys = (*found.boxes_xyxy_px.T, found.class_index, -found.probabilities, found.member, found.images)
    return found.take(np.lexsort(keys))


def _members(raw: Sequence[RawBoxes]) -> tuple[tuple[int, ...], list[np.ndarray]]:
    """The members' numbers, and each box's position among them, file by file."""
    own = [np.zeros(1, np.int32) if one.members is None else np.unique(one.members) for one in raw]
    if len(raw) > 1:
        for one, numbers in zip(raw, own, strict=True):
            if len(numbers) > 1:
                raise ConfigError(
                    "members are told apart by files and by a column 'member' at once",
                    got=f"{len(raw)} files, and members {some(numbers)} in {one.path}",
                    expected="one file for each member, or one file with a column 'member'",
                    fix="give this file alone, or one file for each of its members",
                )
        return tuple(range(len(raw))), [np.full(len(one.probabilities), i) for i, one in enumerate(raw)]
    (one,), (numbers,) = raw, own
    if numbers.min() < 0 and numbers.tolist() != [ENSEMBLE]:
        raise AnnotationError(
            f"{one.path}: members below 0", got=f"members {some(numbers)}",
            expected=f"numbers from 0; or {ENSEMBLE} alone, for boxes of the ensemble as a whole",
            fix="leave out the boxes of the ensemble, or those of its members",
        )  # fmt: skip
    member = np.zeros(len(one.probabilities), np.int64)
    return tuple(numbers.tolist()), [member if one.members is None else np.searchsorted(numbers, one.members)]


def _images(one: RawBoxes, pool: pa.Table, names: Names) -> np.ndarray:
    """Each box's row in the pool, -1 where the pool lacks its image; checks the values image by image."""
    at, called = _encoded(one.image_ids)
    ids, is_unknown = names.meant(called)
    if is_unknown.any():
        unknown = called.filter(pa.array(is_unknown)).to_pylist()
        example = names.images[0].as_py() if len(names.images) else None
        raise AnnotationError(
            f"{one.path}: boxes of {len(unknown)} images that the source does not list",
            got=some(map(repr, unknown)),
            expected=f"image_id: one of {len(names.images)} such as {example!r}",
            fix=nearest(str(unknown[0]), names.images.slice(0, 10_000).to_pylist())
            or "use the source's ids or file names",
        )  # fmt: skip
    _check_values(one, at, ids)
    rows = pc.index_in(ids, value_set=pool["image_id"])
    return rows.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)[at]


def _labels(one: RawBoxes, names: Names) -> tuple[np.ndarray, list[str]]:
    """Each box's class as a position in a list of names."""
    at, values = _encoded(one.labels)
    called = values.to_pylist()
    if one.labels_are_ids and names.categories:
        unknown = [label for label in called if label not in names.categories]
        expected = some([f"{key!r} ({name})" for key, name in names.categories.items()], 9)
        known = [names.categories.get(label, "") for label in called]
    else:
        known = [str(int(label) if isinstance(label, float) and label.is_integer() else label) for label in called]
        allowed = set(known if names.classes is None else names.classes)
        unknown = [name for name in known if name not in allowed or not name.isprintable() or not name.strip()]
        expected = "printable names" if names.classes is None else some(names.classes, 9)
    if unknown:
        what = "category ids" if one.labels_are_ids else "classes"
        raise AnnotationError(
            f"{one.path}: boxes of unknown {what}", got=some(map(repr, unknown)), expected=expected,
            fix="leave these boxes out, or name all classes of the detector: --set 'labelling.classes=[…]'"
            if not (one.labels_are_ids and names.categories) else "use the category ids of the source",
        )  # fmt: skip
    return at, known


def _encoded(values: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Positions in the list of different values, and that list."""
    encoded = pa.chunked_array(values.dictionary_encode().chunks, pa.dictionary(pa.int32(), values.type))
    if not len(encoded):
        return np.zeros(0, np.int64), pa.array([], values.type)
    whole = encoded.unify_dictionaries()
    at = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in whole.chunks])
    return at.astype(np.int64), whole.chunk(0).dictionary


def _check_values(one: RawBoxes, at: Int[np.ndarray, " k"], ids: pa.Array) -> None:
    def who(bad: Any) -> str:
        return some(ids.take(pa.array(np.unique(at[bad]))).to_pylist())

    p, boxes, lists = one.probabilities, one.boxes_xyxy_px, one.class_probabilities
    numbers = [boxes, p[:, None], *([] if lists is None else [lists])]
    bad = ~np.logical_and.reduce([np.isfinite(values).all(1) for values in numbers])
    if bad.any():
        raise NonFiniteError(
            f"{one.path}: NaN or infinity in {int(bad.sum())} boxes", got=f"images {who(bad)}",
            expected="finite boxes and scores", fix="look at these images and at the detector",
        )  # fmt: skip
    outside = (p < 0) | (p > 1)
    if outside.any():
        raise DataError(
            f"{one.path}: {int(outside.sum())} scores are no probabilities",
            got=f"{p.min():.4g} to {p.max():.4g}; images {who(outside)}", expected="0 to 1",
            fix="apply the sigmoid (logits) or divide by 100 (percent) first",
        )  # fmt: skip
    turned = (boxes[:, 2:] < boxes[:, :2]).any(1)
    if turned.any():
        raise AnnotationError(
            f"{one.path}: {int(turned.sum())} boxes with a negative side", got=f"images {who(turned)}",
            expected="width and height not below 0, in px", fix="mend these boxes: is this another box format?",
        )  # fmt: skip
    if lists is not None and ((lists < 0) | (lists > 1)).any():
        raise AnnotationError(
            f"{one.path}: class_probabilities that are no probabilities",
            got=f"{lists.min():.4g} to {lists.max():.4g}; images {who(((lists < 0) | (lists > 1)).any(1))}",
            expected="0 to 1",
            fix="apply the sigmoid or softmax first",
        )  # fmt: skip


def _cut(one: RawBoxes, images: Int[np.ndarray, " k"], pool: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Boxes cut at the image's border, float32 [k, 4], and which of them have an area left."""
    sides = np.stack([pool[name].to_numpy() for name in ("width", "height")] * 2, axis=1).astype(np.float64)
    boxes = np.clip(one.boxes_xyxy_px, 0, sides[images]).astype(np.float32)
    return boxes, (boxes[:, 2:] > boxes[:, :2]).all(1)
