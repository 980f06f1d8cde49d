"""Block steps of a bounded least squares with a sparse symmetric matrix, compiled.

Where numba is not installed the same functions run as they are: right, and slow.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

try:
    from numba import njit
except ImportError:  # pragma: no cover

    def njit(**_):  # type: ignore[no-untyped-def,no-redef]
        return lambda function: function


# What checks shapes under test leaves functions with @no_type_check alone; its wrapper could not be compiled.


@njit(cache=True)
@no_type_check
def gather_block(starts, columns, values, norms, support, local, i, most):
    """Positions of i and the support atoms most correlated with it, at most `most`. `local` is −1 everywhere."""
    found, seen = np.empty(len(norms), np.int64), 0
    for a in range(starts[i], starts[i + 1]):
        for b in range(starts[columns[a]], starts[columns[a] + 1]):
            j = columns[b]
            if support[j] and local[j] < 0:
                local[j] = seen
                found[seen] = j
                seen += 1
    overlap = np.zeros(seen)
    for a in range(starts[i], starts[i + 1]):
        for b in range(starts[columns[a]], starts[columns[a] + 1]):
            if local[columns[b]] >= 0:
                overlap[local[columns[b]]] += values[a] * values[b] / norms[columns[b]]
    for k in range(seen):
        local[found[k]] = -1
    chosen = np.empty(min(seen, most), np.int64)
    for k in range(len(chosen)):
        best = 0
        for m in range(seen):
            if overlap[m] > overlap[best]:
                best = m
        chosen[k], overlap[best] = found[best], -1.0
    return chosen


@njit(cache=True)
@no_type_check
def block_gram(starts, columns, values, local, block):
    """K_BᵀK_B of a block. `local` is −1 everywhere, and again afterwards."""
    gram = np.zeros((len(block), len(block)))
    for k in range(len(block)):
        local[block[k]] = k
    for k in range(len(block)):
        for a in range(starts[block[k]], starts[block[k] + 1]):
            for b in range(starts[columns[a]], starts[columns[a] + 1]):
                if local[columns[b]] >= 0:
                    gram[k, local[columns[b]]] += values[a] * values[b]
    for k in range(len(block)):
        local[block[k]] = -1
    return gram


@njit(cache=True)
@no_type_check
def apply_change(starts, columns, values, correlation, change, block, through):
    """c −= K (K δ) for weights that changed by δ in a block. `through` is 0 everywhere, and again afterwards."""
    for k in range(len(block)):
        if change[k] != 0.0:
            for a in range(starts[block[k]], starts[block[k] + 1]):
                through[columns[a]] += change[k] * values[a]
    for k in range(len(block)):
        for a in range(starts[block[k]], starts[block[k] + 1]):
            u = columns[a]
            if through[u] != 0.0:
                for b in range(starts[u], starts[u + 1]):
                    correlation[columns[b]] -= through[u] * values[b]
                through[u] = 0.0


@njit(cache=True)
@no_type_check
def solve_block(gram, weights, slope, tolerance):
    """The minimum over 0 ≤ z ≤ 1 from `weights`, where −`slope` is the gradient; both are updated in place.

    An active set as in `BoundedLeastSquares`, on the Gram matrix. `tolerance` [b]: KKT, of each atom's slope.
    """
    b = len(weights)
    free = np.empty(b, np.bool_)
    for k in range(b):
        free[k] = 0.0 < weights[k] < 1.0
    for _ in range(10 * b + 20):
        step = _free_step(gram, slope, free)
        length, blocking = 1.0, -1
        for k in range(b):
            if free[k] and step[k] != 0.0:
                room = ((1.0 - weights[k]) if step[k] > 0 else weights[k]) / abs(step[k])
                if room < length:
                    length, blocking = room, k
        for k in range(b):
            if free[k] and step[k] != 0.0:
                weights[k] = min(1.0, max(0.0, weights[k] + length * step[k]))
                for m in range(b):
                    slope[m] -= gram[k, m] * length * step[k]
        if blocking >= 0:
            weights[blocking] = 1.0 if step[blocking] > 0 else 0.0
            free[blocking] = False
            continue
        worst, freed = 1.0, -1
        for k in range(b):
            violation = (slope[k] if weights[k] < 0.5 else -slope[k]) / tolerance[k]
            if not free[k] and violation > worst:
                worst, freed = violation, k
        if freed < 0:
            return
        free[freed] = True


@njit(cache=True)
@no_type_check
def _free_step(gram, slope, free):
    """p with G p = slope over the free atoms, 0 elsewhere and for atoms that depend on those before them."""
    index, f = np.empty(len(slope), np.int64), 0
    for k in range(len(slope)):
        if free[k]:
            index[f], f = k, f + 1
    factor, step = np.zeros((f, f)), np.zeros(len(slope))
    right = np.zeros(f)
    for r in range(f):
        for c in range(r + 1):
            rest = gram[index[r], index[c]]
            for q in range(c):
                rest -= factor[r, q] * factor[c, q]
            if c < r:
                factor[r, c] = rest / factor[c, c] if factor[c, c] > 0.0 else 0.0
            elif rest > 1e-12 * gram[index[r], index[r]]:
                factor[r, r] = np.sqrt(rest)
    for r in range(f):
        if factor[r, r] > 0.0:
            right[r] = slope[index[r]]
            for q in range(r):
                right[r] -= factor[r, q] * right[q]
            right[r] /= factor[r, r]
    for r in range(f - 1, -1, -1):
        if factor[r, r] > 0.0:
            right[r] /= factor[r, r]
            for c in range(r):
                right[c] -= factor[r, c] * right[r]
            step[index[r]] = right[r]
        else:
            right[r] = 0.0
    return step
