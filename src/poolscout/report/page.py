"""Tables and models of a run → one HTML file that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from poolscout.report.charts import METRICS, histogram, learning_curve
from poolscout.report.grid import FIRST_PICKS
from poolscout.report.headline import headline
from poolscout.report.heat import MEMBER_COLOURS, legend_css, member_colour
from poolscout.report.html import environment, vega_library
from poolscout.report.pictures import PAGE_PICTURE_BYTES, class_colours, gallery
from poolscout.report.rundata import Point, RunData, read_run
from poolscout.report.seen import LEAST_SHOWN, in_unit, scorer_called
from poolscout.tables.atomic import write_text

FILE_NAME = "report.html"
MAX_QUARANTINE_ROWS = 50  # listed by name; all are counted
MAX_GRID_ROUNDS = 8  # the last ones get scorer × class grids: a tenth would leave each too few bytes


def write_report(run_dir: Path) -> Path:
    """Write `run_dir`/report.html from the run's tables and models; the same run gives the same bytes.

    A run in any state is shown: what is missing or cannot be read is said on the page.

    Returns:
        The path of the page: self-contained, no network needed.

    Raises:
        RunError: `run_dir` is not a run's folder.
        ConfigError: its run.yaml is not a config this release knows.
        StorageError: the disk is full or refuses.
    """
    run = read_run(Path(run_dir))
    path = run.path / FILE_NAME
    write_text(path, render(run))
    return path


def render(run: RunData) -> str:
    """The page's HTML."""
    templates = environment()
    templates.filters |= {"in_unit": in_unit, "member_colour": member_colour}
    curves = {f"curve-{cost}": learning_curve(run, cost) for cost in ("images", "boxes")}
    charts = {name: spec for name, spec in curves.items() if spec is not None}
    rounds = _rounds(run, charts)
    kind, state = run.state()
    return templates.get_template("report.html.j2").render(
        run=run,
        config=run.config,
        kind=kind,
        state=state,
        sentences=headline(run),
        metrics=METRICS,
        costs=_costs(run),
        classes=_class_table(run),
        rounds=rounds,
        ranked_by=_ranked_by(run),
        member_colours=MEMBER_COLOURS,
        least_shown=LEAST_SHOWN,
        calibrations=_calibrations(run),
        quarantine=_quarantine(run),
        charts=charts,
        config_text=yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        legend=Markup(legend_css()),
        vega=vega_library() if charts else "",
    )


def _rounds(run: RunData, charts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What was picked in each round; its histogram goes into `charts`."""
    picked = [r for r in run.rounds if r.selection is not None]
    n_pictures = sum(min(r.selection.num_rows, run.config.report.images_per_round) for r in picked if r.selection)
    with_grids = [r.number for r in picked[-MAX_GRID_ROUNDS:]]
    # half of the page's pictures for the cards, half for the grids
    card_bytes = PAGE_PICTURE_BYTES // 2 // max(n_pictures, 1)
    grid_bytes = PAGE_PICTURE_BYTES // 2 // max(FIRST_PICKS * len(with_grids), 1)
    colour_of, column = class_colours(run.classes), run.config.scoring.scorers[0].column
    shown = []
    for r in picked:
        spec = histogram(run, r, column, _ranked_by(run)["unit"])
        if spec is not None:
            charts[f"scores-{r.number}"] = spec
        shown.append({
            "number": r.number,
            "gallery": gallery(run, r, colour_of, card_bytes, grid_bytes if r.number in with_grids else 0),
            "has_histogram": spec is not None,
            "colours": colour_of,
        })  # fmt: skip
    return shown


def _ranked_by(run: RunData) -> dict[str, str]:
    """The score that ranks the images, in words, its unit and that of a pick's score; "1" is none."""
    choice = run.config.scoring.scorers[0]
    scorer = scorer_called(choice.scorer)
    how = f"{choice.aggregate}, k = {choice.k}" if choice.k else choice.aggregate
    unit, over = scorer.unit if scorer else "1", run.config.selection
    words = f"{choice.scorer} ({how})".replace("_", " ")
    if over.over_classes != "max" or over.normalise_classes:
        normalised = ", each class by its rank" if over.normalise_classes else ""
        words += f", the highest of the classes; picked by their {over.over_classes}{normalised}"
    return {"words": words, "unit": unit, "pick_unit": "1" if over.normalise_classes else unit}


def _costs(run: RunData) -> list[dict[str, Any]]:
    """Rows of the cost table: the run's rounds, then the references."""
    rows = []
    for arm in (run.points, run.random, [run.full] if run.full else []):
        for before, point in zip([None, *arm], arm, strict=False):
            if arm is run.random and point.arm == "run":
                continue  # both arms start from the run's own round 0
            title = {"run": f"round {point.number}", "random": f"random, round {point.number}", "full": "whole pool"}
            new = None if before is None else (point.n_images - before.n_images, point.n_boxes - before.n_boxes)
            rows.append({"title": title[point.arm], "arm": point.arm, "point": point, "new": new})
    return rows


def _class_table(run: RunData) -> dict[str, Any] | None:
    """AP50 and AP of each class in each round; None when nothing was measured."""
    points = run.measured
    if not points:
        return None
    columns: list[tuple[str, Point]] = [(f"round {point.number}", point) for point in points]
    if len(run.random) > 1 and run.random[-1].mean is not None:
        columns.append((f"random, round {run.random[-1].number}", run.random[-1]))
    if run.full is not None and run.full.mean is not None:
        columns.append(("whole pool", run.full))
    return {
        "columns": [title for title, _ in columns],
        "rows": [
            {
                "name": name,
                "test_boxes": points[-1].test.get("boxes", {}).get(name),
                "cells": [
                    {**(point.mean or {})["per_class"].get(name, {"AP": None, "AP50": None}),
                     "labelled": point.boxes_per_class.get(name)}
                    for _, point in columns
                ],
            }
            for name in run.classes
        ],
    }  # fmt: skip


def _calibrations(run: RunData) -> dict[str, Any] | None:
    """Calibration error before and after, one row a member, one column a round; None without any."""
    rounds = [(r.number, [card.get("calibration", {}) for card in r.cards]) for r in run.rounds if r.cards]
    if not rounds:
        return None
    members = range(max(len(cells) for _, cells in rounds))
    return {
        "rounds": [number for number, _ in rounds],
        "members": [[cells[m] if m < len(cells) else {} for _, cells in rounds] for m in members],
        "measured": any(cell.get("error_after") is not None for _, cells in rounds for cell in cells),
    }


def _quarantine(run: RunData) -> dict[str, Any]:
    rows = run.quarantine()
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts[row["stage"], row["reason"]] = counts.get((row["stage"], row["reason"]), 0) + 1
    return {"total": len(rows), "counts": counts, "rows": rows[:MAX_QUARANTINE_ROWS]}
