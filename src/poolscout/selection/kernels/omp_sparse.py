"""One layer of matching pursuit on a sparse symmetric similarity: everything a pick changes is near the pick."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float64, Int64

from poolscout.selection.kernels.omp_argmax import TIE
from poolscout.selection.kernels.omp_blocks import apply_change, block_gram, gather_block, njit, solve_block
from poolscout.selection.kernels.omp_gaussian_kernel import SparseKernel

KKT = 1e-9  # as in bounded_least_squares, for weights found block by block
_BLOCK = 128  # atoms solved for together
_STILL, _ROUNDS = 1e-7, 300
_BLOCKS_A_PICK = 1000  # a guard; a handful is usual


def sparse_layer(
    kernel: SparseKernel,
    norms: Float64[np.ndarray, " n"],
    target: Float64[np.ndarray, " n"],
    scale: float,
    pickable: Bool[np.ndarray, " n"],
    n: int,
    least: float,
) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Up to n picks from x = 0, their weights at the end, and their normalised correlations, as in `omp`.

    `target` is s, or what labelled images leave of it; `scale` is ‖s‖.

    All correlations c = K(s − Kx) are kept up to date (Batch-OMP: c follows x through K², which nobody forms). After a
    pick the bounded least squares over the support is solved from the last solution, block by block: an atom that
    violates the KKT conditions, |c_i| / ‖K_i‖ ≤ 1e-9 ‖s‖ (one-sided at a bound), is solved for together with the up to
    128 atoms of the support that overlap most with it, exactly; this changes c at most four steps through K away, and
    atoms of the support that then violate the conditions get into a queue. Every block lowers ‖Kx − s‖², and when the
    queue is empty the conditions hold for the whole support. A coordinate alone would do too, but near-duplicates make
    it crawl.

    O(n_images) a pick for the argmax, O(128 neighbours²) a block.
    """
    positions, correlations = np.empty(n, np.int64), np.empty(n)
    weights = np.zeros(len(target))
    k = _pursue(
        kernel.starts, kernel.columns, kernel.values, norms, kernel.times(target), pickable.copy(),
        weights, positions, correlations, scale, least,
    )  # fmt: skip
    return positions[:k], weights[positions[:k]], correlations[:k]


def explained_by(labelled: SparseKernel, scores: Float64[np.ndarray, " n"]) -> tuple[Float64[np.ndarray, " n"], int]:
    """K_L x_L with x_L about the minimum of ‖K_L x − s‖² over 0 ≤ x ≤ 1, and how many weights are not 0.

    Projected coordinate descent over all labelled images in turn, until no step changes K_L x_L by more than 1e-7 ‖s‖,
    or 300 rounds: among near-duplicates weights wander for long, what they explain together does not. O(m) a round.
    """
    left, weights = scores.copy(), np.zeros(len(labelled))
    _descend(labelled.starts, labelled.columns, labelled.values, left, weights, _STILL * float(np.linalg.norm(scores)))
    return scores - left, int(np.count_nonzero(weights))


@njit(cache=True)
@no_type_check
def _descend(starts, columns, values, left, weights, still):
    for _ in range(_ROUNDS):
        largest = 0.0
        for i in range(len(weights)):
            slope = square = 0.0
            for a in range(starts[i], starts[i + 1]):
                slope += values[a] * left[columns[a]]
                square += values[a] * values[a]
            if square == 0.0:
                continue
            change = min(1.0, max(0.0, weights[i] + slope / square)) - weights[i]
            weights[i] += change
            for a in range(starts[i], starts[i + 1]):
                left[columns[a]] -= change * values[a]
            largest = max(largest, abs(change) * np.sqrt(square))
        if largest <= still:
            return


@njit(cache=True)
@no_type_check
def _pursue(starts, columns, values, norms, correlation, open_, weights, positions, found, scale, least):
    """Fill `positions`, `found` and `weights`; return how many picks."""
    n = len(norms)
    support = np.zeros(n, np.bool_)
    local, through = np.full(n, -1), np.zeros(n)
    queue, queued = np.empty(n + 1, np.int64), np.zeros(n, np.bool_)
    for k in range(len(positions)):
        best = -np.inf
        for j in range(n):
            if open_[j] and correlation[j] > best * norms[j]:
                best = correlation[j] / norms[j]
        if not best > least * scale:
            return k
        pick = 0
        while not open_[pick] or correlation[pick] < (best - TIE * scale) * norms[pick]:
            pick += 1
        open_[pick], support[pick] = False, True
        positions[k], found[k] = pick, correlation[pick] / (norms[pick] * scale)
        queue[0] = pick
        _settle(
            starts, columns, values, norms, correlation, support, weights, local, through, queue, queued, KKT * scale
        )
    return len(positions)


@njit(cache=True)
@no_type_check
def _settle(starts, columns, values, norms, correlation, support, weights, local, through, queue, queued, tolerance):
    """Solve for the support's weights again after `queue[0]` has joined it. The queue is a ring, each atom once."""
    head, tail, n_blocks = 0, 1, 0
    while head != tail:
        i = queue[head]
        head = (head + 1) % len(queue)
        queued[i] = False
        if n_blocks == _BLOCKS_A_PICK or _violation(correlation, norms, weights, i) <= tolerance:
            continue
        n_blocks += 1
        block = gather_block(starts, columns, values, norms, support, local, i, _BLOCK)
        gram = block_gram(starts, columns, values, local, block)
        change, new, slope = np.empty(len(block)), np.empty(len(block)), np.empty(len(block))
        tolerances = np.empty(len(block))
        for k in range(len(block)):
            new[k], slope[k] = weights[block[k]], correlation[block[k]]
            tolerances[k] = 0.1 * tolerance * norms[block[k]]
        solve_block(gram, new, slope, tolerances)
        for k in range(len(block)):
            change[k] = new[k] - weights[block[k]]
            weights[block[k]] = new[k]
        apply_change(starts, columns, values, correlation, change, block, through)
        for k in range(len(block)):
            if abs(change[k]) * norms[block[k]] <= 0.01 * tolerance:
                continue
            for a in range(starts[block[k]], starts[block[k] + 1]):
                for b in range(starts[columns[a]], starts[columns[a] + 1]):
                    j = columns[b]
                    if support[j] and not queued[j] and _violation(correlation, norms, weights, j) > tolerance:
                        queued[j] = True
                        queue[tail] = j
                        tail = (tail + 1) % len(queue)


@njit(cache=True)
@no_type_check
def _violation(correlation, norms, weights, i):
    """By how much atom i could still lower the error: |c_i| / ‖K_i‖ unless a bound is in the way."""
    c = correlation[i] / norms[i]
    if c > 0.0:
        return c if weights[i] < 1.0 else 0.0
    return -c if weights[i] > 0.0 else 0.0
