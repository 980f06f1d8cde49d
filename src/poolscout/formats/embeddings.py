"""Embeddings that people bring, or that a pass wrote: found, matched to images, held in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from poolscout.errors import DataError, some
from poolscout.formats.embedding_files import ids_beside, open_npy, open_parts

_ROWS_AT_ONCE = 4096  # what is held besides the array itself


@dataclass(frozen=True)
class Embeddings:
    """One vector of d numbers for each of n images.

    Attributes:
        image_ids: n ids; those that were asked for, in their order, else those of the file.
        values: float16, float32 or float64 as in the file; C-contiguous; may be a read-only memory map.
        source: the file or folder.
        notes: what was left out, for a person to read.
    """

    image_ids: pa.ChunkedArray
    values: Float[np.ndarray, "n d"]
    source: Path
    notes: tuple[str, ...] = ()


def read_embeddings(path: Path, image_ids: Sequence[str] | pa.Array | pa.ChunkedArray | None = None) -> Embeddings:
    """Read embeddings from Parquet or .npy; NaN and infinity are let through, for whoever uses them to refuse.

    Parquet goes part by part straight into the one array that is returned. An .npy stays on disk, memory-mapped, unless
    its rows must be put in another order.

    Args:
        path: a Parquet file, a folder of such parts, or .npy [n, d]. Parquet has a column image_id and a column
            `embedding`, or only one column with lists of floats. The rows of NAME.npy are those of the text file
            NAME.ids.txt beside it, one image_id a line; without that file, those of `image_ids`.
        image_ids: the images that need a vector, e.g. a pool's; vectors of others are left out, and a note says how
            many. None: all that are there.

    Raises:
        DataError: unreadable, neither format, ids twice or missing, vectors that are no floats, are empty, differ in
            length or have empty cells, a number of rows that does not fit, images without a vector.
        TableError: another of poolscout's tables.
    """
    path = Path(path)
    asked = None if image_ids is None else _texts(image_ids)
    if asked is not None:
        _refuse_twice(asked, "the images that need embeddings")
    if path.suffix.lower() in (".npy", ".npz"):
        return _from_npy(path, asked)
    files = open_parts(path)
    found = files.image_ids()
    _refuse_twice(found, str(path))
    rows, notes = _rows(found, asked, path)
    return Embeddings(found if asked is None else asked, files.vectors(rows, _length(found, asked)), path, notes)


def _from_npy(path: Path, asked: pa.ChunkedArray | None) -> Embeddings:
    values, beside = open_npy(path), ids_beside(path)
    if beside is None:
        if asked is None:
            raise DataError(
                f"{path}: which row is which image is not known", got=f"{len(values)} rows",
                expected=f"{path.stem}.ids.txt beside it, with one image_id a line", fix="write that file",
            )  # fmt: skip
        _refuse_length(values, len(asked), path, "images")
        return Embeddings(asked, values, path)
    ids_path, found = beside
    _refuse_length(values, len(found), path, f"lines in {ids_path.name}")
    _refuse_twice(found, str(ids_path))
    rows, notes = _rows(found, asked, path)
    if asked is None or found.equals(asked):
        return Embeddings(found, values, path)
    ordered = np.empty((len(asked), values.shape[1]), values.dtype)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        at = rows[start : start + _ROWS_AT_ONCE]
        ordered[at[at >= 0]] = values[start : start + _ROWS_AT_ONCE][at >= 0]
    return Embeddings(asked, ordered, path, notes)


def _texts(image_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    values = image_ids if isinstance(image_ids, pa.Array | pa.ChunkedArray) else pa.array(list(image_ids), pa.string())
    return pa.chunked_array(values.chunks if isinstance(values, pa.ChunkedArray) else [values], values.type).cast(
        pa.string()
    )


def _rows(found: pa.ChunkedArray, asked: pa.ChunkedArray | None, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Where each vector of the files goes in the result, -1 for nowhere."""
    if asked is None:
        return np.arange(len(found)), ()
    at = pc.fill_null(pc.index_in(found, value_set=asked), -1).to_numpy().astype(np.int64)
    given = np.zeros(len(asked), bool)
    given[at[at >= 0]] = True
    missing = np.flatnonzero(~given)
    if len(missing):
        raise DataError(
            f"{path}: {len(missing):,} of {len(asked):,} images have no embedding",
            got=some(asked.take(missing[:5]).to_pylist()) + (" …" if len(missing) > 5 else ""),
            expected=f"an embedding for each; the {len(found):,} there are of images such as {_example(found)}",
            fix="embed these images too, or leave them out; an image_id is the path relative to the pool's root",
        )  # fmt: skip
    others = int((at < 0).sum())
    return at, (f"{path}: {others:,} embeddings of images that are not asked for were left out",) if others else ()


def _example(found: pa.ChunkedArray) -> str:
    return repr(found[0].as_py()) if len(found) else "none"


def _length(found: pa.ChunkedArray, asked: pa.ChunkedArray | None) -> int:
    return len(found if asked is None else asked)


def _refuse_twice(ids: pa.ChunkedArray, where: str) -> None:
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    raise DataError(
        f"{where}: {len(twice):,} image ids are there more than once", got=some(twice), expected="each image once",
        fix="remove the repeated rows",
    )  # fmt: skip


def _refuse_length(values: np.ndarray, expected: int, path: Path, what: str) -> None:
    if len(values) != expected:
        raise DataError(
            f"{path}: the number of rows does not fit", got=f"{len(values):,} rows", expected=f"{expected:,} {what}",
            fix="write one row for each image, in the same order, or name the images in a file beside: see "
            "docs/embeddings.md",
        )  # fmt: skip
