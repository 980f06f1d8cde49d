"""Scorers and aggregates as slow, obvious loops in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def entropy_of(p: float) -> float:
    return sum(-q * math.log(q) for q in (p, 1 - p) if q > 0)


def entropy(p_of_members: list[float]) -> float:
    return entropy_of(sum(p_of_members) / len(p_of_members))


def mutual_information(p_of_members: list[float]) -> float:
    return entropy(p_of_members) - sum(map(entropy_of, p_of_members)) / len(p_of_members)


SCORERS: dict[str, Callable[[list[float]], float]] = {"entropy": entropy, "mutual_information": mutual_information}
AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "average": lambda values: sum(values) / len(values),
}


def score_maps(maps: np.ndarray, scorer: str, aggregate: str) -> np.ndarray:
    """[members, images, classes, height, width] → [images, classes]."""
    _, images, classes, height, width = maps.shape
    scores = np.empty((images, classes))
    for image in range(images):
        for c in range(classes):
            positions = [
                SCORERS[scorer]([float(p) for p in maps[:, image, c, y, x]])
                for y in range(height)
                for x in range(width)
            ]
            scores[image, c] = AGGREGATES[aggregate](positions)
    return scores
