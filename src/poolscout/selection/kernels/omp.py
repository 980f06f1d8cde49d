"""Orthogonal matching pursuit on a similarity matrix (Haussmann et al. 2020, eq. 6), for millions of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from poolscout.selection.kernels.bounded_least_squares import BoundedLeastSquares
from poolscout.selection.kernels.omp_argmax import BestAtom
from poolscout.selection.kernels.omp_atoms import Atoms, low_rank
from poolscout.selection.kernels.omp_points import Embeddings, Labelled, Similarity

# Of one layer: picks, their weights at its end, their normalised correlations when picked.
Layer = tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]

SATURATED = 1e-6  # an atom helps when its normalised correlation is above this, in units of ‖t‖
BY_SCORE = -1  # layer of the images that no layer picked


@dataclass(frozen=True)
class OmpResult:
    """A batch picked by matching pursuit, and how it came about.

    Attributes:
        positions: distinct, in pick order.
        weights: x at the end of the pick's layer, 0…1. An atom whose weight the later ones of its layer took to 0 still
            counts as picked (‖x‖₀ of eq. 6 is the size of the support). 0 where the score decided.
        layer: 0 = the solution of eq. 6 proper, 1, 2, … = restarts over what was left, −1 = filled by score. Layer 0
            is empty where labelled images leave it nothing to do.
        correlation: a_jᵀr / ‖a_j‖‖t‖ when picked, 0…1 up to rounding; 0 where the score decided.
        saturated_after: how many atoms layer 0 took before eq. 6 could not be improved; None if the budget ended first.
        objective: ‖Dx − s‖² at the end of layer 0.
        n_given: labelled images that layer 0 began with.
        n_finalists: correlations that a sweep could not tell from the best and were evaluated again in float64.
        bandwidth: h of a Gaussian similarity, in the embedding's unit.
        dropped_mass: the share of the Gaussian similarities' sum that a sparse kernel left out, 0…1, estimated.
    """

    positions: Int64[np.ndarray, " k"]
    weights: Float64[np.ndarray, " k"]
    layer: Int32[np.ndarray, " k"]
    correlation: Float64[np.ndarray, " k"]
    saturated_after: int | None
    objective: float
    n_given: int = 0
    n_finalists: int = 0
    bandwidth: float | None = None
    dropped_mass: float = 0.0


@dataclass(frozen=True)
class Start:
    """Where layer 0 begins, if not at x = 0: labelled images explain a part of s.

    Attributes:
        fit: of the target with labelled atoms in it, or of what they leave of the target.
        explained: D_L x_L, [n], with the labelled images' weights by the time it is called.
        n_given: how many labelled images have a part in it.
    """

    fit: BoundedLeastSquares
    explained: Callable[[], Float64[np.ndarray, " n"]]
    n_given: int


def omp(
    embeddings: Embeddings,
    scores: Float64[np.ndarray, " n"],
    n: int,
    *,
    similarity: Similarity = "cosine",
    rows: Int64[np.ndarray, " n"] | None = None,
    given: Labelled | None = None,
    pickable: Bool[np.ndarray, " n"] | None = None,
    sweep: bool = True,
) -> OmpResult:
    """Minimise ‖Dx − s‖² over 0 ≤ x ≤ 1 with n atoms in the support, one greedy atom at a time.

    The next atom is the one whose column has the highest normalised correlation with the residual, D_jᵀ(s − Dx)/‖D_j‖,
    above zero as weights are; equal ones (within 1e-10 ‖t‖) go to the lowest position. Then all weights are solved
    for again. `low_rank` does this in the d or d + 2 dimensions that D has, exactly.

    *Saturation.* In so few dimensions the residual is soon orthogonal to whatever could help. When no atom outside the
    support has D_jᵀ(s − Dx)/‖D_j‖ > 1e-6 ‖t‖, with ‖t‖ the length of the part of s within D's column space, no further
    atom improves eq. 6. The rest of the batch comes from restarts: a new layer begins with x = 0, the same target and
    the images not picked yet, so layer 1 holds the best stand-ins for the images of layer 0, and so on. When a restart
    finds nothing, the rest is filled by score, highest first, ties by lowest position.

    *Labelled images* (`given`) explain s first: their columns are pursued by the same rule until none of them helps or
    d + 2 are in, as many as D's rank. Then candidates join the same fit; the weights of both are solved for. So layer 0
    adds what labelled images cannot stand for, and may be empty. Restarts leave them out, or would saturate at once.

    Args:
        embeddings: [m, d] float16, 32 or 64, finite; may be a memory map, is read in blocks.
        scores: [n_images], finite; s of eq. 6, as it is: x ≤ 1 binds where scores are large against D's row sums.
        n: how many to pick, at most the number of pickable images.
        similarity: see `low_rank`.
        rows: [n_images] the row of each image, distinct; None: image i is row i.
        given: [L, d] embeddings of labelled images, finite.
        pickable: which images may be picked; the others still are part of what the batch has to represent.
        sweep: False evaluates all correlations in float64 at every pick, to compare; the picks are the same.

    Returns:
        Exactly n picks. O(n_images d²) once, then one reading of the embeddings a pick. Some eight numbers an image are
        held, nothing of size n_images × n, and a copy only of less than half of the rows.

    Example:
        >>> clip = np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0]])
        >>> omp(clip, np.array([0.9, 0.8, 0.3]), 2).positions.tolist()
        [1, 2]
    """
    pickable = np.ones(len(scores), np.bool_) if pickable is None else pickable
    atoms, labelled = low_rank(embeddings, scores, similarity, rows, given)
    start = None if labelled is None else _pursue_given(labelled, scores, embeddings.shape[1] + 2, sweep=sweep)
    return pursue(atoms, scores, n, pickable, sweep=sweep, start=start)


def _pursue_given(labelled: Atoms, scores: Float64[np.ndarray, " n"], most: int, *, sweep: bool) -> Start:
    fit = BoundedLeastSquares(labelled.target)
    best = BestAtom(labelled, np.ones(len(labelled.norms), np.bool_), sweep=sweep)
    picks, _ = _extend(fit, labelled, best, most if _has_target(labelled, scores) else 0)
    return Start(fit, lambda: labelled.combined(picks, fit.weights[: len(picks)]), len(picks))


def pursue(
    atoms: Atoms,
    scores: Float64[np.ndarray, " n"],
    n: int,
    pickable: Bool[np.ndarray, " n"],
    *,
    sweep: bool,
    start: Start | None = None,
) -> OmpResult:
    """Layers of matching pursuit over any atoms, then the rest by score."""
    best = BestAtom(atoms, pickable, sweep=sweep)
    has_target = _has_target(atoms, scores)

    def layer(number: int, n: int) -> Layer:
        fit = BoundedLeastSquares(atoms.target) if start is None or number else start.fit
        n_before = len(fit.weights)
        picks, correlations = _extend(fit, atoms, best, n if has_target else 0)
        return picks, fit.weights[n_before:], correlations

    result = layers(layer, atoms.combined, scores, n, pickable, start)
    return replace(result, n_finalists=best.n_finalists)


def _has_target(atoms: Atoms, scores: Float64[np.ndarray, " n"]) -> bool:
    return bool(np.linalg.norm(atoms.target) > 1e-12 * np.linalg.norm(scores))  # else t is rounding


def _extend(
    fit: BoundedLeastSquares, atoms: Atoms, best: BestAtom, most: int
) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Let the best atoms into the fit, one by one, until none helps: their positions and normalised correlations."""
    picks: list[int] = []
    correlations: list[float] = []
    while len(picks) < most and (found := best.find(fit.residual, SATURATED)):
        position, correlation = found
        picks.append(position)
        correlations.append(correlation)
        best.close(position)
        fit.add(atoms.atom(position))
    return np.array(picks, np.int64), np.array(correlations, np.float64)


