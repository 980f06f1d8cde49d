"""Core-set and k-means++ as slow, obvious loops in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def scaled(rows: np.ndarray, metric: str) -> np.ndarray:
    """Rows whose squared distances are the metric's, twice for cosine."""
    rows = rows.astype(np.float64)
    if metric == "euclidean":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def coreset(rows: np.ndarray, weight: np.ndarray, n: int, labelled: np.ndarray | None, metric: str) -> list[int]:
    """argmax weight · d_min, the lowest position of equals; the highest weight where there is no centre."""
    x = scaled(rows, metric)
    d, picks = np.full(len(x), np.inf), []
    if labelled is not None:
        for centre in scaled(labelled, metric):
            d = np.minimum(d, np.square(x - centre).sum(1))
    while len(picks) < n:
        key = weight.copy() if np.isinf(d).all() else weight * d
        key[picks] = -1.0
        picks.append(int(key.argmax()))
        d = np.minimum(d, np.square(x - x[picks[-1]]).sum(1))
    return picks


def race(
    rows: np.ndarray, weight: np.ndarray, exponentials: np.ndarray, n: int, labelled: np.ndarray | None, metric: str
) -> list[int]:
    """k-means++ as a race: everybody's clock is moved on at every pick, and the next to fire is picked.

    A clock is read where its hazard last changed, and never goes back by rounding: as in the kernels.
    """
    x = scaled(rows, metric)
    with np.errstate(divide="ignore"):
        theta = exponentials / weight
    d, used, last, event = (np.full(len(x), value) for value in (np.inf, 0.0, 0.0, 0.0))
    picks: list[int] = []

    def meet(centre: np.ndarray, now: float) -> None:
        for i, e in enumerate(np.square(x - centre).sum(1)):
            if e < d[i]:
                if d[i] < np.inf:
                    used[i] += (now - last[i]) * d[i]
                last[i], d[i] = now, e
                event[i] = max(event[i], now + (theta[i] - used[i]) / e) if e > 0 else np.inf

    if labelled is None:
        picks = [int(np.argmin(theta))]
        theta = theta - theta[picks[0]]
        meet(x[picks[0]], 0.0)
    else:
        for centre in scaled(labelled, metric):
            meet(centre, 0.0)
    while len(picks) < n:
        left = event.copy()
        left[picks] = np.inf
        picks.append(int(left.argmin()))
        meet(x[picks[-1]], left[picks[-1]])
    return picks


def kmeans_plus_plus_chances(
    rows: np.ndarray, weight: np.ndarray, n: int, metric: str
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every ordered batch of n and its probability, from the definition of k-means++ alone."""
    x = scaled(rows, metric)

    def on(picks: tuple[int, ...], chance: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(picks) == n:
            yield picks, chance
            return
        d = np.array([min((((a - x[p]) ** 2).sum() for p in picks), default=1.0) for a in x])
        mass = weight * d
        for i, m in enumerate(mass):
            if m > 0:
                yield from on((*picks, i), chance * m / mass.sum())

    return on((), 1.0)
