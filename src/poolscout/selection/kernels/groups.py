"""Groups of near-duplicate rows: one distance to a group's centre bounds the distances to all its points.

Frames of a clip look alike, so a pool of millions has far fewer *places* than images. With c the centre of a group and
r_i = ‖x_i − c‖, the triangle inequality gives min_p ‖x_i − p‖ ≤ min_p ‖c − p‖ + r_i: an upper bound of a point's key
that costs nothing for the point. Groups are only ever a short cut: what is picked does not depend on them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from poolscout.selection.kernels.compiled import balls, runs
from poolscout.selection.kernels.vectors import BLOCK, Vectors

MIN_SIZE = 6  # points a group on average, below which groups cost more than they save
CLOSE = 1 / 16  # squared distance of neighbours over that of strangers, above which nothing is grouped
N_PROBED = 2048
BITS = 24  # of a row's signature: near-duplicates (cosine 0.99) share it one time in three
ROUNDS = 3


@dataclass(frozen=True)
class Groups:
    """Groups as consecutive slots.

    Attributes:
        rows: [n] the row in each slot; None where slot = row.
        starts: [groups + 1] first slot of each group.
        centres: [groups, d] in screening space (`Vectors.screened`).
        radius: [n] distance of each slot's point to its group's centre, in screening space too, rounded up.
        reach: [groups] the largest radius in each group.
    """

    rows: Int64[np.ndarray, " n"] | None
    starts: Int64[np.ndarray, " edges"]
    centres: Float32[np.ndarray, "groups d"]
    radius: Float32[np.ndarray, " n"]
    reach: Float64[np.ndarray, " groups"]


def find_groups(vectors: Vectors, pool: ThreadPoolExecutor) -> Groups | None:
    """Groups of neighbouring rows, else of rows with equal signatures; None where rows have too few near-duplicates."""
    if vectors.n < 4 * MIN_SIZE:
        return None
    limit2 = _limit2(vectors, np.arange(vectors.n - 1), np.arange(1, vectors.n))
    if limit2 is not None:
        starts = _starts(vectors, None, limit2, pool)
        if vectors.n >= MIN_SIZE * (len(starts) - 1):
            return _measured(vectors, None, starts, pool)
    return _by_signature(vectors, pool)


def _limit2(vectors: Vectors, left: np.ndarray, right: np.ndarray) -> float | None:
    """How far (squared) a row may be from the head of its group: between the usual neighbour and the usual stranger.

    The geometric mean of the two: far enough for a group to hold a clip, and well below what separates clips.
    """
    at = np.linspace(0, len(left) - 1, min(len(left), N_PROBED)).astype(np.int64)
    near, far = _squared(vectors, left[at], right[at]), _squared(vectors, left[at], left[np.roll(at, len(at) // 2)])
    close = float(np.quantile(near, 0.5))
    apart = float(np.quantile(far, 0.5))
    return float(np.sqrt(max(close, 1e-6 * apart) * apart)) if close < CLOSE * apart else None


def _squared(vectors: Vectors, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a = vectors.raw(left) * vectors.scales[left, None]
    return np.square(a - vectors.raw(right) * vectors.scales[right, None]).sum(1)


def _starts(
    vectors: Vectors, rows: np.ndarray | None, limit2: float, pool: ThreadPoolExecutor
) -> Int64[np.ndarray, " edges"]:
    """Where consecutive rows are farther than √limit2 from the head of their run; blocks are cut anyway."""
    n = vectors.n if rows is None else len(rows)

    def block(lo: int) -> Bool[np.ndarray, " t"]:
        heads, mine = np.zeros(min(BLOCK, n - lo), np.bool_), np.arange(lo, min(lo + BLOCK, n))
        mine = mine if rows is None else rows[mine]
        runs(vectors.raw(mine), vectors.scales[mine], limit2, heads)
        return heads

    heads = np.concatenate(list(pool.map(block, range(0, n, BLOCK))))
    return np.append(np.flatnonzero(heads), n)


def _by_signature(vectors: Vectors, pool: ThreadPoolExecutor) -> Groups | None:
    """Rows that lie on the same side of random planes lie close together (Charikar 2002), in whatever order they came.

    A clip falls apart into several signatures; further rounds with other planes put the heads of its parts together.
    """
    rows = np.arange(vectors.n)
    order, size, limit2 = rows, np.ones(vectors.n, np.int64), None
    for number in range(ROUNDS):
        heads = order  # of groups that are `size` consecutive entries of rows each
        sorting = np.argsort(_signatures(vectors, heads, number, pool), kind="stable")
        rows, size, heads = _reordered(rows, size, sorting), size[sorting], heads[sorting]
        limit2 = limit2 or _limit2(vectors, heads[:-1], heads[1:])
        if limit2 is None:
            return None
        starts = _starts(vectors, heads, limit2, pool)
        size, order = np.add.reduceat(size, starts[:-1]), heads[starts[:-1]]
        if number == 0 and len(order) * 2 > vectors.n:
            return None
    if vectors.n < MIN_SIZE * len(order):
        return None
    return _measured(vectors, rows, np.append(0, np.cumsum(size)), pool)


def _signatures(vectors: Vectors, rows: np.ndarray, number: int, pool: ThreadPoolExecutor) -> Int64[np.ndarray, " t"]:
    planes = np.random.default_rng(number).standard_normal((vectors.d, BITS)).astype(np.float32)
    values = 1 << np.arange(BITS)

    def block(lo: int) -> np.ndarray:
        mine = rows[lo : lo + BLOCK]
        return (vectors.screened(vectors.raw(mine), vectors.scales[mine])[0] @ planes > 0) @ values

    return np.concatenate(list(pool.map(block, range(0, len(rows), BLOCK))))


def _reordered(rows: np.ndarray, size: np.ndarray, sorting: np.ndarray) -> np.ndarray:
    """The groups of consecutive `rows` one after another in another order."""
    starts = np.cumsum(size) - size
    sizes = size[sorting]
    shift = np.repeat(starts[sorting] - (np.cumsum(sizes) - sizes), sizes)
    return rows[np.arange(len(rows)) + shift]


def _measured(
    vectors: Vectors, rows: np.ndarray | None, starts: Int64[np.ndarray, " edges"], pool: ThreadPoolExecutor
) -> Groups:
    n_groups = len(starts) - 1
    centres, radius = np.empty((n_groups, vectors.d), np.float32), np.empty(vectors.n, np.float32)
    cuts = np.unique(np.append(np.searchsorted(starts, np.arange(0, vectors.n, BLOCK)), n_groups))

    def part(of: tuple[int, int]) -> None:
        lo, hi = of
        first, after = starts[lo], starts[hi]
        mine = np.arange(first, after) if rows is None else rows[first:after]
        x, scales = vectors.raw(mine), vectors.scales[mine]
        balls(x, scales, vectors.mean, vectors.unit, starts[lo : hi + 1] - first, centres[lo:hi], radius[first:after])

    list(pool.map(part, pairwise(cuts.tolist())))
    return Groups(rows, starts, centres, radius, np.maximum.reduceat(radius, starts[:-1]).astype(np.float64))