def layers(
    layer: Callable[[int, int], Layer],
    combined: Callable[[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]], Float64[np.ndarray, " n"]],
    scores: Float64[np.ndarray, " n"],
    n: int,
    pickable: Bool[np.ndarray, " n"],
    start: Start | None,
) -> OmpResult:
    """`layer(number, most picks)` again and again until a restart finds nothing, then the rest by score.

    `combined` is Dx of picks and their weights, without what the labelled images explain.
    """
    found = [layer(0, n)]
    while (missing := n - sum(len(picks) for picks, _, _ in found)) and (len(found) == 1 or len(found[-1][0])):
        found.append(layer(len(found), missing))
    first, weights, _ = found[0]
    error = combined(first, weights) - scores + (0.0 if start is None else start.explained())
    result = OmpResult(
        positions=np.concatenate([picks for picks, _, _ in found]),
        weights=np.concatenate([weights for _, weights, _ in found]),
        layer=np.repeat(np.arange(len(found), dtype=np.int32), [len(picks) for picks, _, _ in found]),
        correlation=np.concatenate([correlations for _, _, correlations in found]),
        saturated_after=None if len(first) == n else len(first),
        objective=float(error @ error),
        n_given=0 if start is None else start.n_given,
    )
    return fill_by_score(result, scores, n, pickable)


def fill_by_score(
    result: OmpResult, scores: Float64[np.ndarray, " n"], n: int, pickable: Bool[np.ndarray, " n"]
) -> OmpResult:
    """The result with n picks: what layers left out comes in descending order of score, ties by lowest position."""
    missing = n - len(result.positions)
    if missing == 0:
        return result
    left = pickable.copy()
    left[result.positions] = False
    rest = np.flatnonzero(left)
    rest = rest[np.argsort(-scores[rest], kind="stable")[:missing]]
    return replace(
        result,
        positions=np.concatenate([result.positions, rest]),
        weights=np.concatenate([result.weights, np.zeros(missing)]),
        layer=np.concatenate([result.layer, np.full(missing, BY_SCORE, np.int32)]),
        correlation=np.concatenate([result.correlation, np.zeros(missing)]),
    )
