"""The label store: immutable deliveries, each with its source; the later one counts, image by image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import CorruptPartError, DataError, RunError, some
from poolscout.formats.lookup import Rows, in_order
from poolscout.tables.declared import BOXES, LABELLED
from poolscout.tables.manifest import file_hash, fingerprint
from poolscout.tables.parquet import read_table, write_table

_BOX_COLUMNS = ("x1_px", "y1_px", "x2_px", "y2_px")


@dataclass(frozen=True)
class Labels:
    """Labelled images and their boxes.

    Attributes:
        labelled: LABELLED table, one row per labelled image, also where nothing is to be seen.
        boxes: BOXES table of these images.
        notes: what a person should hear about how these labels were read; empty for stored ones.
    """

    labelled: pa.Table
    boxes: pa.Table
    notes: tuple[str, ...] = ()

    @classmethod
    def build(cls, image_ids: Sequence[str], boxes: pa.Table, source: str, notes: Sequence[str] = ()) -> Labels:
        """Labels of exactly `image_ids`, sorted by them; `boxes` of other images are left out.

        Raises:
            DataError: an image is listed twice.
        """
        ids = sorted(image_ids)
        twice = sorted({a for a, b in pairwise(ids) if a == b})
        if twice:
            raise DataError(
                f"{source}: images are labelled twice", got=some(twice), expected="each image once",
                fix="keep one entry of each image",
            )  # fmt: skip
        id_array = pa.array(ids, pa.string())
        kept = _sorted_by_image(boxes.filter(pc.is_in(boxes["image_id"], id_array)))
        counts = {row["values"]: row["counts"] for row in pc.value_counts(kept["image_id"]).to_pylist()}
        labelled = pa.table({
            "image_id": id_array,
            "n_boxes": pa.array([counts.get(image_id, 0) for image_id in ids], pa.int32()),
            "delivery": pa.array([0] * len(ids), pa.int32()),
            "source": pa.array([source] * len(ids), pa.string()),
        })  # fmt: skip
        return cls(LABELLED.check(labelled, source), BOXES.check(kept, source), tuple(notes))

    def by_image(self, classes: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """image_id → boxes (xyxy, px) float32 [k, 4] and class indices int64 [k], for every labelled image.

        Boxes of classes that are not in `classes` are left out.
        """
        index = {name: number for number, name in enumerate(classes)}
        known = self.boxes.filter(pc.is_in(self.boxes["class"], pa.array(list(classes), pa.string())))
        ids = known["image_id"].to_numpy()
        corners = np.stack([known[name].to_numpy() for name in _BOX_COLUMNS], axis=1).astype(np.float32)
        numbers = np.array([index[name] for name in known["class"].to_pylist()], np.int64)
        order = np.argsort(ids, kind="stable")
        ids, corners, numbers = ids[order], corners[order], numbers[order]
        wanted = np.array(self.labelled["image_id"].to_pylist(), object)
        starts, ends = np.searchsorted(ids, wanted, "left"), np.searchsorted(ids, wanted, "right")
        return {
            image_id: (corners[start:end], numbers[start:end])
            for image_id, start, end in zip(wanted, starts, ends, strict=True)
        }


class LabelStore:
    """Deliveries in a folder: `boxes-N.parquet`, then `labelled-N.parquet`, whose arrival makes delivery N count.

    Args:
        folder: made with the first delivery.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @property
    def version(self) -> int:
        """How many deliveries there are; version v is what deliveries 0 to v−1 say together.

        Raises:
            CorruptPartError: one in the middle is gone.
        """
        names = [re.fullmatch(r"labelled-([0-9]{5})\.parquet", path.name) for path in self.folder.glob("labelled-*")]
        numbers = sorted(int(match[1]) for match in names if match)
        if numbers != list(range(len(numbers))):
            gone = sorted(set(range(numbers[-1])) - set(numbers))
            raise CorruptPartError(
                f"{self.folder}: deliveries are missing", got=f"numbers {some(numbers, 10)}",
                expected="numbers from 0 without gaps", fix=f"bring back delivery {some(gone)}",
            )  # fmt: skip
        return len(numbers)

    def paths(self, delivery: int) -> list[Path]:
        """The two files of a delivery, in the order they are written."""
        return [self.folder / f"{name}-{delivery:05d}.parquet" for name in ("boxes", "labelled")]

    def add(self, labels: Labels, source: str, *, delivery: int | None = None) -> int:
        """Store a delivery and return its number.

        Args:
            labels: what was labelled.
            source: who labelled, stored with every image.
            delivery: its number, for a caller that may repeat itself; None = the next free one.

        Raises:
            RunError: delivery `delivery` is there already and says something else.
            TableError, StorageError: the tables are not as declared, or the disk refuses.
        """
        number = self.version if delivery is None else delivery
        n = labels.labelled.num_rows
        stamped = labels.labelled.select(["image_id", "n_boxes"])
        stamped = stamped.append_column("delivery", pa.array([number] * n, pa.int32()))
        stamped = LABELLED.check(stamped.append_column("source", pa.array([source] * n, pa.string())), source)
        boxes_path, labelled_path = self.paths(number)
        if labelled_path.exists() and not boxes_path.exists() and read_table(labelled_path, LABELLED).equals(stamped):
            write_table(boxes_path, BOXES, labels.boxes)  # lost since: the delivery itself is known to be this one
        if labelled_path.exists():
            if self._same(number, stamped, labels.boxes):
                return number
            raise RunError(
                f"{labelled_path}: delivery {number} is there already and says something else",
                got=f"{n} images, {labels.boxes.num_rows} boxes", expected="a new delivery: old ones never change",
                fix="add the labels as a further delivery",
            )  # fmt: skip
        write_table(boxes_path, BOXES, labels.boxes)
        write_table(labelled_path, LABELLED, stamped)
        return number

    def current(self, version: int | None = None) -> Labels:
        """What is known after the first `version` deliveries (None = all), sorted by image_id.

        Raises:
            TableError: a delivery is missing or damaged.
        """
        latest, boxes = [LABELLED.empty()], [BOXES.empty()]
        for number in reversed(range(self.version if version is None else version)):
            boxes_path, labelled_path = self.paths(number)
            labelled = read_table(labelled_path, LABELLED)
            known = pa.concat_tables(latest)["image_id"]
            new = labelled.filter(pc.invert(pc.is_in(labelled["image_id"], known.combine_chunks())))
            theirs = read_table(boxes_path, BOXES)
            latest.append(new)
            boxes.append(theirs.filter(pc.is_in(theirs["image_id"], new["image_id"].combine_chunks())))
        return Labels(_sorted_by_image(pa.concat_tables(latest)), _sorted_by_image(pa.concat_tables(boxes)))

    def digest(self, version: int | None = None) -> str:
        """SHA-256 over the files of the first `version` deliveries (None = all)."""
        numbers = range(self.version if version is None else version)
        return fingerprint([file_hash(path) for number in numbers for path in self.paths(number)])

    def _same(self, number: int, labelled: pa.Table, boxes: pa.Table) -> bool:
        boxes_path, labelled_path = self.paths(number)
        return read_table(labelled_path, LABELLED).equals(labelled) and read_table(boxes_path, BOXES).equals(
            BOXES.check(boxes, str(boxes_path))
        )


def sizes_of(pool: pa.Table) -> Mapping[str, tuple[int, int]]:
    """image_id → (width, height) of the upright image, px; looked up in the table."""
    return _Sizes(pool)


class _Sizes(Mapping[str, tuple[int, int]]):
    def __init__(self, pool: pa.Table) -> None:
        images = in_order(pool.select(["image_id", "width", "height"]), "image_id")
        self._rows, self._sides = Rows(images["image_id"]), (images["width"], images["height"])

    def __getitem__(self, image_id: str) -> tuple[int, int]:
        row = self._rows[image_id]
        width, height = (side[row].as_py() for side in self._sides)
        return width, height

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _sorted_by_image(table: pa.Table) -> pa.Table:
    """Rows by image_id; those of one image keep their order (Arrow's own sort promises no order there)."""
    ids = table["image_id"].to_pylist()
    return table.take(pa.array(sorted(range(len(ids)), key=ids.__getitem__), pa.int64()))
