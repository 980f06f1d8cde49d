"""Scorers and aggregates as slow, obvious loops in float64 over one position, box or image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def entropy_of(p: float) -> float:
    return sum(-q * math.log(q) for q in (p, 1 - p) if q > 0)


def entropy(p_of_members: Sequence[float]) -> float:
    return entropy_of(sum(p_of_members) / len(p_of_members))


def mutual_information(p_of_members: Sequence[float]) -> float:
    return entropy(p_of_members) - sum(map(entropy_of, p_of_members)) / len(p_of_members)


def gradient_variance(p_of_members: Sequence[float]) -> float:
    label = float(sum(p_of_members) / len(p_of_members) > 0.5)
    deltas = [p - label for p in p_of_members]
    mean = sum(deltas) / len(deltas)
    return sum((delta - mean) ** 2 for delta in deltas) / len(deltas)


def gradient_at(p: float, hidden: Sequence[float]) -> list[float]:
    """∂ BCE(p, ŷ) / ∂ [weights; bias] of a linear layer with input `hidden`, written out."""
    delta = p - (1.0 if p > 0.5 else 0.0)
    return [delta * h for h in (*hidden, 1.0)]


def length(vector: Sequence[float]) -> float:
    return math.sqrt(sum(v * v for v in vector))


# Of all members' p at one position, and the first member's hidden features there.
MAPS: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "entropy": lambda p, hidden: entropy(p),
    "mutual_information": lambda p, hidden: mutual_information(p),
    "mc_dropout": lambda p, hidden: mutual_information(p),  # the members are then the passes
    "gradient_variance": lambda p, hidden: gradient_variance(p),
    "gradient": lambda p, hidden: length(gradient_at(p[0], hidden)),
}


def map_scores(maps: np.ndarray, hidden: np.ndarray, scorer: str) -> np.ndarray:
    """[members, images, classes, h, w] and [images, channels, h, w] → [images, classes, h, w]."""
    _, images, classes, height, width = maps.shape
    scores = np.empty((images, classes, height, width))
    for image, c, y, x in np.ndindex(*scores.shape):
        scores[image, c, y, x] = MAPS[scorer](maps[:, image, c, y, x].tolist(), hidden[image, :, y, x].tolist())
    return scores


def gradient_total(maps: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """[images, classes]: the length of the sum of all positions' gradients."""
    _, images, classes, height, width = maps.shape
    lengths = np.zeros((images, classes))
    for image, c in np.ndindex(images, classes):
        total = np.zeros(hidden.shape[1] + 1)
        for y, x in np.ndindex(height, width):
            total += gradient_at(float(maps[0, image, c, y, x]), hidden[image, :, y, x].tolist())
        lengths[image, c] = length(total.tolist())
    return lengths


# Of all maps and hidden features: a figure per image and class.
IMAGES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"gradient_total": gradient_total}


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return overlap / (area - overlap) if overlap else 0.0


# A box as a dict: box (xyxy), class, p, all (p of every class); of an object the same from every member that sees it.
ONE_BOX: dict[str, Callable[[dict[str, Any]], float]] = {
    "detection_entropy": lambda box: entropy_of(box["p"]),
    "least_confidence": lambda box: 1 - box["p"],
    "margin": lambda box: 1 - abs(box["p"] - max([p for c, p in enumerate(box["all"]) if c != box["class"]] + [0])),
}


def spreads(members: list[list[dict[str, Any]]]) -> list[tuple[int, float]]:
    """(class, 1 − mean IoU with the mean box) of every object that two members or more see in one image."""
    free = [{**box, "member": m} for m, boxes in enumerate(members) for box in boxes]
    found = []
    while free:
        first = max(free, key=lambda box: box["p"])
        together = [first]
        for m in range(len(members)):
            rivals = [b for b in free if b["member"] == m and b["class"] == first["class"]]
            best = max(rivals, key=lambda b: iou(first["box"], b["box"]), default=None)
            if m != first["member"] and best is not None and iou(first["box"], best["box"]) >= 0.5:
                together.append(best)
        free = [box for box in free if not any(box is other for other in together)]
        if len(together) > 1:
            mean = [sum(b["box"][side] for b in together) / len(together) for side in range(4)]
            found.append((first["class"], 1 - sum(iou(b["box"], mean) for b in together) / len(together)))
    return found


# Of every member's boxes in one image: (class, figure) of each object.
OBJECTS: dict[str, Callable[[list[list[dict[str, Any]]]], list[tuple[int, float]]]] = {"box_disagreement": spreads}

AGGREGATES: dict[str, Callable[..., float]] = {
    "max": lambda values, k: max(values, default=0.0),
    "average": lambda values, k: sum(values) / len(values) if values else 0.0,
    "sum": lambda values, k: float(sum(values)),
    "top_k": lambda values, k: sum(sorted(values)[-k:]) / min(k, len(values)) if values else 0.0,
    "whole": lambda values, k: values[0],
}
