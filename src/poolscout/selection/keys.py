"""Distances that a selection has calculated, kept for the next one: when a pool grows, only new frames are measured.

What is kept are the keys of the greedy samplers: for each candidate its least distance to the centres it has met, which
one that was, and how many it has met. A key stays valid for as long as the image's own embedding and those centres'
embeddings are the same and the centres still are centres, be it that they are labelled now; whatever is not, is
measured again. So a selection with keys picks what one without them picks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt64

from poolscout.selection.registry import Known
from poolscout.tables.declared import KEY_CENTRES, KEYS
from poolscout.tables.parquet import read_table, write_table

BLOCK = 8192
METRIC_KEY = b"poolscout.metric"
KEY_FILES = ("keys.parquet", "centres.parquet")


@dataclass(frozen=True)
class Keys:
    """Keys of n images and the k centres that they are about.

    Attributes:
        metric: of the distances.
        ids: [n] distinct. prints: [n] fingerprints of their embeddings.
        known: [n] the keys.
        centres: [k] image ids in the order in which the centres were met. centre_prints: [k].
    """

    metric: str
    ids: pa.Array
    prints: UInt64[np.ndarray, " n"]
    known: Known
    centres: pa.Array
    centre_prints: UInt64[np.ndarray, " k"]

    def first(self, labelled: pa.Array) -> pa.Array:
        """The labelled images with those that were centres before in front, in the order of then."""
        still = self.centres.filter(pc.is_in(self.centres, value_set=labelled))
        return pa.concat_arrays([still, labelled.filter(pc.invert(pc.is_in(labelled, value_set=still)))])

    def of(
        self,
        ids: pa.Array,
        embeddings: np.ndarray,
        rows: Int64[np.ndarray, " n"] | None,
        centres: pa.Array,
        centre_embeddings: np.ndarray,
    ) -> Known:
        """The keys of n images for the centres of now, `first` of what is labelled; blank where there is none.

        Args:
            ids: [n]; rows: [n] their embeddings' rows; centres: [k], with their embeddings [k, d].
        """
        at, n_centres = pc.index_in(ids, value_set=self.ids), self._n_unchanged(centres, centre_embeddings)
        there = at.is_valid().to_numpy(zero_copy_only=False)
        if not n_centres or not there.any():
            return Known(np.full(len(ids), np.inf), np.full(len(ids), -1, np.int32), np.zeros(len(ids), np.int64))
        found, old = self.known.up_to(n_centres), pc.fill_null(at, 0).to_numpy()
        there &= self.prints[old] == fingerprints(embeddings, np.arange(len(ids)) if rows is None else rows)
        return Known(
            np.where(there, found.d[old], np.inf),
            np.where(there, found.near[old], -1).astype(np.int32),
            np.where(there, found.seen[old], 0),
        )

    def _n_unchanged(self, centres: pa.Array, embeddings: np.ndarray) -> int:
        """How many of the first centres still are the first ones, with the embeddings of then."""
        k = min(len(centres), len(self.centres))
        same = pc.equal(centres[:k], self.centres[:k]).to_numpy(zero_copy_only=False)
        same &= fingerprints(embeddings, np.arange(k)) == self.centre_prints[:k]
        return k if same.all() else int(np.argmin(same))


def fingerprints(embeddings: np.ndarray, rows: Int64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """64 bits of each row's bytes: a sum of its words times fixed odd numbers, which two rows share by chance only."""
    words = np.dtype(f"u{min(embeddings.dtype.itemsize, 4)}")
    per_row = embeddings.shape[1] * embeddings.dtype.itemsize // words.itemsize
    factors = np.random.default_rng(0).integers(1, 1 << 63, per_row, np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.empty(len(rows), np.uint64)
    for lo in range(0, len(rows), BLOCK):
        block = np.ascontiguousarray(embeddings[rows[lo : lo + BLOCK]])
        found[lo : lo + BLOCK] = (block.view(words).astype(np.uint64) * factors).sum(1, dtype=np.uint64)
    return found


def read_keys(folder: Path, metric: str) -> Keys | None:
    """Keys for distances in this metric; None where there are none yet.

    Raises:
        TableError: the folder holds something else.
    """
    if not (folder / "centres.parquet").exists():
        return None
    points = read_table(folder / "keys.parquet", KEYS)
    centres = read_table(folder / "centres.parquet", KEY_CENTRES)
    if (centres.schema.metadata or {}).get(METRIC_KEY, b"").decode() != metric:
        return None
    known = Known(
        points["distance2"].to_numpy(), points["nearest"].to_numpy().astype(np.int32), points["met"].to_numpy()
    )
    return Keys(
        metric, _ids(points), points["embedding_print"].to_numpy(), known, _ids(centres),
        centres["embedding_print"].to_numpy(),
    )  # fmt: skip


def write_keys(folder: Path, keys: Keys) -> None:
    """Replace a folder's keys. The centres come last: keys without them are none."""
    (folder / "centres.parquet").unlink(missing_ok=True)
    points = pa.table(
        {
            "image_id": keys.ids, "distance2": keys.known.d, "nearest": keys.known.near, "met": keys.known.seen,
            "embedding_print": keys.prints,
        }
    )  # fmt: skip
    write_table(folder / "keys.parquet", KEYS, points.filter(pa.array(np.isfinite(keys.known.d))))
    centres = pa.table({"image_id": keys.centres, "embedding_print": keys.centre_prints})
    write_table(
        folder / "centres.parquet", KEY_CENTRES, centres.replace_schema_metadata({METRIC_KEY: keys.metric.encode()})
    )


def _ids(table: pa.Table) -> pa.Array:
    column = table["image_id"]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
