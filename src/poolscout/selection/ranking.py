"""What samplers make of scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from poolscout.errors import DataError, some
from poolscout.selection.registry import Candidates


def by_score(scores: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Positions by descending score; ties by lowest position."""
    return np.argsort(-scores, kind="stable")


def check_weighable(scores: Float64[np.ndarray, " n"], power: float, ids: pa.Array | None = None) -> None:
    """Refuse scores that cannot weigh distances.

    Raises:
        DataError: a negative score, or one whose power is no finite number; names the images, or their positions.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        bad = np.flatnonzero((scores < 0) | ~np.isfinite(scores**power)) if power else np.empty(0, np.int64)
    if len(bad):
        which = some(bad.tolist()) if ids is None else some(ids.take(pa.array(bad[:50])).to_pylist())
        raise DataError(
            f"{len(bad)} scores cannot weigh distances",
            got=f"e.g. {scores[bad[0]]:g} to the power {power:g}; {'positions' if ids is None else 'images'} {which}",
            expected="scores of 0 or more whose power is finite", fix="choose another score, or score_power: 0",
        )  # fmt: skip


def weights(candidates: Candidates) -> Float64[np.ndarray, " n"]:
    """score^score_power, by which a sampler weighs distances.

    Raises:
        DataError: as `check_weighable`.
    """
    power, scores = candidates.score_power, candidates.scores
    if power == 0 or scores is None:
        return np.ones(candidates.n)
    check_weighable(scores, power)
    return scores**power
