"""The Gaussian similarity K_ij = exp(−‖e_i − e_j‖² / 2h²), whole or between near images only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64

from poolscout.selection.kernels.omp_neighbours import nearest, pairs
from poolscout.selection.kernels.omp_points import Embeddings, Labelled

CUT = 1e-4  # similarities below it are left out of a sparse kernel
_SAMPLE = 256  # rows that bandwidth and dropped mass are estimated from
_SAMPLED_AT_A_TIME = 32
_PAIRS_AT_A_TIME = 16384


@dataclass(frozen=True)
class SparseKernel:
    """A matrix, row by row: row i has `values[starts[i]:starts[i + 1]]` at `columns[…]`, ascending.

    Symmetric with ones in its diagonal, unless it is the half of one that says what labelled images are similar to.
    """

    starts: Int64[np.ndarray, " rows_and_one"]
    columns: Int32[np.ndarray, " m"]
    values: Float64[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def times(self, vector: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """K · vector."""
        return np.add.reduceat(self.values * vector[self.columns], self.starts[:-1])  # no row is empty

    def norms(self) -> Float64[np.ndarray, " n"]:
        """‖K_j‖."""
        return np.sqrt(np.add.reduceat(np.square(self.values), self.starts[:-1]))

    def dense(self) -> Float64[np.ndarray, "n n"]:
        """The matrix with its zeros, for small n."""
        n = len(self.starts) - 1
        matrix = np.zeros((n, n))
        matrix[np.repeat(np.arange(n), np.diff(self.starts)), self.columns] = self.values
        return matrix

    def halves(self, n: int) -> tuple[SparseKernel, SparseKernel]:
        """The first n rows and the others, each with the first n columns."""
        kept = self.columns < n
        counts = np.add.reduceat(kept, self.starts[:-1], dtype=np.int64)
        starts, columns, values = np.concatenate([[0], np.cumsum(counts)]), self.columns[kept], self.values[kept]
        at = starts[n]
        return SparseKernel(starts[: n + 1], columns[:at], values[:at]), SparseKernel(
            starts[n:] - at, columns[at:], values[at:]
        )


def halves(kernel: Float64[np.ndarray, "both both"], n: int) -> tuple[Float64[np.ndarray, "n n"], SparseKernel]:
    """`SparseKernel.halves` of a whole kernel, with nothing left out."""
    rest = np.ascontiguousarray(kernel[n:, :n])
    starts = np.arange(0, rest.size + 1, n)
    return np.ascontiguousarray(kernel[:n, :n]), SparseKernel(
        starts, np.tile(np.arange(n, dtype=np.int32), len(rest)), rest.ravel()
    )


def centred(embeddings: Embeddings, given: Labelled | None = None) -> Float64[np.ndarray, "both d"]:
    """All rows minus their mean, in float64: distances stay, and the digits of a large offset are free for them."""
    n = len(embeddings)
    rows = np.empty((n + (0 if given is None else len(given)), embeddings.shape[1]))
    rows[:n] = embeddings
    if given is not None:
        rows[n:] = given
    rows -= rows.mean(0)
    return rows


def default_bandwidth(features: Float64[np.ndarray, "n d"], kth: int = 8) -> float:
    """The median distance of an image to its 8th nearest other one: near-duplicates are similar, and little else.

    Of up to 256 images, evenly over the positions. Exact duplicates do not count as neighbours; 1 where all images are
    equal.
    """
    same = 1e-12 * float(np.einsum("ij,ij->i", features, features).max())
    kth = min(kth, max(len(features) - 1, 1))
    found = []
    for _, squared in _sampled_distances(features):
        squared[squared <= same] = np.inf
        found.append(np.sort(np.partition(squared, kth - 1, axis=1)[:, :kth], axis=1))
    distances = np.sqrt(np.concatenate(found))
    known = distances[np.isfinite(distances[:, -1]), -1]
    if not len(known):  # too few images that differ: the nearest has to do
        known = distances[np.isfinite(distances[:, 0]), 0]
    return float(np.median(known)) if len(known) else 1.0


def dense_kernel(features: Float64[np.ndarray, "n d"], bandwidth: float) -> Float64[np.ndarray, "n n"]:
    """All of K, for small n."""
    kernel = np.empty((len(features), len(features)))
    for i, row in enumerate(features):
        kernel[i] = np.square(features - row).sum(1)  # differences, not a·b: exact for near-duplicates
    return np.exp(kernel / (-2 * bandwidth**2), out=kernel)


def sparse_kernel(features: Float64[np.ndarray, "n d"], bandwidth: float, neighbours: int) -> SparseKernel:
    """K_ij where j is one of the nearest images of i or i one of those of j, and K_ij ≥ 1e-4; 0 elsewhere.

    Values are those of K in float64. O(n · neighbours) memory.
    """
    n = len(features)
    radius = bandwidth * np.sqrt(-2 * np.log(CUT))
    low, high = pairs(nearest(features, min(neighbours, n - 1), radius))
    values = np.exp(_squared_distances(features, low, high) / (-2 * bandwidth**2))
    kept = values >= CUT
    low, high, values = low[kept], high[kept], values[kept]
    counts = np.bincount(low, minlength=n) + np.bincount(high, minlength=n) + 1
    places = np.concatenate([low * n + high, high * n + low, np.arange(n) * (n + 1)])
    del low, high
    order = np.argsort(places)
    places %= n
    columns = places.astype(np.int32)[order]
    del places
    return SparseKernel(
        np.concatenate([[0], np.cumsum(counts)]), columns, np.concatenate([values, values, np.ones(n)])[order]
    )


def dropped_mass(features: Float64[np.ndarray, "n d"], bandwidth: float, kernel: SparseKernel) -> float:
    """The share of ΣK that the sparse kernel lacks, 0…1, estimated from up to 256 rows evenly over the positions."""
    whole = there = 0.0
    for sample, squared in _sampled_distances(features):
        whole += float(np.exp(squared / (-2 * bandwidth**2)).sum()) + len(sample)  # 1 each with themselves
        there += sum(float(kernel.values[kernel.starts[i] : kernel.starts[i + 1]].sum()) for i in sample)
    return max(0.0, 1 - there / whole)


def _sampled_distances(features: Float64[np.ndarray, "n d"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some sampled rows [s], and ‖e_i − e_j‖² of them to all [s, n]; infinite to themselves."""
    n, squares = len(features), np.einsum("ij,ij->i", features, features)
    every = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64))
    for sample in np.array_split(every, -(-len(every) // _SAMPLED_AT_A_TIME)):
        distances = features[sample] @ features.T
        distances *= -2
        distances += squares
        distances += squares[sample, None]
        np.maximum(distances, 0, out=distances)
        distances[np.arange(len(sample)), sample] = np.inf
        yield sample, distances


def _squared_distances(
    features: Float64[np.ndarray, "n d"], low: Int64[np.ndarray, " p"], high: Int64[np.ndarray, " p"]
) -> Float64[np.ndarray, " p"]:
    rows, squared = torch.from_numpy(features), np.empty(len(low))
    for start in range(0, len(low), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        apart = rows[torch.from_numpy(low[part])] - rows[torch.from_numpy(high[part])]
        squared[part] = torch.linalg.vecdot(apart, apart).numpy()
    return squared
