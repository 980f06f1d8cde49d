"""Areas of pairs: against a fine sum over the costs that both curves have been at, in each seed by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from poolscout.config_selection import PriceConfig
from poolscout.experiments.comparison import Findings, compare
from poolscout.experiments.results import Point
from tests.experiments.figures import make_points


def found(points: list[Point], *names: str) -> Findings:
    return compare(points, {name: name for name in names}, ["random"], rounds=2)


def curve(points: list[Point], name: str, seed: int) -> tuple[list[float], list[float]]:
    of = sorted((p for p in points if (p.strategy, p.seed) == (name, seed)), key=lambda p: p.round)
    return [float(p.boxes) for p in of], [p.figures["wMAP"] or 0.0 for p in of]


def mean_heights(points: list[Point], a: str, b: str, seeds: int) -> list[tuple[float, float]]:
    """Of both curves of each seed, sampled finely between the costs that both have been at."""
    heights = []
    for seed in range(seeds):
        ours, theirs = curve(points, a, seed), curve(points, b, seed)
        at = np.linspace(max(ours[0][0], theirs[0][0]), min(ours[0][-1], theirs[0][-1]), 100_001)
        heights.append((float(np.interp(at, *ours).mean()), float(np.interp(at, *theirs).mean())))
    return heights


def test_a_pair_is_compared_over_the_costs_of_its_own_seed() -> None:
    points = [
        replace(point, boxes=point.boxes + point.seed * point.round * (2 if point.strategy == "random" else 3))
        for point in make_points({"random": 0.02, "greedy": 0.04, "other": 0.03})
    ]
    ends = {curve(points, "random", seed)[0][-1] for seed in range(10)}
    assert len(ends) == 10  # each seed's range is another one
    [greedy, other] = found(points, "random", "greedy", "other").comparisons
    for one in (greedy, other):
        pair = one.area["boxes"]
        assert pair is not None
        heights = mean_heights(points, one.strategy, "random", 10)
        assert pair.difference.mean == pytest.approx(np.mean([a - b for a, b in heights]), abs=1e-6)
        assert pair.sd == pytest.approx(np.std([a - b for a, b in heights], ddof=1), abs=1e-6)


def test_a_cheap_strategy_leaves_the_others_their_comparison() -> None:
    points = make_points({"random": 0.02, "other": 0.03})
    # In seed 0 it ends at fewer boxes than the others begin with; in the others its range is two boxes wide.
    cheap = [
        replace(point, strategy="cheap", boxes=point.round + (59 if point.seed else 30))
        for point in points
        if point.strategy == "random"
    ]
    alone, beside = found(points, "random", "other"), found(points + cheap, "random", "other", "cheap")
    assert all(one.area["boxes"] is None for one in beside.summaries)
    ours, theirs = beside.comparisons[0].area["boxes"], alone.comparisons[0].area["boxes"]
    assert ours is not None
    assert theirs is not None
    assert (ours.difference, ours.p) == (theirs.difference, theirs.p)
    assert beside.comparisons[1].area["boxes"] is None
    assert beside.comparisons[1].area["images"] is not None


def test_where_the_last_round_is_trained_longer_only_ends_count() -> None:
    points = make_points({"random": 0.02, "good": 0.08}, noise=0.0, spread=0.0, full=0.38)
    of = compare(points, {"random": "random", "good": "good"}, ["random"], rounds=2, ends_only=True)
    assert all(area is None for one in of.summaries for area in one.area.values())
    assert of.comparisons[0].area == {"images": None, "boxes": None}
    good = of.summaries[1]
    # 0.2 + 2 · 0.08 = 0.36 with 40 images and 140 boxes: 90 % of 0.38, reached no earlier than at the end
    assert [good.to_reach[0.9 * 0.38][cost] for cost in ("images", "boxes")] == [(40.0, 10), (140.0, 10)]
    assert good.to_reach[0.38]["images"] == (None, 0)
    assert good.final == found(points, "random", "good").summaries[1].final


def test_minutes_are_told_by_a_price_list() -> None:
    points, titles = make_points({"random": 0.02, "good": 0.08}), {"random": "random", "good": "good"}
    price = PriceConfig(seconds_per_image=3, seconds_per_box=6)
    of = compare(points, titles, ["random"], rounds=2, price=price)
    # 40 images with 20 more of 3 boxes each than at first, or 4; the pool's 100 images with 400 boxes
    assert [one.cost["minutes"].mean for one in of.summaries] == [(40 * 3 + 120 * 6) / 60, (40 * 3 + 140 * 6) / 60]
    assert of.full is not None
    assert of.full["minutes"].mean == (100 * 3 + 400 * 6) / 60
    for none in (None, PriceConfig()):
        assert "minutes" not in compare(points, titles, ["random"], rounds=2, price=none).summaries[0].cost
