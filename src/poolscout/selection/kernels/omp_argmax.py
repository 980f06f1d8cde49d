"""The atom with the highest correlation with a residual: a sweep in half the precision, and the finalists in full."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64

from poolscout.selection.kernels.omp_atoms import Atoms
from poolscout.selection.kernels.omp_points import ROWS_AT_A_TIME

TIE = 1e-10  # normalised correlations closer than this, in units of ‖t‖, are equal


class BestAtom:
    """argmax_j a_jᵀr / ‖a_j‖ over the open atoms for one residual r after another, exact to float64.

    `Atoms.sweep` gives correlations c̃_j with a margin μ, |c̃_j − c_j| ≤ μ, at the price of reading the embeddings once
    in the type they are stored in. Let j₀ = argmax c̃. An atom with c̃_j < c_j₀ − μ has c_j ≤ c̃_j + μ < c_j₀ and is not
    the best. The others, a handful, are evaluated in float64. So the result is the argmax of the float64 correlations;
    those within 1e-10 ‖t‖ of it are equal, and the lowest position has it.

    Bounds that would save the sweep do not pay. After a pick with correlation c the residual has moved by at least c,
    and a bound that grows with its way admits every atom with c_j > 0. A radius around the frames of a clip excludes
    nothing once ‖r‖ times the radius exceeds c, early in each layer. And the residuals of one layer span as many
    dimensions as it has atoms: keeping correlations with an orthonormal basis of them may read as much again. The best
    of an earlier residual r', with the value θ below them, hold the best of this one for sure when its c is above
    θ + ‖r − r'‖: true of 5 % of all picks at most, although each layer repeats the steps of the one before.

    Attributes:
        n_finalists: correlations evaluated in float64 so far.
    """

    def __init__(self, atoms: Atoms, pickable: Bool[np.ndarray, " n"], *, sweep: bool = True) -> None:
        self._atoms, self._scale = atoms, float(np.linalg.norm(atoms.target)) or 1.0
        closed = np.flatnonzero(~pickable | (atoms.norms <= 0))
        self._closed, self._n_closed = np.resize(closed, len(pickable)), len(closed)
        self._sweep, self.n_finalists = sweep, 0

    def close(self, position: int) -> None:
        """This atom is never found again."""
        self._closed[self._n_closed] = position
        self._n_closed += 1

    def find(self, residual: Float64[np.ndarray, " q"], least: float) -> tuple[int, float] | None:
        """Position and normalised correlation, in units of ‖t‖, of the best open atom; None if not above least."""
        residual = residual / self._scale
        finalists = self._finalists(residual, least)
        values = self._evaluate(finalists, residual)
        if not len(values) or values.max() <= least:
            return None
        best = int(np.flatnonzero(values >= values.max() - TIE)[0])
        return int(finalists[best]), float(values[best])

    def _finalists(self, residual: Float64[np.ndarray, " q"], least: float) -> Int64[np.ndarray, " k"]:
        """Open atoms, among them all that are within TIE of the best, if that is above least."""
        closed = self._closed[: self._n_closed]
        if not self._sweep:
            return np.delete(np.arange(len(self._closed)), closed)
        rough, margin = self._atoms.sweep(residual)
        rough[closed] = -np.inf
        top = int(rough.argmax())
        if rough[top] + margin <= least:
            return np.empty(0, np.int64)
        reach = max(least, float(self._evaluate(np.array([top]), residual)[0]))
        # The type of the sweep may round the threshold up: take the next number below.
        return np.flatnonzero(rough >= np.nextafter(rough.dtype.type(reach - TIE - margin), -np.inf))

    def _evaluate(
        self, positions: Int64[np.ndarray, " k"], residual: Float64[np.ndarray, " q"]
    ) -> Float64[np.ndarray, " k"]:
        self.n_finalists += len(positions)
        parts = range(0, len(positions), ROWS_AT_A_TIME)
        return np.concatenate(
            [np.empty(0), *(self._atoms.correlate(positions[i : i + ROWS_AT_A_TIME], residual) for i in parts)]
        )
