"""What the figures of an experiment say: intervals, curves, cost, and which differences are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from poolscout.config_selection import PriceConfig
from poolscout.experiments.cells import FULL
from poolscout.experiments.results import Point, by_seed
from poolscout.experiments.statistics import (
    Interval,
    Paired,
    area_under,
    corrected,
    cost_to_reach,
    mean_interval,
    paired,
)

Cost = Callable[[Point], float]
COSTS = ("images", "boxes")  # what curves are over
METRIC = "wMAP"  # what is compared
SHARES_OF_FULL = (0.8, 0.9, 1.0)  # targets where none are set: of the whole pool's mean wMAP


@dataclass(frozen=True)
class Summary:
    """One strategy at the end of its rounds, over all seeds.

    Attributes:
        final: metric → interval, after the last round.
        cost: images (unique), boxes, minutes (where there is a price list), sequences → interval, after the last round.
        boxes_per_class: class → mean number.
        area: images, boxes → interval of the mean wMAP along the curve between the costs all strategies have been at;
            None where there is a single round with the same cost, or curves do not overlap.
        to_reach: target → images, boxes → the mean cost at which seeds reached it, and how many did.
    """

    name: str
    title: str
    seeds: int
    final: dict[str, Interval]
    cost: dict[str, Interval]
    boxes_per_class: dict[str, float]
    area: dict[str, Interval | None]
    to_reach: dict[float, dict[str, tuple[float | None, int]]]


@dataclass(frozen=True)
class Comparison:
    """One strategy against a baseline.

    Attributes:
        final: in wMAP after the last round.
        area: images, boxes → in the area under the curve, in each seed between the costs that both have been at;
            None where a seed has none.
    """

    strategy: str
    baseline: str
    final: Paired
    area: dict[str, Paired | None]


@dataclass(frozen=True)
class Findings:
    """All that is told of an experiment.

    Attributes:
        seeds: those of which all cells are finished; only these count.
        full: metric and cost → interval of the members trained on the whole pool; None without them.
        per_round: strategy → for each round, wMAP, AP50 and AP, images, boxes → interval.
        steps_an_image: of the training on the whole pool, and of the last round's; None without the whole pool.
    """

    seeds: tuple[int, ...]
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    full: dict[str, Interval] | None
    per_round: dict[str, list[dict[str, Interval]]]
    steps_an_image: tuple[float, float] | None = None


def compare(
    points: Sequence[Point], titles: Mapping[str, str], baselines: Sequence[str], rounds: int,
    targets: Sequence[float] = (), ends_only: bool = False, price: PriceConfig | None = None,
) -> Findings:  # fmt: skip
    """Summaries and paired comparisons of the seeds whose cells are all finished.

    Args:
        points: of all cells.
        titles: name → title of each strategy, in the order in which they are shown.
        baselines: names of the strategies that the others are compared with.
        rounds: how many each strategy has.
        targets: figures whose cost is told.
        ends_only: the last round was trained longer than those before it, so that between them curves rise by training
            and not by labels alone: no areas, and targets are reached at the end or not at all.
        price: what labelling costs, in minutes; without one, or with one of zeros, no minutes are told.

    Returns:
        the p of each kind of figure (end, area over images, area over boxes) is corrected over all its comparisons.
    """
    curves = {name: by_seed(points, name) for name in titles}
    seeds = tuple(sorted(
        seed for seed in {point.seed for point in points}
        if all(len(curves[name].get(seed, [])) == rounds + 1 for name in titles)
    ))  # fmt: skip
    costs: dict[str, Cost] = dict(_COST)
    if price is not None and price.minutes(1, 1):
        costs["minutes"] = lambda point: price.minutes(point.unique, point.boxes)
    full = _full(points, seeds, costs)
    if not seeds:
        return Findings((), (), (), full, {})
    if not targets and full is not None:
        targets = [share * full[METRIC].mean for share in SHARES_OF_FULL]
    first = -1 if ends_only else 0
    spans = {name: {seed: curve[seed][first:] for seed in seeds} for name, curve in curves.items()}
    every = [span[seed] for span in spans.values() for seed in seeds]
    limits = {cost: dict.fromkeys(seeds, _shared_range(every, cost)) for cost in COSTS}
    areas = {name: {cost: _areas(spans[name], limits[cost], cost) for cost in COSTS} for name in titles}
    costs["sequences"] = lambda point: float(point.sequences)
    summaries = tuple(
        _summary(name, title, spans[name], seeds, areas[name], targets, costs) for name, title in titles.items()
    )
    ends = {name: [_value(curves[name][seed][-1]) for seed in seeds] for name in titles}
    pairs = [(name, base) for base in baselines if base in titles for name in titles if name not in baselines]
    pairs += [(a, b) for i, b in enumerate(baselines) for a in baselines[i + 1 :] if a in titles and b in titles]
    final = corrected({(a, b): paired(ends[a], ends[b]) for a, b in pairs})
    over = {cost: _areas_apart(pairs, spans, seeds, cost) for cost in COSTS}
    comparisons = tuple(
        Comparison(a, b, final[a, b], {cost: over[cost].get((a, b)) for cost in COSTS}) for a, b in pairs
    )
    per_round = {
        name: [_round(curves[name], seeds, number) for number in range(rounds + 1)] for name in titles
    }  # fmt: skip
    return Findings(seeds, summaries, comparisons, full, per_round, _steps_an_image(points, rounds))


def _areas_apart(
    pairs: Sequence[tuple[str, str]], curves: Mapping[str, Mapping[int, list[Point]]], seeds: Sequence[int], cost: str
) -> dict[tuple[str, str], Paired]:
    """Differences of area, of the pairs whose curves share costs in every seed.

    Each pair in each seed has its own range: one cheap strategy must not leave nothing to compare the others by.
    """
    found = {}
    for a, b in pairs:
        limits = {seed: _shared_range([curves[a][seed], curves[b][seed]], cost) for seed in seeds}
        ours, theirs = (_areas(curves[name], limits, cost) for name in (a, b))
        if ours is not None and theirs is not None:
            found[a, b] = paired(ours, theirs)
    return corrected(found)


def _summary(
    name: str, title: str, curve: Mapping[int, list[Point]], seeds: Sequence[int],
    areas: Mapping[str, list[float] | None], targets: Sequence[float], costs: Mapping[str, Cost],
) -> Summary:  # fmt: skip
    ends = [curve[seed][-1] for seed in seeds]
    metrics = [key for key in ends[0].figures if all(end.figures.get(key) is not None for end in ends)]
    classes = ends[0].boxes_per_class
    return Summary(
        name, title, len(seeds),
        {key: mean_interval([_figure(end, key) for end in ends]) for key in metrics},
        {key: mean_interval([of(end) for end in ends]) for key, of in costs.items()},
        {cls: sum(end.boxes_per_class[cls] for end in ends) / len(ends) for cls in classes},
        {key: None if values is None else mean_interval(values) for key, values in areas.items()},
        {target: {key: _reached(curve, seeds, key, target) for key in COSTS} for target in targets},
    )  # fmt: skip


def _round(curve: Mapping[int, list[Point]], seeds: Sequence[int], number: int) -> dict[str, Interval]:
    points = [curve[seed][number] for seed in seeds]
    metrics = [key for key in ("wMAP", "AP50", "AP") if all(p.figures.get(key) is not None for p in points)]
    found = {key: mean_interval([_figure(point, key) for point in points]) for key in metrics}
    return found | {cost: mean_interval([_COST[cost](point) for point in points]) for cost in COSTS}


def _reached(
    curve: Mapping[int, list[Point]], seeds: Sequence[int], cost: str, target: float
) -> tuple[float | None, int]:
    found = [cost_to_reach(*_xy(curve[seed], cost), target) for seed in seeds]
    reached = [value for value in found if value is not None]
    return (sum(reached) / len(reached) if reached else None), len(reached)


def _shared_range(curves: Sequence[list[Point]], cost: str) -> tuple[float, float] | None:
    """The costs that all of the curves have been at."""
    of = _COST[cost]
    low, high = max(of(curve[0]) for curve in curves), min(of(curve[-1]) for curve in curves)
    return (low, high) if low < high else None


def _areas(
    curve: Mapping[int, list[Point]], limits: Mapping[int, tuple[float, float] | None], cost: str
) -> list[float] | None:
    """Of each seed between its limits; None where a seed has none."""
    found = [area_under(*_xy(curve[seed], cost), *of) for seed, of in limits.items() if of is not None]
    return found if len(found) == len(limits) else None


def _xy(points: Sequence[Point], cost: str) -> tuple[list[float], list[float]]:
    """Rising costs, and the figure at each; of rounds that cost nothing the last one counts."""
    at = {_COST[cost](point): _value(point) for point in points}
    return list(at), list(at.values())


def _full(points: Sequence[Point], seeds: Sequence[int], costs: Mapping[str, Cost]) -> dict[str, Interval] | None:
    ends = [point for point in points if point.strategy == FULL and (point.seed in seeds or not seeds)]
    if not ends:
        return None
    metrics = [key for key in ends[0].figures if all(end.figures.get(key) is not None for end in ends)]
    found = {key: mean_interval([_figure(end, key) for end in ends]) for key in metrics}
    return found | {key: mean_interval([of(end) for end in ends]) for key, of in costs.items()}


def _steps_an_image(points: Sequence[Point], rounds: int) -> tuple[float, float] | None:
    full = [point for point in points if point.strategy == FULL]
    last = [point for point in points if point.strategy != FULL and point.round == rounds]
    return (full[0].steps / full[0].images, last[0].steps / last[0].images) if full and last else None


def _value(point: Point) -> float:
    return _figure(point, METRIC)


def _figure(point: Point, key: str) -> float:
    value = point.figures[key]
    assert value is not None
    return value


def _unique(point: Point) -> float:
    return float(point.unique)


def _boxes(point: Point) -> float:
    return float(point.boxes)


_COST: dict[str, Cost] = {"images": _unique, "boxes": _boxes}
