"""The inner loops, compiled with Numba where it is installed; every function is plain Python that runs without it too.

Arguments are arrays without annotations, as Numba infers their types; shapes are in the docstrings. No function may
reorder or fuse the float64 operations that decide (no `fastmath`): they give the same bits here, in NumPy and on a GPU.
"""

import heapq
from collections.abc import Callable
from inspect import unwrap  # of what checks arguments under test
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # the tensor kernels take over, see `tensor_shard.py`
    numba = None  # type: ignore[assignment]

HAS_NUMBA = numba is not None
STRIP = 64  # screened distances looked at together


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return function if numba is None else numba.njit(nogil=True, cache=True)(unwrap(function))


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    """For float32 screening alone, whose error bound holds in any order of operations."""
    if numba is None:
        return function
    return numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "ninf", "contract"})(unwrap(function))


@compiled
def exact_squared(a, scale_a, b, scale_b):
    """‖scale_a·a − scale_b·b‖² in float64, in one fixed order: eight interleaved sums, added pairwise.

    This is *the* distance: every device and library that adds in this order gets the same bits, and a row's distance
    to a copy of itself is exactly 0. Rows of a length that is no multiple of 8 count as filled up with zeros.
    """
    n = a.shape[0]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    full = n - n % 8
    for k in range(0, full, 8):
        e0 = a[k] * scale_a - b[k] * scale_b
        e1 = a[k + 1] * scale_a - b[k + 1] * scale_b
        e2 = a[k + 2] * scale_a - b[k + 2] * scale_b
        e3 = a[k + 3] * scale_a - b[k + 3] * scale_b
        e4 = a[k + 4] * scale_a - b[k + 4] * scale_b
        e5 = a[k + 5] * scale_a - b[k + 5] * scale_b
        e6 = a[k + 6] * scale_a - b[k + 6] * scale_b
        e7 = a[k + 7] * scale_a - b[k + 7] * scale_b
        s0 += e0 * e0
        s1 += e1 * e1
        s2 += e2 * e2
        s3 += e3 * e3
        s4 += e4 * e4
        s5 += e5 * e5
        s6 += e6 * e6
        s7 += e7 * e7
    for k in range(full, n):
        e = a[k] * scale_a - b[k] * scale_b
        lane = k - full
        if lane == 0:
            s0 += e * e
        elif lane == 1:
            s1 += e * e
        elif lane == 2:
            s2 += e * e
        elif lane == 3:
            s3 += e * e
        elif lane == 4:
            s4 += e * e
        elif lane == 5:
            s5 += e * e
        else:
            s6 += e * e
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


def exact_pairs(a: np.ndarray, scales_a: np.ndarray, b: np.ndarray, scales_b: np.ndarray) -> np.ndarray:
    """`exact_squared` of t pairs of rows [t, d] (or one against t) in NumPy: the same bits, in the same order."""
    lanes = np.zeros((max(len(a), len(b)), 8))
    for lo in range(0, a.shape[1], 8):
        e = a[:, lo : lo + 8] * scales_a[:, None] - b[:, lo : lo + 8] * scales_b[:, None]
        lanes[:, : e.shape[1]] += e * e
    even = (lanes[:, 0] + lanes[:, 4]) + (lanes[:, 2] + lanes[:, 6])
    return even + ((lanes[:, 1] + lanes[:, 5]) + (lanes[:, 3] + lanes[:, 7]))


@compiled
def inverse_norms(x, out):
    """out [n] = 1 / ‖x_i‖, and 0 for rows of zeros."""
    for i in range(x.shape[0]):
        squared = exact_squared(x[i], 1.0, x[i], 0.0)
        out[i] = 1.0 / np.sqrt(squared) if squared > 0 else 0.0


@compiled
def gather(source, rows, out):
    for i in range(rows.shape[0]):
        row = rows[i]
        for k in range(source.shape[1]):
            out[i, k] = source[row, k]


@compiled
def screening(x, scales, mean, unit, y, q):
    """y [t, d] float32 = (scale·x − mean)·unit, for screening; q [t] float32 = ‖y‖²."""
    for i in range(x.shape[0]):
        total = 0.0
        for k in range(x.shape[1]):
            value = np.float32((x[i, k] * scales[i] - mean[k]) * unit)
            y[i, k] = value
            total += np.float64(value) * np.float64(value)
        q[i] = np.float32(total)


