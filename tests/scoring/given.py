"""Made-up inputs for every kind of scorer, and what the oracles and the scorers make of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from poolscout.config import ScorerChoice
from poolscout.detector.decode import Detections
from poolscout.scoring.ensemble import RunningMeans
from poolscout.scoring.plan import N_CLASSES, Plan
from poolscout.scoring.registry import (
    ENSEMBLE_BOXES,
    FIRST_MAP,
    HIDDEN_OF_FIRST,
    MEMBER_BOXES,
    Mean,
    aggregates,
    scorers,
)
from tests.oracles import scoring as oracle

K = 3
CHOICES = [
    ScorerChoice(scorer=s, aggregate=a, k=K if aggregates.get(a).takes_k else None)
    for s in scorers.names()
    for a in aggregates.names()
    if scorers.get(s).gives in aggregates.get(a).of
]


@dataclass(frozen=True)
class Given:
    """What an ensemble saw: maps, the first member's hidden features, every member's boxes in every image."""

    maps: torch.Tensor  # [members, images, classes, h, w]
    hidden: torch.Tensor  # [images, channels, h, w]
    boxes: list[list[list[dict[str, Any]]]]  # member → image → boxes as the oracle takes them

    def scores(self, choice: ScorerChoice) -> torch.Tensor:
        """[images, classes] of the scorer under test."""
        plan = Plan((choice,))
        given: dict = {
            FIRST_MAP: self.maps[0], HIDDEN_OF_FIRST: self.hidden, N_CLASSES: self.maps.shape[2],
            ENSEMBLE_BOXES: detections(self.boxes[0], self.maps.shape[2]),
            MEMBER_BOXES: [detections(boxes, self.maps.shape[2]) for boxes in self.boxes],
        }  # fmt: skip
        for one in plan.inputs:
            if isinstance(one, Mean):
                running = RunningMeans([one.statistic])
                for p in self.maps:
                    running.add(p)
                given[one] = running.finish()[one.statistic]
        _, n, _, h, w = self.maps.shape
        return plan.figures(given, torch.full((n,), float(h * w)))[choice.column]

    def expected(self, choice: ScorerChoice) -> np.ndarray:
        """The same by the oracles, in float64."""
        maps, hidden = self.maps.double().numpy(), self.hidden.double().numpy()
        _, n, n_classes, _, _ = maps.shape
        values: list[list[list[float]]] = [[[] for _ in range(n_classes)] for _ in range(n)]
        kind = scorers.get(choice.scorer).gives
        if kind == "map":
            scored = oracle.map_scores(maps, hidden, choice.scorer)
        elif kind == "image":
            scored = oracle.IMAGES[choice.scorer](maps, hidden)
        for image in range(n):
            if kind == "boxes":
                for c, value in self._box_values(choice.scorer, image):
                    values[image][c].append(value)
            else:
                for c in range(n_classes):
                    values[image][c] = scored[image, c].flatten().tolist()
        reduce = oracle.AGGREGATES[choice.aggregate]
        return np.array([[reduce(v, choice.k) for v in row] for row in values]).reshape(n, n_classes)

    def _box_values(self, scorer: str, image: int) -> list[tuple[int, float]]:
        if scorer in oracle.OBJECTS:
            return oracle.OBJECTS[scorer]([boxes[image] for boxes in self.boxes])
        return [(box["class"], oracle.ONE_BOX[scorer](box)) for box in self.boxes[0][image]]

    def with_members(self, order: list[int]) -> Given:
        return replace(self, maps=self.maps[order], boxes=[self.boxes[m] for m in order])

    def with_images(self, order: list[int]) -> Given:
        boxes = [[member[i] for i in order] for member in self.boxes]
        return Given(self.maps[:, order], self.hidden[order], boxes)


def detections(images: list[list[dict[str, Any]]], n_classes: int) -> Detections:
    """Boxes as `decode` gives them: image by image, the most probable first."""
    rows = [(i, b) for i, boxes in enumerate(images) for b in sorted(boxes, key=lambda b: -b["p"])]
    return Detections(
        torch.tensor([i for i, _ in rows], dtype=torch.long),
        torch.tensor([b["box"] for _, b in rows], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([b["class"] for _, b in rows], dtype=torch.long),
        torch.tensor([b["p"] for _, b in rows], dtype=torch.float32),
        torch.tensor([b["all"] for _, b in rows], dtype=torch.float32).reshape(-1, n_classes),
    )


def make_given(
    seed: int = 0, members: int = 3, images: int = 4, classes: int = 2, height: int = 5, width: int = 4
) -> Given:
    """Mostly small probabilities with exact zeros and ones between; boxes that members see roughly alike."""
    rng = np.random.default_rng(seed)
    shape = (members, images, classes, height, width)
    p = rng.random(shape) ** 3
    dice = rng.random(shape)
    maps = np.where(dice < 0.05, 0, np.where(dice > 0.95, 1, p)).astype(np.float32)
    hidden = rng.normal(size=(images, 6, height, width)).astype(np.float32)
    boxes: list = [[[] for _ in range(images)] for _ in range(members)]
    for image in range(1, images):  # the first image shows nothing
        for _ in range(rng.integers(1, 7)):
            corner, side, cls = rng.uniform(0, 60, 2), rng.uniform(10, 30, 2), int(rng.integers(classes))
            for member in range(members):
                if rng.random() < 0.8:
                    a, s = corner + rng.normal(0, 1.5, 2), side * rng.uniform(0.8, 1.2, 2)
                    everything = np.float32(rng.uniform(0, 0.9, classes))
                    boxes[member][image].append({
                        "box": np.float32([*a, *(a + s)]).tolist(), "class": cls, "p": float(everything[cls]),
                        "all": everything.tolist(),
                    })  # fmt: skip
    return Given(torch.from_numpy(maps), torch.from_numpy(hidden), boxes)
