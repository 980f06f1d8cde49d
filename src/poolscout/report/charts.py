"""Vega-Lite specifications of the report's charts; colours and type come from the page's style."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.report.html import chart_spec
from poolscout.report.rundata import Point, Round, RunData
from poolscout.tables.declared import SCORES
from poolscout.tables.parquet import iter_parts

METRICS = ("AP50", "AP", "wMAP")
BINS = 40
ARM_NAMES = {"run": "this run", "random": "random picks", "full": "whole pool"}
# Near Okabe and Ito's: apart for every kind of colour vision, and visible on light and dark grounds alike.
ARM_COLOURS = {"this run": "#1F83C9", "random picks": "#E69F00", "whole pool": "#8A8A8A"}


def learning_curve(run: RunData, cost: str) -> dict[str, Any] | None:
    """AP against `cost` ("images" or "boxes"), one dot a member; None when nothing was measured.

    The signal `metric` (AP50, AP, wMAP) is set by the page.
    """
    curves = [("run", run.points), ("random", run.random)]
    points = [(arm, point) for arm, arm_points in curves for point in arm_points if point.mean is not None]
    if not points:
        return None
    means = [row for arm, point in points if point.mean for row in _rows(arm, point, [point.mean])]
    members = [row for arm, point in points for row in _rows(arm, point, point.members)]
    metric = alt.param(name="metric", value=METRICS[0])
    shown = alt.datum.metric == metric
    x = alt.X(
        f"{cost}:Q",
        title=f"labelled {cost}",
        scale=alt.Scale(zero=False, nice=False, padding=24),
        axis=alt.Axis(format=",d", tickCount=5),
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False, padding=10), axis=alt.Axis(format=".2f", tickCount=5))
    names = [ARM_NAMES[arm] for arm in ARM_NAMES if arm in {a for a, _ in points} or (arm == "full" and _full(run))]
    colour = alt.Color(
        "arm:N",
        title=None,
        scale=alt.Scale(domain=names, range=[ARM_COLOURS[name] for name in names]),
        legend=alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1),
    )
    tooltip = [
        alt.Tooltip("arm:N", title="arm"), alt.Tooltip("who:N", title="detector"),
        alt.Tooltip("round:O", title="round"), alt.Tooltip("images:Q", format=",", title="images"),
        alt.Tooltip("boxes:Q", format=",", title="boxes"), alt.Tooltip("value:Q", format=".3f", title="value"),
    ]  # fmt: skip
    line = alt.Chart(alt.Data(values=means)).transform_filter(shown).encode(x=x, y=y, color=colour, tooltip=tooltip)
    dots = alt.Chart(alt.Data(values=members)).transform_filter(shown).encode(x=x, y=y, color=colour, tooltip=tooltip)
    layers = [
        dots.mark_circle(size=28, opacity=0.45),
        line.mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=55, filled=True)),
    ]
    if (full := _full(run)) is not None and full.mean is not None:
        rule = alt.Chart(alt.Data(values=_rows("full", full, [full.mean]))).transform_filter(shown)
        layers.append(rule.mark_rule(strokeDash=[6, 4], strokeWidth=2).encode(y=y, color=colour, tooltip=tooltip))
    return chart_spec(alt.layer(*layers).add_params(metric), height=260)


def histogram(run: RunData, shown: Round, column: str, unit: str) -> dict[str, Any] | None:
    """How the scores of a round's candidates are spread, and where the picked ones lie; None without scores.

    `column` is the score; its `unit` "1" means that it has none.
    """
    folder = shown.path / "scores"
    if not folder.is_dir():
        return None
    parts = run.attempt(lambda: [part.select(["image_id", column]) for part in iter_parts(folder, SCORES)
                                 if column in part.column_names])  # fmt: skip
    table = pa.concat_tables(parts) if parts else None
    if table is None or not table.num_rows:
        return None
    scores = table[column].to_numpy()
    edges = np.histogram_bin_edges(scores, BINS)
    ids = shown.selection["image_id"] if shown.selection is not None else pa.chunked_array([], pa.string())
    picked = scores[pc.is_in(table["image_id"], value_set=ids.combine_chunks()).to_numpy()]
    counts = {"not picked": np.histogram(scores, edges)[0] - np.histogram(picked, edges)[0],
              "picked": np.histogram(picked, edges)[0]}  # fmt: skip
    rows = [
        {"from": float(a), "to": float(b), "images": int(n), "what": what}
        for what, values in counts.items()
        for a, b, n in zip(edges[:-1], edges[1:], values, strict=True)
        if n
    ]
    title = "score" if unit == "1" else f"score ({unit})"
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("from:Q", bin="binned", title=title, axis=alt.Axis(format=".3~g", tickCount=6)),
            x2="to:Q",
            y=alt.Y("images:Q", title="images", axis=alt.Axis(tickCount=4)),
            color=alt.Color(
                "what:N", title=None, legend=alt.Legend(orient="top"),
                scale=alt.Scale(domain=["not picked", "picked"], range=["#9AA5B1", "#D55E00"]),
            ),
            order=alt.Order("what:N", sort="descending"),
            tooltip=[
                alt.Tooltip("what:N"), alt.Tooltip("images:Q", format=","),
                alt.Tooltip("from:Q", format=".3g"), alt.Tooltip("to:Q", format=".3g"),
            ],
        )
    )  # fmt: skip
    return chart_spec(chart, height=170)


def _full(run: RunData) -> Point | None:
    return run.full if run.full is not None and run.full.mean is not None else None


def _rows(arm: str, point: Point, figures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "arm": ARM_NAMES[arm], "round": point.number, "images": point.n_images, "boxes": point.n_boxes,
            "who": f"member {number}" if figures is point.members else "mean", "metric": metric,
            "value": figure[metric],
        }
        for number, figure in enumerate(figures)
        for metric in METRICS
    ]  # fmt: skip
