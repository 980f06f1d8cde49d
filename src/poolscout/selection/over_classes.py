"""From one figure per class to one per image: which class decides is a matter of ranking, not of scoring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from poolscout.config import SelectionConfig
from poolscout.errors import ConfigError, nearest


def rank_over_classes(
    per_class: Float64[np.ndarray, "n classes"], config: SelectionConfig, classes: Sequence[str]
) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Each image's score, and the class that brings the most of it.

    Args:
        per_class: scores as the pass stored them.
        config: `over_classes` "max" (Haussmann et al. 2020, eq. 4), "mean" or "weighted" (Σ_c w_c · s_c; a class that
            is not named weighs 1); `normalise_classes` replaces a score by the share of the candidates below it in that
            class first, so that every class ranges over 0…1 alike and none takes the whole batch.
        classes: names in the order of the columns.

    Returns:
        (scores [n], class positions [n]); ties between classes go to the first.

    Raises:
        ConfigError: a weight for a class that is not there; names the nearest.
    """
    weights = class_weights(config, classes)
    shares = (share_below(per_class) if config.normalise_classes else per_class) * weights
    best = shares.argmax(1) if per_class.size else np.zeros(len(per_class), np.int64)
    if config.over_classes == "max":
        return shares.max(1, initial=0.0), best
    return shares.sum(1) / (len(classes) if config.over_classes == "mean" else 1), best


def share_below(per_class: Float64[np.ndarray, "n classes"]) -> Float64[np.ndarray, "n classes"]:
    """For each score the share of its column that is smaller: 0 for the least, below 1 for the highest."""
    ranks = np.empty_like(per_class)
    for c, column in enumerate(per_class.T):
        ranks[:, c] = np.searchsorted(np.sort(column), column, side="left")
    return ranks / max(len(per_class), 1)


def class_weights(config: SelectionConfig, classes: Sequence[str]) -> Float64[np.ndarray, " classes"]:
    """The weight of each class, 1 where none is given.

    Raises:
        ConfigError: a weight for a class that is not there; names the nearest.
    """
    given = config.class_weights or {}
    for name in given:
        if name not in classes:
            raise ConfigError(
                f"selection.class_weights: no class {name!r}", got=name, expected=", ".join(classes),
                fix=nearest(name, classes) or None,
            )  # fmt: skip
    return np.array([given.get(name, 1.0) for name in classes], np.float64)
