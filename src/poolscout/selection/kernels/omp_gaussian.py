"""Orthogonal matching pursuit on a Gaussian similarity, which has full rank and so hardly saturates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from poolscout.selection.kernels.bounded_least_squares import BoundedLeastSquares
from poolscout.selection.kernels.omp import SATURATED, Layer, OmpResult, Start, layers, pursue
from poolscout.selection.kernels.omp_atoms import DenseAtoms
from poolscout.selection.kernels.omp_gaussian_kernel import (
    SparseKernel,
    centred,
    default_bandwidth,
    dense_kernel,
    dropped_mass,
    halves,
    sparse_kernel,
)
from poolscout.selection.kernels.omp_points import Embeddings, Labelled
from poolscout.selection.kernels.omp_sparse import explained_by, sparse_layer

DENSE_UP_TO = 2048  # images; the whole kernel is 32 MB


def omp_gaussian(
    embeddings: Embeddings,
    scores: Float64[np.ndarray, " n"],
    n: int,
    *,
    bandwidth: float | None = None,
    neighbours: int = 128,
    rows: Int64[np.ndarray, " n"] | None = None,
    given: Labelled | None = None,
    pickable: Bool[np.ndarray, " n"] | None = None,
    dense_up_to: int = DENSE_UP_TO,
) -> OmpResult:
    """`omp` with D = K, K_ij = exp(−‖e_i − e_j‖² / 2h²): for batches larger than the embedding has dimensions.

    Haussmann et al. 2020 take "sparse modelling" from work on Gaussian kernels (Wang et al. 2019). K has full rank as
    long as no two images are the same, so that layer 0 goes on until every image is near a pick.

    Up to `dense_up_to` images K is whole, and the solution exact. Beyond, K is *truncated*: K_ij stays where one of i
    and j is among the other's `neighbours` nearest images and K_ij ≥ 1e-4, and is 0 elsewhere. The solution is that of
    the truncated K, with weights to a KKT tolerance of 1e-9 ‖s‖. Far images, and more than that many near-duplicates,
    become strangers: crowded places get more picks than by the whole K. `dropped_mass` says how much of ΣK is lost;
    when it is large choose a smaller bandwidth or more neighbours. Restarts begin without labelled images (`_start`).

    Args:
        embeddings: [m, d] float16, 32 or 64, finite; copied in float64, so take a short-list.
        scores: [n_images], finite.
        n: how many to pick, at most the number of pickable images.
        bandwidth: h > 0, in the embedding's unit; None = `default_bandwidth` of the candidates.
        neighbours: see above; memory is O(n_images · neighbours), time of a pick O(neighbours²).
        rows: [n_images] the row of each image, distinct; None: image i is row i.
        given: [L, d] embeddings of labelled images, finite; copied too.
        pickable: which images may be picked; the others still are part of what the batch has to represent.
        dense_up_to: images, labelled ones among them, up to which K is whole.

    Returns:
        Exactly n picks.

    Example:
        >>> clip = np.array([[0.0, 1.0], [0.1, 1.0], [5.0, 0.0]])
        >>> omp_gaussian(clip, np.array([0.9, 0.8, 0.3]), 2, bandwidth=1.0).positions.tolist()
        [0, 2]
    """
    pickable = np.ones(len(scores), np.bool_) if pickable is None else pickable
    features = centred(embeddings if rows is None else embeddings[rows], given)
    bandwidth = default_bandwidth(features[: len(scores)]) if bandwidth is None else bandwidth
    if len(features) <= dense_up_to:
        return replace(_pursue_dense(dense_kernel(features, bandwidth), scores, n, pickable), bandwidth=bandwidth)
    kernel = sparse_kernel(features, bandwidth, neighbours)
    lost = dropped_mass(features, bandwidth, kernel)
    return replace(_pursue_sparse(kernel, scores, n, pickable), bandwidth=bandwidth, dropped_mass=lost)


def _start(labelled: SparseKernel, scores: Float64[np.ndarray, " n"]) -> Start | None:
    """Layer 0 pursues s − K_L x_L, what labelled images leave of s.

    Unlike in `omp` they may be too many to solve for again at every pick, so x_L is found once, for all of them
    together (`explained_by`).

    K_L are further columns of K, whole or truncated as the others are: a labelled image, too, takes a place among the
    nearest of its neighbours.
    """
    if not len(labelled):
        return None
    explained, n_given = explained_by(labelled, scores)
    return Start(BoundedLeastSquares(scores - explained), lambda: explained, n_given)


def _pursue_dense(
    both: Float64[np.ndarray, "both both"], scores: Float64[np.ndarray, " n"], n: int, pickable: Bool[np.ndarray, " n"]
) -> OmpResult:
    """With the kernel of candidates, and of labelled images after them."""
    kernel, labelled = halves(both, len(scores))
    return pursue(DenseAtoms(kernel, scores), scores, n, pickable, sweep=True, start=_start(labelled, scores))


def _pursue_sparse(
    both: SparseKernel, scores: Float64[np.ndarray, " n"], n: int, pickable: Bool[np.ndarray, " n"]
) -> OmpResult:
    """With the kernel of candidates, and of labelled images after them."""
    kernel, labelled = both.halves(len(scores))
    start, norms, left = _start(labelled, scores), kernel.norms(), pickable.copy()
    scale = float(np.linalg.norm(scores))

    def layer(number: int, n: int) -> Layer:
        target = scores if start is None or number else start.fit.target
        found = sparse_layer(kernel, norms, target, scale, left, n, SATURATED)
        left[found[0]] = False
        return found

    def combined(positions: Int64[np.ndarray, " k"], weights: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " n"]:
        x = np.zeros(len(scores))
        x[positions] = weights
        return kernel.times(x)

    return layers(layer, combined, scores, n, pickable, start)