@_reduction
def _least(dots, norms, lo, hi):
    least = np.float32(np.inf)
    for j in range(lo, hi):
        value = norms[j] - dots[j] - dots[j]
        least = value if value < least else least
    return least


@compiled
def scan(dots, norms, below, unit2, tiny, x, scales, centres, centre_scales, times, first, seen, d, near, area, last,
         event, theta, race):  # fmt: skip
    """Bring t points up to date with p more centres; returns how many distances were evaluated in float64.

    `dots` [t, p] float32 are y_i·y_j. A centre can only be nearer than d_i when norms_j − 2·dots_ij ≤ d_i·unit2 +
    tiny − below_i, where norms, below and tiny leave room for every rounding error; `exact_squared` decides those few.

    Args: norms [p], below [t], x [t, d], scales [t]; centres [k, d], their scales and times [k], of which dots is about
    first … first+p−1; seen [t]: the centres a point has met already; d, near, area, last, event, theta [t]: updated,
    see `state.py`.
    """
    n_exact = 0
    for i in range(dots.shape[0]):
        row = dots[i]
        limit = np.float32(min(d[i] * unit2, 1e37) + tiny - below[i])
        lo = max(seen[i] - first, 0) if d[i] > 0 else dots.shape[1]
        while lo < dots.shape[1]:
            hi = min(lo + STRIP, dots.shape[1])
            if _least(row, norms, lo, hi) <= limit:
                for j in range(lo, hi):
                    if norms[j] - row[j] - row[j] <= limit:
                        c = first + j
                        e = exact_squared(x[i], scales[i], centres[c], centre_scales[c])
                        n_exact += 1
                        if e < d[i]:
                            if race:
                                if d[i] < np.inf:
                                    area[i] += (times[c] - last[i]) * d[i]
                                last[i] = times[c]
                                if e > 0:
                                    event[i] = max(event[i], last[i] + (theta[i] - area[i]) / e)
                                else:
                                    event[i] = np.inf
                            d[i] = e
                            near[i] = c
                            limit = np.float32(e * unit2 + tiny - below[i])
            lo = hi
    return n_exact


@compiled
def _exact_one_by_one(x, scales, point, picks, lo, hi, out):
    for j in range(lo, hi):
        out[j] = exact_squared(x[point], scales[point], x[picks[j]], scales[picks[j]])


def _exact_together(x, scales, point, picks, lo, hi, out):
    mine = picks[lo:hi]
    out[lo:hi] = exact_pairs(x[point : point + 1], scales[point : point + 1], x[mine], scales[mine])


@compiled
def _least_one_by_one(row, scale, others, scales):
    least = np.inf
    for j in range(others.shape[0]):
        least = min(least, exact_squared(row, scale, others[j], scales[j]))
    return least


def _least_together(row, scale, others, scales):
    return exact_pairs(row[None], np.array([scale]), others, scales).min(initial=np.inf)


exact_to_picks = _exact_one_by_one if HAS_NUMBA else _exact_together
least_exact = _least_one_by_one if HAS_NUMBA else _least_together


@compiled
def pick_lazily(positions, x, scales, weight, theta, d, near, area, last, event, priority, bound, most, most_evaluated,
                first, race, picks, times, distances, met, scratch):  # fmt: skip
    """Greedy picks among candidates, best first, while the best is at least as good as `bound`.

    A priority is a lower bound until its point has met every pick made here; only the point at the top of the heap is
    brought up to date, and it is picked when it stays there. Ties go to the lowest position.

    Args: positions, weight, … [t] and x [t, d] of the candidates; picks, times, distances [most]: filled; met [t]: how
    many of the picks each point has met; first: the number of centres before.

    Returns: (number of picks, number of distances evaluated).
    """
    heap = [(priority[i], positions[i], i) for i in range(positions.shape[0])]
    heapq.heapify(heap)
    n, evaluated = 0, 0
    while len(heap) > 0 and n < most and (evaluated < most_evaluated or n == 0):
        top, position, i = heap[0]
        if top > bound:
            break
        if met[i] == n:
            heapq.heappop(heap)
            picks[n] = i
            times[n] = top if race else 0.0
            distances[n] = d[i]
            priority[i] = np.inf
            n += 1
            continue
        exact_to_picks(x, scales, i, picks, met[i], n, scratch)
        evaluated += n - met[i]
        for j in range(met[i], n):
            if scratch[j] < d[i]:
                if race:
                    if d[i] < np.inf:
                        area[i] += (times[j] - last[i]) * d[i]
                    last[i] = times[j]
                    if scratch[j] > 0:
                        event[i] = max(event[i], last[i] + (theta[i] - area[i]) / scratch[j])
                    else:
                        event[i] = np.inf
                d[i] = scratch[j]
                near[i] = first + j
        met[i] = n
        priority[i] = event[i] if race else -weight[i] * d[i]
        if priority[i] > bound:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (priority[i], position, i))
    return n, evaluated


