"""What samplers make of scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from poolscout.errors import DataError, some
from poolscout.selection.registry import Candidates


def by_score(scores: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Positions by descending score; ties by lowest position."""
    return np.argsort(-scores, kind="stable")


def weights(candidates: Candidates) -> Float64[np.ndarray, " n"]:
    """score^score_power, by which a sampler weighs distances.

    Raises:
        DataError: a negative score, or one whose power is no finite number: neither can weigh a distance.
    """
    power, scores = candidates.score_power, candidates.scores
    if power == 0 or scores is None:
        return np.ones(candidates.n)
    with np.errstate(over="ignore", invalid="ignore"):
        weight = scores**power
    bad = np.flatnonzero((scores < 0) | ~np.isfinite(weight))
    if len(bad):
        raise DataError(
            f"{len(bad)} scores cannot weigh distances", got=f"e.g. {some(scores[bad][:3].tolist())} to the {power:g}",
            expected="scores of 0 or more whose power is finite", fix="choose another score, or score_power: 0",
        )  # fmt: skip
    return weight
