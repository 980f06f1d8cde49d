"""Constrained batches as slow, obvious walks down a ranking; distances pair by pair."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Rules:
    """What a batch must be like; None: anything. `boxes`, `sequences`, `frames`, `embeddings` are of the candidates."""

    boxes: list[int] | None = None
    budget: int | None = None
    sequences: list[str] | None = None
    cap: int | None = None
    frames: list[int] | None = None
    gap: int | None = None
    embeddings: np.ndarray | None = None
    metric: str = "euclidean"
    min_distance: float | None = None
    labelled: list[int] = field(default_factory=list)  # candidates that are labelled already
    excluded: list[int] = field(default_factory=list)

    def allow(self, batch: list[int], new: int) -> bool:
        """Whether `new` may join the batch."""
        if new in batch or new in self.excluded:
            return False
        if self.budget is not None and sum(self.cost(i) for i in [*batch, new]) > self.budget:
            return False
        if self.cap is not None and sum(self.sequences[i] == self.sequences[new] for i in batch) >= self.cap:
            return False
        alike = [i for i in batch if self.gap is not None and self.sequences[i] == self.sequences[new]]
        if any(abs(self.frames[i] - self.frames[new]) < self.gap for i in alike):
            return False
        return self.min_distance is None or all(
            distance(self.embeddings[i], self.embeddings[new], self.metric) >= self.min_distance
            for i in [*batch, *self.labelled]
        )

    def cost(self, i: int) -> int:
        return 0 if i in self.labelled else self.boxes[i]


def distance(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "euclidean":
        return float(((a - b) ** 2).sum())
    norms = np.linalg.norm(a), np.linalg.norm(b)
    a, b = (v / norm if norm else v for v, norm in zip((a, b), norms, strict=True))
    return float(((a - b) ** 2).sum() / 2)


def down_the_ranking(scores: np.ndarray, n: int, rules: Rules, start: list[int]) -> list[int]:
    """`start`, then from the best score down (ties: the lower position) all that may join, up to n."""
    batch = list(start)
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if len(batch) < n and rules.allow(batch, i):
            batch.append(i)
    return batch


def in_turn(
    per_class: np.ndarray, n: int, rules: Rules, weights: list[float], most: list[float]
) -> list[tuple[int, int]]:
    """(position, class) of each pick: the class that lags most behind its share takes its best that may join."""
    batch, taken = [], [0] * len(weights)
    while len(batch) < n:
        order = sorted(range(len(weights)), key=lambda c: ((2 * taken[c] + 1) / weights[c], c))
        turn = [c for c in order if taken[c] < most[c]]
        left = [i for i in range(len(per_class)) if rules.allow([p for p, _ in batch], i)]
        if not turn or not left:
            break
        best = min(left, key=lambda i: (-per_class[i, turn[0]], i))
        batch.append((best, turn[0]))
        taken[turn[0]] += 1
    return batch
