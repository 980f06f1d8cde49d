"""min ‖Σ x_j a_j − t‖² with 0 ≤ x ≤ 1, for atoms that arrive one at a time: a warm-started active set."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

KKT = 1e-12  # of a bound's multiplier and of a free atom's correlation, a_j·residual / ‖a_j‖, in units of ‖t‖
_MIN_PIVOT = 1e-5  # of the Cholesky factor of unit atoms; below it the normal equations have lost too many digits
_REFINEMENTS = 3


class BoundedLeastSquares:
    """The bounded least-squares fit of a support that grows.

    The method is BVLS (Stark and Parker 1995) started from the last solution. A *free* atom has its weight strictly
    inside (0, 1) or is on its way there; the others rest on a bound. The unconstrained minimum over the free atoms is
    approached as far as the bounds allow, and atoms that hit a bound rest there; then the resting atom that violates
    the KKT conditions most is freed. Every freed atom lowers the objective, or is left alone for the rest of the call:
    no active set comes twice, so the method ends.

    Steps are solved from the residual (G p = aᵀr), not weights from the target, so that the rounding of one step is
    corrected by the next; where free atoms are linearly dependent the step of least norm is taken.

    Attributes:
        weights: [k] in 0…1, in the order of `add`.
        residual: [q] t − Σ x_j a_j.
    """

    def __init__(self, target: Float64[np.ndarray, " q"]) -> None:
        self.target = target
        self.residual = target.copy()
        self._scale = float(np.linalg.norm(target))
        self._k = 0
        self._atoms = np.zeros((16, len(target)))
        self._gram = np.zeros((16, 16))
        self._weights = np.zeros(16)
        self._norms = np.ones(16)
        self._free = np.zeros(16, np.bool_)

    @property
    def weights(self) -> Float64[np.ndarray, " k"]:
        return self._weights[: self._k].copy()

    def add(self, atom: Float64[np.ndarray, " q"]) -> None:
        """Let one more atom, not zero, into the support and solve again; its row of the Gram matrix costs O(k·q)."""
        if self._k == len(self._weights):
            self._grow()
        k = self._k
        self._atoms[k] = atom
        row = self._atoms[: k + 1] @ atom
        self._gram[k, : k + 1] = row
        self._gram[: k + 1, k] = row
        self._norms[k] = np.sqrt(row[k])
        self._k = k + 1
        self._solve()

    def _grow(self) -> None:
        k = self._k
        self._atoms = np.pad(self._atoms, ((0, k), (0, 0)))
        self._gram = np.pad(self._gram, ((0, k), (0, k)))
        self._weights, self._free = np.pad(self._weights, (0, k)), np.pad(self._free, (0, k))
        self._norms = np.pad(self._norms, (0, k), constant_values=1.0)

    def _solve(self) -> None:
        k = self._k
        free, weights = self._free[:k], self._weights[:k]
        left_alone = np.zeros(k, np.bool_)
        error = self.residual @ self.residual
        while True:
            correlation = self._atoms[:k] @ self.residual / self._norms[:k]
            # At 0 a positive correlation asks for more weight, at 1 a negative one for less.
            violation = np.where(weights > 0.5, -correlation, correlation)
            violation[free | left_alone] = 0.0
            worst = int(violation.argmax())
            if violation[worst] <= KKT * self._scale:
                return
            free[worst] = True
            self._minimise_over_free()
            lowered = self.residual @ self.residual
            if lowered >= error * (1 - 1e-15):
                left_alone[worst] = True  # the violation is rounding
            error = min(error, lowered)

    def _minimise_over_free(self) -> None:
        """Go to the minimum over the free atoms, stopping at bounds; whatever hits one is free no longer."""
        refinements = 0
        while refinements < _REFINEMENTS and self._free[: self._k].any():
            free = np.flatnonzero(self._free[: self._k])
            slope = self._atoms[free] @ self.residual
            if (np.abs(slope) <= KKT * self._scale * self._norms[free]).all():
                return
            step, at = self._step(free, slope), self._weights[free]
            room = np.divide(
                np.where(step > 0, 1 - at, at), np.abs(step), out=np.full_like(at, np.inf), where=step != 0
            )
            length = min(1.0, float(room.min()))
            moved = np.clip(at + length * step, 0.0, 1.0)
            if length < 1.0:
                hit = room <= length
                moved[hit] = step[hit] > 0
                self._free[free[hit]] = False
            else:
                refinements += 1
            self._weights[free] = moved
            self.residual = self.target - self._weights[: self._k] @ self._atoms[: self._k]

    def _step(self, free: Int64[np.ndarray, " f"], slope: Float64[np.ndarray, " f"]) -> Float64[np.ndarray, " f"]:
        """p with G p = slope, in unit atoms so that the pivots tell how dependent they are."""
        norms = self._norms[free]
        gram = self._gram[np.ix_(free, free)] / np.outer(norms, norms)
        # NumPy, not torch: the threads of two libraries would wait for one another between sweep and step.
        try:
            factor = np.linalg.cholesky(gram)
        except np.linalg.LinAlgError:
            factor = np.zeros((1, 1))
        if factor.diagonal().min() > _MIN_PIVOT:
            return _substitute(factor, slope / norms) / norms
        return np.linalg.lstsq((self._atoms[free] / norms[:, None]).T, self.residual, rcond=None)[0] / norms


def _substitute(factor: Float64[np.ndarray, "f f"], right: Float64[np.ndarray, " f"]) -> Float64[np.ndarray, " f"]:
    """z with L Lᵀ z = right. Row by row: all the threads of a general solver wait for each other for longer."""
    z, rows = right.copy(), range(len(right))
    for i in rows:
        z[i] = (z[i] - factor[i, :i] @ z[:i]) / factor[i, i]
    for i in reversed(rows):
        z[i] = (z[i] - factor[i + 1 :, i] @ z[i + 1 :]) / factor[i, i]
    return z