@compiled
def collect(starts, group_bound, lo, hi, bound, priority, has_geometry, race, weight, distance, radius, unit, clock,
            ring, now):  # fmt: skip
    """Points of groups lo … hi−1 that may be as good as `bound`; tightens priorities and group bounds on the way.

    Args: starts [groups + 1]; distance [groups]: from the group's centre to the nearest pick; radius [n]: from the
    point to its group's centre, both in screening space, of this unit; clock [groups] and ring [n]: see `state.py`.
    """
    found = [np.int64(0) for _ in range(0)]
    for g in range(lo, hi):
        if group_bound[g] > bound:
            continue
        best = np.inf
        for i in range(starts[g], starts[g + 1]):
            p = priority[i]
            if has_geometry and p <= bound:
                farthest = ((distance[g] + radius[i]) / unit) ** 2 * (1 + 1e-9)
                if race:
                    tight = now + (ring[i] - clock[g]) / farthest if farthest > 0 else np.inf
                else:
                    tight = -weight[i] * farthest
                if tight > p:
                    p = tight
                    priority[i] = p
            if p <= bound:
                found.append(np.int64(i))
            best = min(best, p)
        group_bound[g] = best
    return found


@compiled
def nearest_pick(dots, norms, centre_norms, error, tiny, distance2, near, first):
    """Upper bounds of the squared distances [groups] from group centres to picks; dots [groups, p] as in `scan`."""
    for g in range(dots.shape[0]):
        row, own = dots[g], centre_norms[g]
        if _least(row, norms, 0, row.shape[0]) + own <= distance2[g]:
            for j in range(row.shape[0]):
                value = max(norms[j] - row[j] - row[j] + own, 0.0) + error * (norms[j] + own) + tiny
                if value < distance2[g]:
                    distance2[g] = value
                    near[g] = first + j


@compiled
def tighten(x, scales, centres, centre_scales, chosen, d, near):
    """One exact distance for each of t points: to centre chosen[i], the nearest to its group."""
    for i in range(x.shape[0]):
        e = exact_squared(x[i], scales[i], centres[chosen[i]], centre_scales[chosen[i]])
        if e < d[i]:
            d[i] = e
            near[i] = chosen[i]


@compiled
def runs(x, scales, limit2, heads):
    """Mark the rows [t] that are farther than √limit2 from the head of the run they follow: each starts a run."""
    head = 0
    for i in range(x.shape[0]):
        if i == 0 or exact_squared(x[i], scales[i], x[head], scales[head]) > limit2:
            head = i
            heads[i] = True


@compiled
def balls(x, scales, mean, unit, starts, centres, radius):
    """The mean of each group's rows as a float32 centre of screening space, and each row's distance [t] to it.

    Args: x [t, d] and scales [t]: the rows of consecutive groups; starts [groups + 1]: where each begins in x.
    """
    d = x.shape[1]
    for g in range(starts.shape[0] - 1):
        lo, hi = starts[g], starts[g + 1]
        for k in range(d):
            total = 0.0
            for i in range(lo, hi):
                total += x[i, k] * scales[i] - mean[k]
            centres[g, k] = np.float32(total / (hi - lo) * unit)
        for i in range(lo, hi):
            total = 0.0
            for k in range(d):
                e = (x[i, k] * scales[i] - mean[k]) * unit - centres[g, k]
                total += e * e
            radius[i] = np.float32(np.sqrt(total) * (1 + 1e-6))
