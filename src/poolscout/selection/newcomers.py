"""Distances that a batch of several parts looks after itself: asked for one, a sampler does not see the others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from poolscout.selection.kernels.compiled import least_exact
from poolscout.selection.kernels.state import Growing
from poolscout.selection.kernels.vectors import Vectors
from poolscout.selection.registry import Candidates, Positions

ROWS, COLUMNS = 512, 8192  # of the matrix of distances, at once


class Newcomers:
    """What each lane has picked in this pass, for the other lanes to notice."""

    def __init__(self, candidates: Candidates, n_lanes: int) -> None:
        self._candidates = candidates
        self._rows = [Growing() for _ in range(n_lanes)]
        self._scales = [Growing() for _ in range(n_lanes)]

    def accept(self, position: int, lane: int) -> None:
        raw, scales = self._row(position)
        self._rows[lane].append(raw)
        self._scales[lane].append(scales)

    def distance(self, position: int, lane: int) -> float:
        """The least distance, in the metric, to what other lanes have picked; infinite when that is nothing."""
        raw, scales = self._row(position)
        half = 0.5 if self._candidates.metric == "cosine" else 1.0
        others = [i for i in range(len(self._rows)) if i != lane and self._rows[i].n]
        return half * min(
            (least_exact(raw[0], scales[0], self._rows[i].rows, self._scales[i].rows) for i in others), default=np.inf
        )

    def _row(self, position: int) -> tuple[np.ndarray, Float64[np.ndarray, " one"]]:
        assert self._candidates.embeddings is not None
        row = self._candidates.rows_of(np.array([position]))
        vectors = Vectors.of(self._candidates.embeddings, self._candidates.metric, row)
        return vectors.raw(np.zeros(1, np.int64)), vectors.scales


def distances_when_picked(candidates: Candidates, picks: Positions) -> Float64[np.ndarray, " k"]:
    """Of each pick to the nearest labelled image or earlier pick, in the metric; NaN where there is none."""
    assert candidates.embeddings is not None
    x = _scaled(candidates.embeddings, candidates.metric, candidates.rows_of(picks))
    labelled = candidates.labelled_embeddings
    n_labelled = 0 if labelled is None else len(labelled)
    found = np.full(len(x), np.inf)
    for lo in range(0, n_labelled, COLUMNS):
        assert labelled is not None
        mine = _scaled(labelled, candidates.metric, np.arange(lo, min(lo + COLUMNS, n_labelled)))
        for row in range(0, len(x), ROWS):
            found[row : row + ROWS] = np.minimum(found[row : row + ROWS], _squared(x[row : row + ROWS], mine).min(1))
    for row in range(0, len(x), ROWS):
        block = _squared(x[row : row + ROWS], x[: row + ROWS])
        block[np.arange(block.shape[1]) >= np.arange(row, row + len(block))[:, None]] = np.inf
        found[row : row + ROWS] = np.minimum(found[row : row + ROWS], block.min(1))
    return np.where(np.isfinite(found), found * (0.5 if candidates.metric == "cosine" else 1.0), np.nan)


def _scaled(embeddings: np.ndarray, metric: str, rows: Int64[np.ndarray, " t"]) -> Float64[np.ndarray, "t d"]:
    x = embeddings[rows].astype(np.float64)
    if metric == "cosine":
        norms = np.sqrt(np.square(x).sum(1, keepdims=True))
        return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    return x


def _squared(a: Float64[np.ndarray, "t d"], b: Float64[np.ndarray, "u d"]) -> Float64[np.ndarray, "t u"]:
    """In float64, whose cancellation does not show in the table's float32 except for copies, which are set to 0."""
    found = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    found[found < 1e-12 * np.square(a).sum(1)[:, None]] = 0.0
    return found
