"""Embeddings as the kernels read them: any float type, memory-mapped or not, never copied as a whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int64

from poolscout.selection.kernels.compiled import HAS_NUMBA, exact_pairs, gather, inverse_norms, screening

BLOCK = 8192  # rows read together in a pass over all
N_SAMPLED = 4096  # rows that say where the middle of the data is


@dataclass(frozen=True)
class Vectors:
    """Rows of an embedding table under a metric.

    A distance between two rows is ½^[cosine] · ‖s_a·a − s_b·b‖² in float64 (`exact_squared`), where s = 1 (squared
    Euclidean distance) or 1 / ‖row‖ (1 − cosine similarity; a row of zeros is ½ away from every other).

    Attributes:
        source: [m, d] float16, float32 or float64.
        rows: [n] the row of `source` of each point; None where point i is row i.
        scales: [n] s of each point.
        mean: [d] about the mean of the scaled rows, in float32's precision; taken off before screening in float32,
            whose error grows with the length of what it multiplies.
        unit: power of two that brings the rows to a length of about 1, so that float32 neither overflows nor vanishes.
        half: 1.0, or 0.5 for cosine: from ‖·‖² to the metric.
    """

    source: np.ndarray
    rows: Int64[np.ndarray, " n"] | None
    scales: Float64[np.ndarray, " n"]
    mean: Float64[np.ndarray, " d"]
    unit: float
    half: float

    @classmethod
    def of(cls, source: np.ndarray, metric: str, rows: Int64[np.ndarray, " n"] | None = None) -> Vectors:
        """The vectors of `source` [m, d], or of these rows of it; their numbers are finite."""
        n, d = source.shape[0] if rows is None else len(rows), source.shape[1]
        plain = cls(source, rows, np.ones(n), np.zeros(d), 1.0, 0.5 if metric == "cosine" else 1.0)
        largest = 0.0
        for lo in range(0, n, BLOCK):
            block = plain.raw(np.arange(lo, min(lo + BLOCK, n)))
            largest = max(largest, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
            if metric == "cosine":
                _inverse_norms(block, plain.scales[lo : lo + BLOCK])
        sampled = np.linspace(0, max(n - 1, 0), min(n, N_SAMPLED)).astype(np.int64)
        mean = (plain.raw(sampled) * plain.scales[sampled, None]).mean(0, dtype=np.float64) if n else np.zeros(d)
        with np.errstate(over="ignore"):
            narrow = mean.astype(np.float32).astype(np.float64)
        reach = 1.0 if metric == "cosine" else largest
        unit = 2.0 ** -np.floor(np.log2(reach)) if reach > 0 else 1.0
        return replace(plain, mean=np.where(np.isfinite(narrow), narrow, mean), unit=float(unit))

    @property
    def n(self) -> int:
        return len(self.scales)

    @property
    def d(self) -> int:
        return self.source.shape[1]

    @property
    def error(self) -> float:
        """Bound of a screened distance's error, as a multiple of ‖y_i‖² + ‖y_j‖².

        |fl(y·z) − y·z| ≤ γ_d ‖y‖‖z‖ ≤ γ_d (‖y‖² + ‖z‖²) / 2 in any order of summation, γ_d ≈ d·2⁻²⁴ (Higham, Accuracy
        and Stability of Numerical Algorithms, §3.1); rounding y, its norms and the sums adds a few units; twice that.
        """
        return 2 * (self.d + 32) * 2.0**-24

    @property
    def tiny(self) -> float:
        """What underflow adds to that error: of rows far shorter than the longest, squares may vanish in float32."""
        return (self.d + 32) * 2.0**-120

    def raw(self, points: Int64[np.ndarray, " t"]) -> np.ndarray:
        """Rows as they are stored: [t, d] float32 or float64."""
        rows = points if self.rows is None else self.rows[points]
        if HAS_NUMBA and self.source.dtype != np.float16 and self.source.flags.c_contiguous:
            out = np.empty((len(rows), self.d), self.source.dtype)
            gather(self.source, rows, out)
            return out
        return _wide(self.source[rows])

    def screened(
        self, raw: np.ndarray, scales: Float64[np.ndarray, " t"]
    ) -> tuple[Float32[np.ndarray, "t d"], Float32[np.ndarray, " t"]]:
        """Rows for float32 screening and their squared norms: (y, ‖y‖²)."""
        y, q = np.empty(raw.shape, np.float32), np.empty(len(raw), np.float32)
        if HAS_NUMBA:
            screening(raw, scales, self.mean, self.unit, y, q)
        else:
            y[:] = (raw * scales[:, None] - self.mean) * self.unit
            q[:] = np.square(y, dtype=np.float64).sum(1)
        return y, q


def _wide(rows: np.ndarray) -> np.ndarray:
    """float16 as float32, which holds it exactly; Numba does not calculate with it."""
    return np.ascontiguousarray(rows, np.float64 if rows.dtype.itemsize == 8 else np.float32)


def _inverse_norms(rows: np.ndarray, out: Float64[np.ndarray, " t"]) -> None:
    if HAS_NUMBA:
        inverse_norms(rows, out)
        return
    squared = exact_pairs(rows, np.ones(len(rows)), np.zeros_like(rows[:1]), np.zeros(1))
    with np.errstate(divide="ignore"):
        out[:] = np.where(squared > 0, 1 / np.sqrt(squared), 0.0)
