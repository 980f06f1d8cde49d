"""Batches side by side: what they share, and how well each covers the candidates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from poolscout.selection.registry import Candidates, Positions

N_SAMPLED = 20_000  # candidates whose distance to the nearest pick is measured
_CANDIDATES, _PICKS = 1024, 4096  # compared together


def overlap(one: Positions, other: Int64[np.ndarray, " others"]) -> float:
    """The share of the smaller batch that is in the other one too; 0 where one is empty."""
    return len(np.intersect1d(one, other)) / max(min(len(one), len(other)), 1)


def coverage(candidates: Candidates, picks: Positions, seed: int = 0) -> tuple[float, float, int]:
    """How far candidates are from their nearest pick: the core-set's objective, over all or a random sample of them.

    Args:
        candidates: with embeddings.
        picks: at least one.
        seed: of the sample.

    Returns:
        (largest, mean, number of candidates measured); distances in the metric.
    """
    measured = np.arange(candidates.n)
    if candidates.n > N_SAMPLED:
        measured = np.sort(np.random.default_rng(seed).choice(candidates.n, N_SAMPLED, replace=False))
    nearest = np.full(len(measured), np.inf)
    for start in range(0, len(picks), _PICKS):
        centres = _unit(candidates, picks[start : start + _PICKS])
        squares = np.square(centres).sum(1)
        for lo in range(0, len(measured), _CANDIDATES):
            own = _unit(candidates, measured[lo : lo + _CANDIDATES])
            squared = np.square(own).sum(1)[:, None] + squares - 2 * (own @ centres.T)
            part = nearest[lo : lo + _CANDIDATES]
            np.minimum(part, squared.min(1), out=part)
    nearest = np.maximum(nearest, 0.0) * (0.5 if candidates.metric == "cosine" else 1.0)
    nearest[np.isin(measured, picks)] = 0.0  # not what is left of rounding
    return float(nearest.max()), float(nearest.mean()), len(measured)


def _unit(candidates: Candidates, positions: Positions) -> Float64[np.ndarray, "k d"]:
    """Rows whose squared distance is the metric, or twice that for cosine."""
    assert candidates.embeddings is not None
    rows = candidates.embeddings[candidates.rows_of(positions)].astype(np.float64)
    if candidates.metric == "euclidean":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
