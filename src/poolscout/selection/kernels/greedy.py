"""Exact greedy selection with lazy evaluation: core-set and k-means++ over one or many shards.

Why it is exact. Every point carries a priority that is never higher than the one naive greedy would compute now, as
distances to the nearest centre only fall. A sweep takes a bound b; all points whose priority may reach b are brought up
to date, and picks are made among them for as long as the best is at least as good as b. A point outside has a priority
above b and cannot have been the naive choice; ties with b are inside. Within the sweep the same argument holds for the
points that have not met the latest picks: only the one on top is brought up to date, and it is picked when it stays on
top. Distances that decide are float64 in one fixed order of operations; float32 products only tell which ones need to
be calculated, with a margin that covers every rounding error (`Vectors.error`). So the picks are those of the naive
greedy in float64, on any device, in any number of shards, with any width of the sweeps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from poolscout.selection.kernels.compiled import pick_lazily
from poolscout.selection.kernels.state import Block, Centres, Fleet, Rule

MOST_A_SWEEP = 1024
ONE_BY_ONE = 60_000  # distances one by one; beyond, a matrix product over all candidates is cheaper
NARROW, WIDE = 32, 1 << 15  # points a sweep: their rows are copied


@dataclass(frozen=True)
class Greedy:
    """Picks of a greedy sampler.

    Attributes:
        positions: [n] distinct, in pick order.
        distances: [n] squared distance to the nearest centre when picked; infinite for a first one without centres.
        n_ranked: so many had a priority to go by; the rest follows as `greedy` says.
        work: "sweeps", how often the shards were asked; "evaluated", distances that were calculated, in float32 or
            float64; "bytes" exchanged with other processes; seconds that went into "bounds_s" (which points to look
            at), "points_s" (bringing them up to date), "picking_s" and "centres_s" (groups and points taking note of
            the picks).
    """

    positions: Int64[np.ndarray, " n"]
    distances: Float64[np.ndarray, " n"]
    work: dict[str, float]
    n_ranked: int = 0


def greedy(fleet: Fleet, rule: Rule, n: int) -> Greedy:
    """Pick n points, best priority first; the shards have met one or more centres already.

    Args:
        fleet: the points.
        rule: over all points; the shards have their parts of it.
        n: at most as many as there are points left.

    Returns:
        n picks. Where no priority is left to go by (all distances or weights are 0), core-set takes the lowest
        positions and k-means++ draws in proportion to the weights, then evenly (`_rest`).
    """
    offsets = np.cumsum([0, *fleet.sizes])
    positions, distances = [np.empty(0, np.int64)], [np.empty(0)]
    now, width, left = 0.0, NARROW, n
    work: dict[str, float] = {"sweeps": 0, "bounds_s": 0.0, "points_s": 0.0, "picking_s": 0.0, "centres_s": 0.0}
    while left:
        before = fleet.evaluated
        with _timed(work, "bounds_s"):
            reached = _bound(fleet, width, now, rule.is_race)
        if reached is None:
            break
        bound, width = reached
        with _timed(work, "points_s"):
            found = fleet.candidates(bound, now)
        with _timed(work, "picking_s"):
            block = _joined(found, offsets)
            most = min(left, MOST_A_SWEEP)
            picks, times, far, is_through = _picked(block, rule.is_race, bound, most, fleet.n_met)
        later = max(now, bound if is_through else float(times[-1]))
        chosen = block.positions[picks]
        with _timed(work, "centres_s"):
            taken = [chosen[(lo <= chosen) & (chosen < hi)] - lo for lo, hi in pairwise(offsets.tolist())]
            centres = Centres(block.raw[picks], block.scales[picks], times)
            fleet.take(_parts(block, [len(part) for part in found]), centres, taken, now, later)
        positions.append(chosen)
        distances.append(far)
        now, left = later, left - len(picks)
        width = _next_width(width, fleet.evaluated - before, before)
        work["sweeps"] += 1
    if left:
        positions.append(_rest(fleet.unpicked(), rule)[:left])
        distances.append(np.full(left, np.nan))
    work |= {"evaluated": fleet.evaluated, "bytes": fleet.bytes}
    return Greedy(np.concatenate(positions), np.concatenate(distances), work, n - left)


@contextmanager
def _timed(work: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    work[part] += time.perf_counter() - start


def _bound(fleet: Fleet, width: int, now: float, is_race: bool) -> tuple[float, int] | None:
    """The least of the shards' thresholds and its width; None when no priority is left that means anything."""
    last = np.finfo(np.float64).max if is_race else -np.finfo(np.float64).smallest_subnormal
    while (bound := min(fleet.thresholds(width, now))) > last:
        if width == 1:
            return None
        width = max(width // 8, 1)  # the best of fewer may still mean something
    return bound, width


def _picked(
    block: Block, is_race: bool, bound: float, most: int, first: int
) -> tuple[Int64[np.ndarray, " p"], Float64[np.ndarray, " p"], Float64[np.ndarray, " p"], bool]:
    """(indices into the block, times, distances) of the picks, and whether nothing up to the bound is left."""
    picks, times, far = np.empty(most, np.int64), np.empty(most), np.empty(most)
    block.met = np.zeros(len(block), np.int64)
    count, evaluated = pick_lazily(
        block.positions, block.raw, block.scales, block.weight, block.theta, block.d, block.near, block.area,
        block.last, block.event, block.priority, bound, most, ONE_BY_ONE, first, is_race, picks, times, far,
        block.met, np.empty(most),
    )  # fmt: skip
    return picks[:count], times[:count], far[:count], count < most and evaluated < ONE_BY_ONE


def _next_width(width: int, evaluated: int, before: int) -> int:
    """So wide that a sweep's fixed cost, some milliseconds, is about that of its distances.

    Narrow sweeps evaluate less: a pick spares its near-duplicates. Where much has to be evaluated anyway, the fixed
    cost matters less than large matrix products.
    """
    enough = ONE_BY_ONE * 16 + before // 100
    if evaluated < enough:
        return min(2 * width, WIDE)
    return max(width // 2, NARROW) if evaluated > 4 * enough else width


def _rest(unpicked: np.ndarray, rule: Rule) -> Int64[np.ndarray, " t"]:
    """What is left, in the order in which it is taken when no priority is left to go by."""
    positions = np.flatnonzero(unpicked)
    if rule.theta is None:
        return positions
    assert rule.exponentials is not None
    return positions[np.lexsort((rule.exponentials[positions], rule.theta[positions]))]


_ARRAYS = ("slots", "raw", "scales", "weight", "theta", "d", "near", "priority", "area", "last", "event")


def _joined(blocks: Sequence[Block], offsets: Int64[np.ndarray, " edges"]) -> Block:
    """The shards' candidates as one block, by position."""
    if len(blocks) == 1:
        return blocks[0]
    positions = np.concatenate([block.positions + lo for block, lo in zip(blocks, offsets, strict=False)])
    return Block(positions=positions, **{a: np.concatenate([getattr(b, a) for b in blocks]) for a in _ARRAYS})


def _parts(block: Block, sizes: Sequence[int]) -> list[Block]:
    """The joined block as the shards' parts again."""
    if len(sizes) == 1:
        return [block]
    cuts = np.cumsum(sizes)[:-1]
    split = {a: np.split(getattr(block, a), cuts) for a in (*_ARRAYS, "positions", "met")}
    return [Block(**{a: split[a][i] for a in split}) for i in range(len(sizes))]
