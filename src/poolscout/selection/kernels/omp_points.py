"""Images under a similarity of low rank: D = U Vᵀ, its rows u_i and v_j in blocks of float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

Similarity = Literal["cosine", "euclidean"]
Embeddings = Float[np.ndarray, "m d"]
Labelled = Float[np.ndarray, "labelled d"]
Rows = slice | Int64[np.ndarray, " k"]

ROWS_AT_A_TIME = 4096  # in float64, 160-D: 5 MB, so that a block is still in the cache for its second use


@dataclass(frozen=True)
class Frame:
    """Where embeddings are measured from, e_i for cosine and f_i = (e_i − ē) / √M for Euclidean (`low_rank`).

    Attributes:
        cosine: else Euclidean.
        mean: ē, [d]; 0 for cosine.
        span: √M; 1 for cosine.
    """

    cosine: bool
    mean: Float64[np.ndarray, " d"]
    span: float

    @property
    def rank(self) -> int:
        """Length of u_i and v_j."""
        return len(self.mean) + (0 if self.cosine else 2)


class Points:
    """n images in a frame; point j is row rows[j] of the embeddings, or row j without `rows`.

    The embeddings are not copied, unless less than half of their rows are points: such a short-list is gathered once,
    in the type it is stored in, and not again at every pick.

    Attributes:
        frame: as given.
        squares: ‖e_j‖² or ‖f_j‖², [n].
    """

    def __init__(self, embeddings: Embeddings, rows: Int64[np.ndarray, " n"] | None, frame: Frame) -> None:
        if rows is not None and 2 * len(rows) < len(embeddings):
            embeddings, rows = embeddings[rows], None
        self._embeddings, self._rows, self.frame = embeddings, rows, frame
        self.squares = np.empty(len(self))
        for block in self.blocks():
            features = self.features(block)
            self.squares[block] = np.einsum("ij,ij->i", features, features)

    def __len__(self) -> int:
        return len(self._embeddings) if self._rows is None else len(self._rows)

    def blocks(self) -> Iterator[slice]:
        return blocks(len(self))

    def features(self, which: Rows) -> Float64[np.ndarray, "k d"]:
        """e, or f: in float64, where neither a large mean nor float16's range does harm."""
        features = self._embeddings[which if self._rows is None else self._rows[which]].astype(np.float64)
        if not self.frame.cosine:
            features -= self.frame.mean
            features /= self.frame.span
        return features

    def left(self, which: Rows) -> Float64[np.ndarray, "k r"]:
        """u_i."""
        features, squares = self.features(which), self.squares[which]
        if self.frame.cosine:
            norms = np.sqrt(squares)
            norms[norms == 0] = 1.0  # a row of zeros stays one
            features /= norms[:, None]
            return features
        return np.concatenate([np.ones((len(features), 1)), squares[:, None], features], axis=1)

    def right(self, which: Rows) -> Float64[np.ndarray, "k r"]:
        """v_j."""
        if self.frame.cosine:
            return self.left(which)
        features, squares = self.features(which), self.squares[which]
        return np.concatenate([1 - squares[:, None], np.full((len(features), 1), -1.0), 2 * features], axis=1)

    def product(self, w: Float64[np.ndarray, " d"], kind: np.dtype) -> Float[np.ndarray, " n"]:
        """The embeddings as they are stored, times w, in float32 or 64.

        All rows, of which the points are taken: reading on is faster than leaving out.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # in rows that are no points
            product = _product(self._embeddings, w.astype(kind))
        return product if self._rows is None else product[self._rows]


def frame_of(
    embeddings: Embeddings,
    similarity: Similarity,
    rows: Int64[np.ndarray, " n"] | None = None,
    given: Labelled | None = None,
) -> Frame:
    """The frame of these rows: ē is their mean, M = 4 max ‖e_i − ē‖² of them and of `given`."""
    d = embeddings.shape[1]
    if similarity == "cosine":
        return Frame(True, np.zeros(d), 1.0)
    n = len(embeddings) if rows is None else len(rows)

    def read(block: slice) -> Float64[np.ndarray, "k d"]:
        return embeddings[block if rows is None else rows[block]].astype(np.float64)

    mean = sum((read(block).sum(0) for block in blocks(n)), np.zeros(d)) / n
    farthest = max(float(np.square(read(block) - mean).sum(1).max()) for block in blocks(n))
    for block in blocks(0 if given is None else len(given)):
        assert given is not None
        farthest = max(farthest, float(np.square(given[block].astype(np.float64) - mean).sum(1).max()))
    return Frame(False, mean, 2 * float(np.sqrt(farthest)) or 1.0)


def blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS_AT_A_TIME, n)) for start in range(0, n, ROWS_AT_A_TIME))


def _product(embeddings: Embeddings, w: Float[np.ndarray, " d"]) -> Float[np.ndarray, " m"]:
    if embeddings.dtype == w.dtype and embeddings.flags.c_contiguous:
        return np.asarray(embeddings @ w)  # of a memory map it is one
    product = np.empty(len(embeddings), w.dtype)
    for block in blocks(len(embeddings)):
        product[block] = embeddings[block].astype(w.dtype, copy=False) @ w
    return product
