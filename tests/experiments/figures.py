"""Points of an experiment that was never run: what each strategy comes to is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from poolscout.experiments.cells import FULL
from poolscout.experiments.results import RANGE, Point

BOXES = {"random": 3, "greedy": 9}  # a picked image; others 4
SMALL, LARGE = "up to 205 px², 1,650 boxes", "above 205 px², 200 boxes"


def make_points(
    gains: Mapping[str, float], *, seeds: int = 10, rounds: int = 2, noise: float = 0.002, spread: float = 0.02,
    start: float = 0.2, full: float | None = 0.4, behind: Sequence[str] = (),
) -> list[Point]:  # fmt: skip
    """Points of all cells; 20 images with 60 boxes at first, 10 images more in a round, 100 with 400 in the pool.

    Args:
        gains: strategy → wMAP a round.
        noise: standard deviation of a figure, beside that of the seed (`spread`), which all strategies share.
        start: mean wMAP before the first round.
        full: wMAP of the whole pool; None: not trained.
        behind: strategies that find no person at all.
    """
    rng, points = np.random.default_rng(0), list[Point]()
    for seed in range(seeds):
        first = start + spread * float(rng.standard_normal())
        for name, gain in gains.items():
            for number in range(rounds + 1):
                value = first + number * gain + (noise * float(rng.standard_normal()) if number else 0.0)
                n, boxes = 20 + 10 * number, 60 + 10 * number * BOXES.get(name, 4)
                figures = _figures(value, 0.0 if name in behind else value)
                cost = (n, n, boxes, {"car": boxes - 5, "person": 5}, 4 + number, 50)
                points.append(Point(seed, name, number, *cost, figures))
        if full is not None:
            cost = (100, 100, 400, {"car": 380, "person": 20}, 20, 125)
            points.append(Point(seed, FULL, 0, *cost, _figures(full, full)))
    return points


def _figures(value: float, person: float) -> dict[str, float | None]:
    of: dict[str, float | None] = {"wMAP": value, "AP50": 1.5 * value, "AP": value}
    for cls, ap in (("car", value), ("person", person)):
        of |= {f"AP50 {cls}": 1.5 * ap, f"AP {cls}": ap}
    for name, ap in ((SMALL, person), (LARGE, 2 * value - person)):
        of[RANGE + name] = ap
    return of
