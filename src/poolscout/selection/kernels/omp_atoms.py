"""The columns of a similarity matrix as short vectors, without the matrix."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, Int64

from poolscout.selection.kernels.omp_points import Embeddings, Labelled, Points, Rows, Similarity, frame_of

_RANK_CUT_OFF = 1e-12  # of the largest eigenvalue of the Gram matrix


@runtime_checkable
class Atoms(Protocol):
    """Atoms a_j and a target t with ‖Dx − s‖² = ‖Σ x_j a_j − t‖² + a constant.

    Attributes:
        target: t, [q].
        norms: ‖a_j‖, [n]; 0 for a column of D without any similarity.
    """

    target: Float64[np.ndarray, " q"]
    norms: Float64[np.ndarray, " n"]

    def atom(self, position: int) -> Float64[np.ndarray, " q"]:
        """a_j."""

    def correlate(self, rows: Rows, direction: Float64[np.ndarray, " q"]) -> Float64[np.ndarray, " k"]:
        """a_j · direction / ‖a_j‖ of some rows; 0 where the norm is."""

    def sweep(self, direction: Float64[np.ndarray, " q"]) -> tuple[Float[np.ndarray, " n"], float]:
        """`correlate` of all rows, fast, and by how much it may be wrong at most."""

    def combined(
        self, positions: Int64[np.ndarray, " k"], weights: Float64[np.ndarray, " k"]
    ) -> Float64[np.ndarray, " n"]:
        """Dx of x with `weights` at `positions`, from D itself: s − Dx is a subtraction of large numbers in R v."""


class LowRankAtoms:
    """R v_j of some points, for the D = U Vᵀ that `low_rank` describes.

    Memory: four numbers a point beside the embeddings, which are read in blocks.

    Args:
        columns: v_j of the atoms.
        images: u_i: what D's columns say the similarity to. The same points, unless the columns are labelled images.
        root: R, [q, r].
        target: t, [q].
    """

    def __init__(
        self, columns: Points, images: Points, root: Float64[np.ndarray, "q r"], target: Float64[np.ndarray, " q"]
    ) -> None:
        self._columns, self._images, self._root, self.target = columns, images, root, target
        self.norms = np.empty(len(columns))
        for block in columns.blocks():
            atoms = columns.right(block) @ root.T
            self.norms[block] = np.sqrt(np.einsum("ij,ij->i", atoms, atoms))

    def atom(self, position: int) -> Float64[np.ndarray, " q"]:
        return self._root @ self._columns.right(slice(position, position + 1))[0]

    def correlate(self, rows: Rows, direction: Float64[np.ndarray, " q"]) -> Float64[np.ndarray, " k"]:
        along, norms = direction @ self._root, self.norms[rows]
        features, squares = self._columns.features(rows), self._columns.squares[rows]
        if self._columns.frame.cosine:
            raw, norms = features @ along, norms * np.sqrt(squares)
        else:
            raw = (1 - squares) * along[0] - along[1] + features @ (2 * along[2:])
        return np.divide(raw, norms, out=np.zeros_like(raw), where=norms > 0)

    def sweep(self, direction: Float64[np.ndarray, " q"]) -> tuple[Float[np.ndarray, " n"], float]:
        """A dot product of d terms is off by at most (d + 2) u ‖e_j‖‖w‖, in whatever order, u = 2⁻²⁴ in float32."""
        along = direction @ self._root
        scale, offset, closest = self._sweep_factors
        frame = self._columns.frame
        if frame.cosine:
            values = self._columns.product(along, scale.dtype)
            values *= scale
            size = np.linalg.norm(along)
        else:
            w = 2 * along[2:] / frame.span
            constant = along[1] + frame.mean @ w
            values = self._columns.product(w, scale.dtype)
            values -= scale.dtype.type(constant)
            values *= scale
            values += scale.dtype.type(along[0]) * offset
            longest = frame.span * np.sqrt(self._columns.squares.max()) + np.linalg.norm(frame.mean)
            size = longest * np.linalg.norm(w) + abs(constant) + abs(along[0])
        return values, float((len(direction) + 10) * 2.0**-24 * size / closest)

    @cached_property
    def _sweep_factors(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], float]:
        """1 / ‖a_j‖ (by ‖e_j‖ too for cosine), (1 − ‖f_j‖²) / ‖a_j‖, and the least ‖a_j‖ that is not 0."""
        squares, frame = self._columns.squares, self._columns.frame
        norms = self.norms * np.sqrt(squares) if frame.cosine else self.norms
        inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        lengths = np.sqrt(squares[norms > 0]) * frame.span + np.linalg.norm(frame.mean)
        # Rows of 1e-20 or 1e20 would under- or overflow in float32.
        fits = bool(((lengths < 1e15) & ((not frame.cosine) | (lengths > 1e-15))).all())
        kind = np.float32 if fits and 1e-15 < frame.span < 1e15 else np.float64
        closest = float(self.norms[norms > 0].min(initial=np.inf))
        return inverse.astype(kind), ((1 - squares) * inverse).astype(kind), closest

    def combined(
        self, positions: Int64[np.ndarray, " k"], weights: Float64[np.ndarray, " k"]
    ) -> Float64[np.ndarray, " n"]:
        used = weights @ self._columns.right(positions)
        return np.concatenate([self._images.left(block) @ used for block in self._images.blocks()])


def low_rank(
    embeddings: Embeddings,
    scores: Float64[np.ndarray, " n"],
    similarity: Similarity,
    rows: Int64[np.ndarray, " n"] | None = None,
    given: Labelled | None = None,
) -> tuple[LowRankAtoms, LowRankAtoms | None]:
    """The atoms of D = U Vᵀ, whose rank r is that of the embedding and not that of the pool; and those of `given`.

    cosine:     D_ij = e_i·e_j / ‖e_i‖‖e_j‖, so u_i = v_i = e_i / ‖e_i‖ and r = d. A zero row is similar to nothing.
    euclidean:  D_ij = 1 − ‖e_i − e_j‖² / M with M = 4 max_i ‖e_i − ē‖² (1 where all rows are equal). No two rows are
                further apart than √M, so 0 ≤ D_ij ≤ 1 and D_ii = 1, whatever the embedding's unit and origin. With
                f = (e − ē) / √M: u_i = [1, ‖f_i‖², f_i], v_j = [1 − ‖f_j‖², −1, 2 f_j] and r = d + 2.

    With the Gram matrix G = UᵀU = Rᵀ R and y = Vᵀx,
        ‖Dx − s‖² = yᵀG y − 2 yᵀUᵀs + ‖s‖² = ‖R y − t‖² + ‖s‖² − ‖t‖²,   t = R⁻ᵀUᵀs,   a_j = R v_j,
    exactly, and a_jᵀ(t − Σ x_i a_i) = D_jᵀ(s − Dx), ‖a_j‖ = ‖D_j‖: correlations and norms are those of D's columns.
    All this holds for any v_j: those of further images, `given`, make columns of D with their similarity to the n
    images. M is of both.

    G may be singular (d > n, duplicates, constant columns). From G = Q Λ Qᵀ the eigenvalues above 1e-12 Λ_max are kept,
    R = Λ^½ Qᵀ of these. What is dropped changes Dx by less than 1e-6 of √Λ_max ‖y‖ in directions of U that the data
    hardly have; D is its own mirror, so y has as little there, and the change is of the order of the rounding of D.

    Args:
        embeddings: [m, d].
        scores: s, [n].
        similarity: see above.
        rows: [n] the row of `embeddings` that image i is; None: row i.
        given: [L, d]; None or empty: none.
    """
    given = None if given is None or not len(given) else given
    frame = frame_of(embeddings, similarity, rows, given)
    points = Points(embeddings, rows, frame)
    gram, projected = np.zeros((frame.rank, frame.rank)), np.zeros(frame.rank)
    for block in points.blocks():
        left = points.left(block)
        gram += left.T @ left
        projected += left.T @ scores[block]
    values, vectors = np.linalg.eigh(gram)
    kept = values > _RANK_CUT_OFF * max(values[-1], 0.0)
    size = np.sqrt(values[kept])
    root, target = size[:, None] * vectors[:, kept].T, (vectors[:, kept].T @ projected) / size
    labelled = None if given is None else LowRankAtoms(Points(given, None, frame), points, root, target)
    return LowRankAtoms(points, points, root, target), labelled


class DenseAtoms:
    """The columns of a similarity matrix that is there in full: a_j = D_j, t = s."""

    def __init__(self, similarity: Float64[np.ndarray, "n n"], scores: Float64[np.ndarray, " n"]) -> None:
        self._similarity, self.target = similarity, scores
        self.norms = np.sqrt(np.einsum("ij,ij->i", similarity, similarity))

    def atom(self, position: int) -> Float64[np.ndarray, " q"]:
        return self._similarity[position]

    def correlate(self, rows: Rows, direction: Float64[np.ndarray, " q"]) -> Float64[np.ndarray, " k"]:
        raw, norms = self._similarity[rows] @ direction, self.norms[rows]
        return np.divide(raw, norms, out=np.zeros_like(raw), where=norms > 0)

    def sweep(self, direction: Float64[np.ndarray, " q"]) -> tuple[Float[np.ndarray, " n"], float]:
        return self.correlate(slice(0, len(self.norms)), direction), 0.0

    def combined(
        self, positions: Int64[np.ndarray, " k"], weights: Float64[np.ndarray, " k"]
    ) -> Float64[np.ndarray, " n"]:
        return np.asarray(weights @ self._similarity[positions])
