"""The figures of all cells as one table: a row for each seed, strategy and round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from poolscout.errors import DataError, some
from poolscout.experiments.cells import FULL, START, seed_path
from poolscout.tables.atomic import atomic_path
from poolscout.tables.runfolder import read_json

METRICS = ("wMAP", "AP50", "AP")
RANGE = "sizes "  # begins the name of the AP of a range of box sizes


@dataclass(frozen=True)
class Point:
    """What a strategy has come to after a round of one seed.

    Attributes:
        images: labelled images, as often as they count in training.
        unique: different ones: what was paid for.
        boxes: labelled boxes, of the unique images.
        sequences: recordings that the labelled images come from.
        steps: optimiser steps of each member.
        figures: wMAP, AP50, AP, `AP50 CLASS`, `AP CLASS`, and `sizes RANGE`, the AP of a range of box sizes (wMAP is
            the mean of these): means over the members; None without ground truth.
    """

    seed: int
    strategy: str
    round: int
    images: int
    unique: int
    boxes: int
    boxes_per_class: dict[str, int]
    sequences: int
    steps: int
    figures: dict[str, float | None]

    def row(self) -> dict[str, Any]:
        """Flat."""
        names = ("seed", "strategy", "round", "images", "unique", "boxes", "sequences", "steps")
        boxes = {f"boxes {name}": n for name, n in self.boxes_per_class.items()}
        return {name: getattr(self, name) for name in names} | boxes | self.figures


def gather(out: Path, seeds: int, strategies: Iterable[str], rounds: int, full: bool) -> list[Point]:
    """The points of all cells that are finished; round 0 of every strategy is the start of its seed."""
    points = list[Point]()
    for seed in range(seeds):
        path, names = seed_path(out, seed), list(strategies)
        for name in names:
            for number in range(rounds + 1):
                arm = path / (START if number == 0 else name)
                points += _point(arm, seed, name, number, labels=path / name)
        points += _point(path / FULL, seed, FULL, 0, labels=path / FULL) if full else []
    return points


def _point(arm: Path, seed: int, name: str, number: int, labels: Path) -> Iterator[Point]:
    folder = arm / f"round-{number:03d}"
    if not (folder / "evaluate.manifest.json").exists() or not (folder / "metrics.json").exists():
        return
    metrics = read_json(folder / "metrics.json")
    mean = metrics.get("mean") or {}
    figures: dict[str, float | None] = {metric: mean.get(metric) for metric in METRICS}
    for cls, values in (mean.get("per_class") or {}).items():
        figures |= {f"{metric} {cls}": values[metric] for metric in ("AP50", "AP")}
    figures |= {RANGE + _range_words(bucket): bucket["AP"] for bucket in mean.get("per_bucket") or ()}
    yield Point(
        seed, name, number, metrics["images"]["labelled"], metrics["images"]["unique"], metrics["boxes"],
        metrics["boxes_per_class"], metrics["sequences"], _steps(folder / "models"), figures,
    )  # fmt: skip


def _range_words(bucket: Mapping[str, Any]) -> str:
    """up to 205 px², 1,650 boxes."""
    low, high = (None if bucket[key] is None else f"{bucket[key]:,.0f}" for key in ("low_px2", "high_px2"))
    between = f"above {low}" if high is None else f"{low} to {high}" if bucket["low_px2"] else f"up to {high}"
    return f"{between} px², {bucket['n_boxes']:,} boxes"


def _steps(models: Path) -> int:
    cards = [read_json(card) for card in sorted(models.glob("member-*.json"))]
    steps = {card["training"]["steps"] for card in cards}
    return max(steps) if steps else 0


def check_effort(points: Iterable[Point]) -> None:
    """Refuse to compare what was trained unequally: strategies of a round have the same steps.

    Raises:
        DataError: names the cells.
    """
    by_round: dict[int, dict[int, list[str]]] = {}
    for point in points:
        if point.strategy != FULL:
            cell = f"seed {point.seed} {point.strategy}"
            by_round.setdefault(point.round, {}).setdefault(point.steps, []).append(cell)
    for number, by_steps in by_round.items():
        if len(by_steps) > 1:
            rarest = min(by_steps, key=lambda steps: len(by_steps[steps]))
            raise DataError(
                f"round {number}: strategies of unequal training effort are not compared",
                got=f"{some(by_steps[rarest])}: {rarest:,} steps; others {some(set(by_steps) - {rarest})}",
                expected="the same number of optimiser steps for all",
                fix="start the experiment again in another folder: these cells are of different settings",
            )  # fmt: skip


def write_results(points: list[Point], out: Path) -> None:
    """`results.parquet` and `results.csv`, for whoever wants to look further."""
    rows = [point.row() for point in points]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    with atomic_path(out / "results.parquet") as temporary:
        pq.write_table(table, temporary)
    with atomic_path(out / "results.csv") as temporary:
        pyarrow.csv.write_csv(table, temporary)


def by_seed(points: Iterable[Point], strategy: str) -> Mapping[int, list[Point]]:
    """Seed → its points of a strategy, in order of rounds."""
    found: dict[int, list[Point]] = {}
    for point in sorted(points, key=lambda point: (point.seed, point.round)):
        if point.strategy == strategy:
            found.setdefault(point.seed, []).append(point)
    return found
