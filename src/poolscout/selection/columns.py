"""Tables as arrays: what selection reads of candidates, embeddings and detections, without a Python object an image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Float64, Int64

from poolscout.errors import CapabilityError, TableError, some
from poolscout.formats.embeddings import Embeddings
from poolscout.selection.api import check_finite
from poolscout.selection.gates import NO_CODE
from poolscout.tables.declared import ENSEMBLE


def id_array(image_ids: Collection[str] | pa.Array | pa.ChunkedArray) -> pa.Array:
    """Image ids as one Arrow array of text; those of a set in alphabetical order."""
    if isinstance(image_ids, pa.ChunkedArray):
        return image_ids.combine_chunks().cast(pa.string())
    if isinstance(image_ids, pa.Array):
        return image_ids.cast(pa.string())
    return pa.array(image_ids if isinstance(image_ids, list | tuple) else sorted(image_ids), pa.string())


def check_distinct(sorted_ids: pa.Array, what: str = "candidates") -> None:
    """Refuse an image that is there twice.

    Raises:
        TableError: names the images.
    """
    double = sorted_ids[1:].filter(pc.equal(sorted_ids[1:], sorted_ids[:-1]))
    if len(double):
        raise TableError(
            f"{len(double)} {what} are there twice", got=some(double.to_pylist()), expected="each image_id once",
            fix="drop the doubles",
        )  # fmt: skip


def score_column(rows: pa.Table, ids: pa.Array, name: str) -> Float64[np.ndarray, " n"]:
    """The scores to rank by.

    Raises:
        TableError: no such column.
        NonFiniteError: NaN, infinity or an empty cell; names the image ids.
    """
    if name not in rows.column_names:
        raise TableError(
            f"the candidates have no score column {name!r}", got=some(rows.column_names, 20), expected=name,
            fix="score the pool with this scorer and aggregate first",
        )  # fmt: skip
    scores = rows[name].to_numpy().astype(np.float64)
    check_finite(scores, name, ids)
    return scores


def class_columns(rows: pa.Table, ids: pa.Array, name: str, n_classes: int) -> Float64[np.ndarray, "n classes"]:
    """Lists of one score a class.

    Raises:
        TableError: a list of another length.
        NonFiniteError: NaN, infinity or an empty cell; names the image ids.
    """
    lengths = pc.fill_null(pc.list_value_length(rows[name]), 0).to_numpy()
    if (lengths != n_classes).any():
        bad = np.flatnonzero(lengths != n_classes)
        raise TableError(
            f"column {name!r}: {len(bad)} rows are not one score a class",
            got=f"{lengths[bad[0]]} scores; images {some(ids.take(bad[:5]).to_pylist())}", expected=f"{n_classes}",
            fix="take the class names from the table's own metadata (poolscout.classes)",
        )  # fmt: skip
    per_class = pc.list_flatten(rows[name]).to_numpy().astype(np.float64).reshape(len(ids), n_classes)
    check_finite(per_class, name, ids)
    return per_class


def sequence_codes(
    rows: pa.Table, others: pa.ChunkedArray | None = None
) -> tuple[Int64[np.ndarray, " n"] | None, Int64[np.ndarray, " others"]]:
    """A number for each sequence, in the order of their names; of `others` too, `NO_CODE` where `rows` has none."""
    if "sequence" not in rows.column_names:
        return None, np.empty(0, np.int64)
    column = rows["sequence"]
    names = pc.unique(column).drop_null()
    names = names.take(pc.sort_indices(names))
    codes = pc.index_in(column, value_set=names)
    if codes.null_count:
        raise TableError(
            f"{codes.null_count} candidates have no sequence", got="empty cells", expected="the recording of each",
            fix="an image of no recording is a sequence of its own: put its image_id there",
        )  # fmt: skip
    of_others = np.empty(0, np.int64)
    if others is not None:
        of_others = pc.fill_null(pc.index_in(others, value_set=names), NO_CODE).to_numpy().astype(np.int64)
    return codes.to_numpy().astype(np.int64), of_others


def frame_column(rows: pa.Table, ids: pa.Array | pa.ChunkedArray, whose: str) -> Int64[np.ndarray, " n"]:
    """Frame numbers.

    Raises:
        CapabilityError: no such column.
        TableError: empty cells; says how many.
    """
    if "frame" not in rows.column_names:
        raise CapabilityError(
            "min_gap needs frame numbers", got=f"{whose} without a column frame", expected="sequence and frame of each",
            fix="give the pool's table (--pool); pool.frame names the metadata column with the position in a sequence",
        )  # fmt: skip
    frames = rows["frame"].cast(pa.int64())
    if frames.null_count:
        without = ids.filter(frames.is_null())
        raise TableError(
            f"min_gap: {frames.null_count:,} of {len(frames):,} {whose} have no frame number",
            got=some(without[:5].to_pylist()) + (" …" if len(without) > 5 else ""), expected="a frame number for each",
            fix="set pool.frame, exclude these images, or leave min_gap out",
        )  # fmt: skip
    return frames.to_numpy().astype(np.int64)


def embedding_rows(
    given: pa.Table | Embeddings, ids: pa.Array, labelled: pa.Array
) -> tuple[Float[np.ndarray, "m d"], Int64[np.ndarray, " n"] | None, Float[np.ndarray, "labelled d"]]:
    """All vectors as they lie, the row of each candidate (None: as they come), and those of labelled images.

    Raises:
        TableError: an image twice, or a candidate without an embedding.
        NonFiniteError: NaN or infinity in one that is used; names the image ids.
    """
    theirs = id_array(given.image_ids if isinstance(given, Embeddings) else given["image_id"])
    if len(pc.unique(theirs)) < len(theirs):
        check_distinct(theirs.take(pc.sort_indices(theirs)), "embeddings")
    values = given.values if isinstance(given, Embeddings) else _matrix(given["embedding"])
    at = pc.index_in(ids, value_set=theirs)
    if at.null_count:
        missing = ids.filter(at.is_null())
        raise TableError(
            f"{len(missing)} candidates have no embedding", got=some(missing.to_pylist()),
            expected="one for each candidate", fix="take scores and embeddings from the same scoring pass",
        )  # fmt: skip
    rows = at.to_numpy().astype(np.int64)
    in_order = len(rows) == len(values) and np.array_equal(rows, np.arange(len(rows)))
    check_finite(values, "embedding", ids, None if in_order else rows)
    known = pc.index_in(labelled, value_set=theirs)
    others = values[known.drop_null().to_numpy().astype(np.int64)]
    check_finite(others, "embedding", labelled.filter(known.is_valid()))
    return values, None if in_order else rows, others


def with_embeddings(image_ids: pa.Array, given: pa.Table | Embeddings) -> pa.Array:
    """Those of the images that have an embedding."""
    theirs = id_array(given.image_ids if isinstance(given, Embeddings) else given["image_id"])
    return image_ids.filter(pc.is_in(image_ids, value_set=theirs))


def predicted_boxes(ids: pa.Array, parts: Iterable[pa.Table], min_probability: float) -> Int64[np.ndarray, " n"]:
    """How many boxes the ensemble sees in each image.

    Args:
        ids: of the images.
        parts: detection tables, one after the other; boxes of single members do not count, except those of an only one.
        min_probability: a box counts from here on.

    Raises:
        TableError: boxes of several members, and none of the ensemble.
    """
    counted: dict[bool, list[pa.StructArray]] = {True: [], False: []}
    members: set[int] = set()
    for part in parts:
        likely = part.filter(pc.greater_equal(part["probability"], pa.scalar(min_probability, pa.float32())))
        members.update(pc.unique(part["member"]).to_pylist())
        of_ensemble = pc.equal(likely["member"], ENSEMBLE)
        # A count an image and part: what is kept does not grow with the boxes, and the ids are looked up once.
        counted[True].append(pc.value_counts(likely["image_id"].filter(of_ensemble)))
        counted[False].append(pc.value_counts(likely["image_id"].filter(pc.invert(of_ensemble))))
    if len(members) > 1 and ENSEMBLE not in members:
        raise TableError(
            "the detections have no boxes of the ensemble", got=f"members {some(sorted(members))}",
            expected=f"rows with member {ENSEMBLE}", fix="give the detections of the scoring pass, or of one member",
        )  # fmt: skip
    boxes = np.zeros(len(ids), np.int64)
    if counts := counted[ENSEMBLE in members]:
        where = pa.chunked_array([one.field("values") for one in counts])
        at = pc.fill_null(pc.index_in(where, value_set=ids), NO_CODE).to_numpy()
        many = np.concatenate([one.field("counts").to_numpy() for one in counts])
        np.add.at(boxes, at[at != NO_CODE], many[at != NO_CODE])
    return boxes


def _matrix(column: pa.ChunkedArray) -> Float[np.ndarray, "n d"]:
    """The vectors as they lie in Arrow's memory, or, where they lie in several pieces, put together once."""
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1 or None in lengths:
        raise TableError(
            "embeddings differ in length", got=f"lengths {some(lengths)}", expected="the same d for all images",
            fix="embed all images with the same backbone",
        )  # fmt: skip
    d = lengths[0] if lengths else 0
    pieces = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, d) for chunk in column.chunks if len(chunk)]
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty((0, d), np.float32)


def positions_of(wanted: pa.Array, ids: pa.Array) -> Int64[np.ndarray, " k"]:
    """Where each of the wanted images is; `NO_CODE` for those that are not there."""
    return pc.fill_null(pc.index_in(wanted, value_set=ids), NO_CODE).to_numpy().astype(np.int64)


def names_of(classes: Sequence[str], at: Int64[np.ndarray, " k"]) -> pa.Array:
    """Class names by position; empty for `NO_CODE`."""
    return pa.array(classes, pa.string()).take(pa.array(at, mask=at == NO_CODE))
