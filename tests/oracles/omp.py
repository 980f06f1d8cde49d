"""Orthogonal matching pursuit with the whole similarity matrix, a generic solver, and no cleverness."""

from __future__ import annotations

import numpy as np
from scipy.optimize import lsq_linear

TIE = 1e-10


def cosine_similarity(embeddings: np.ndarray) -> np.ndarray:
    """1 between rows of one direction, 0 with a row of zeros."""
    rows = [np.asarray(row, np.float64) for row in embeddings]
    rows = [row / np.linalg.norm(row) if row.any() else row for row in rows]
    return np.array([[a @ b for b in rows] for a in rows])


def euclidean_similarity(embeddings: np.ndarray) -> np.ndarray:
    """1 minus the squared distance, in units of four times the largest squared distance to the mean."""
    rows = np.asarray(embeddings, np.float64)
    unit = 4 * max(((row - rows.mean(0)) ** 2).sum() for row in rows) or 1.0
    return np.array([[1 - ((a - b) ** 2).sum() / unit for b in rows] for a in rows])


def gaussian_similarity(embeddings: np.ndarray, bandwidth: float) -> np.ndarray:
    rows = np.asarray(embeddings, np.float64)
    return np.array([[np.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2)) for b in rows] for a in rows])


def fit(similarity: np.ndarray, scores: np.ndarray, support: list[int]) -> np.ndarray:
    """Weights of the support: the bounded least squares of eq. 6."""
    columns = similarity[:, support]
    return lsq_linear(columns, scores, bounds=(0, 1), method="bvls", tol=1e-15, max_iter=1000).x


def projected(similarity: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The part of the scores within the columns' space."""
    left, sizes, _ = np.linalg.svd(similarity)
    left = left[:, sizes > 1e-11 * sizes[0]]
    return left @ (left.T @ scores)


def with_labelled(
    similarity: np.ndarray, labelled: np.ndarray, scores: np.ndarray, n: int, most: int
) -> tuple[list[int], list[int], np.ndarray]:
    """Columns of labelled images first, at most `most`, then the others' in the same fit; the weights of all of them.

    As `layer` over all columns, of which the labelled ones alone may be picked at first, and then the others alone.
    """
    n_labelled = labelled.shape[1]
    both = np.hstack([labelled, similarity])
    is_labelled = np.arange(both.shape[1]) < n_labelled
    scale = float(np.linalg.norm(projected(similarity, scores)))
    first = _extended(both, scores, scale, most, is_labelled, [], 1e-6)[0]
    picks, _, weights = _extended(both, scores, scale, len(first) + n, ~is_labelled, first, 1e-6)
    return first, [pick - n_labelled for pick in picks[len(first) :]], weights


def layer(
    similarity: np.ndarray, scores: np.ndarray, n: int, pickable: np.ndarray, least: float = 1e-6
) -> tuple[list[int], np.ndarray, list[float]]:
    """One run of OMP: picks in order, their weights at the end, and the normalised correlation of each when picked."""
    scale = float(np.linalg.norm(projected(similarity, scores)))
    picks, correlations, weights = _extended(similarity, scores, scale, n, pickable, [], least)
    return picks, weights, correlations


def _extended(
    columns: np.ndarray,
    scores: np.ndarray,
    scale: float,
    n: int,
    pickable: np.ndarray,
    before: list[int],
    least: float,
) -> tuple[list[int], list[float], np.ndarray]:
    norms = np.linalg.norm(columns, axis=0)
    picks, correlations, weights = list(before), [], fit(columns, scores, before) if before else np.zeros(0)
    while len(picks) < n and scale > 1e-12 * np.linalg.norm(scores):
        residual = scores - columns[:, picks] @ weights
        values = np.full(columns.shape[1], -np.inf)
        for j in range(columns.shape[1]):
            if pickable[j] and j not in picks and norms[j] > 0:
                values[j] = columns[:, j] @ residual / (norms[j] * scale)
        if values.max() <= least:
            break
        best = next(j for j in range(len(values)) if values[j] >= values.max() - TIE)
        picks.append(best)
        correlations.append(float(values[best]))
        weights = fit(columns, scores, picks)
    return picks, correlations, weights


def omp(similarity: np.ndarray, scores: np.ndarray, n: int, pickable: np.ndarray | None = None) -> list[int]:
    """All layers, then by score."""
    left = np.ones(len(scores), bool) if pickable is None else pickable.copy()
    picks: list[int] = []
    while len(picks) < n:
        more = layer(similarity, scores, n - len(picks), left)[0]
        if not more:
            break
        picks += more
        left[more] = False
    rest = sorted(np.flatnonzero(left).tolist(), key=lambda j: (-scores[j], j))
    return picks + rest[: n - len(picks)]
