"""Vega-Lite specifications of an experiment's charts; the page sets the signal `metric` of those called `curve-…`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from poolscout.experiments.comparison import Comparison, Findings, Summary
from poolscout.experiments.results import METRICS, Point
from poolscout.experiments.statistics import Interval
from poolscout.report.html import chart_spec

FULL_TITLE = "whole pool"
# Near Okabe and Ito's, and visible on light and dark grounds alike.
BASELINE_COLOURS = ("#E69F00", "#B0722C", "#C9A227")
COLOURS = (
    "#1F83C9", "#009E73", "#CC79A7", "#D55E00", "#7B61C9", "#3FB6C9", "#8A9A1F", "#B4506B", "#4F7F5B", "#A07BD0",
    "#C98B6B", "#5C8FD6",
)  # fmt: skip
FULL_COLOUR = "#8A8A8A"
PLOT_PX = {"boxes": 370, "mean": 150}  # about what the points of the scatter chart spread over, between its margins
LABEL_PX, MARGIN_PX = 11, 40
LEGEND_PX, LETTER_PX, SYMBOL_PX = 480, 6, 30
LABEL_PLACES = (  # of a point's label: alignment, px to the right, px down
    ("center", 0, -12), ("center", 0, 13), ("left", 9, 0), ("right", -9, 0), ("center", 0, -25), ("center", 0, 26),
)  # fmt: skip
VERDICT_COLOURS = {"better": "#009E73", "no difference shown": "#8A8A8A", "worse": "#D55E00"}

Spec = dict[str, Any]


def colours(findings: Findings, baselines: Sequence[str], first: str | None) -> dict[str, str]:
    """Title → colour: of the baselines, of the strategy in focus, of the others, and of the whole pool."""
    others = [one for one in findings.summaries if one.name not in baselines]
    others.sort(key=lambda one: one.name != first)
    ours = {one.title: COLOURS[i % len(COLOURS)] for i, one in enumerate(others)}
    based = [one for one in findings.summaries if one.name in baselines]
    theirs = {one.title: BASELINE_COLOURS[i % len(BASELINE_COLOURS)] for i, one in enumerate(based)}
    return ours | theirs | ({FULL_TITLE: FULL_COLOUR} if findings.full else {})


def curve(findings: Findings, colour_of: Mapping[str, str], cost: str) -> Spec:
    """Figures against `cost` (images, boxes) with their 95 % bands, a line for each strategy."""
    rows = [
        _row(one.title, of[metric], metric, round=number, images=of["images"].mean, boxes=of["boxes"].mean)
        for one in findings.summaries
        for number, of in enumerate(findings.per_round[one.name])
        for metric in METRICS
        if metric in of
    ]
    base = _of_metric(rows)
    x = alt.X(
        f"{cost}:Q", title=f"labelled {cost}", scale=alt.Scale(zero=False, nice=False, padding=16),
        axis=alt.Axis(format=",d", tickCount=5),
    )  # fmt: skip
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False, padding=10), axis=alt.Axis(format=".2f", tickCount=5))
    colour = _colour(colour_of, legend=alt.Legend(
        orient="top", columns=_columns(list(colour_of)), symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1,
        labelLimit=260,
    ))  # fmt: skip
    tooltip = [*_TOOLTIP, alt.Tooltip("round:O"), alt.Tooltip("images:Q", format=",.0f"),
               alt.Tooltip("boxes:Q", format=",.0f")]  # fmt: skip
    layers = [
        *_full_layers(findings, colour, alt.Y),
        base.mark_area(opacity=0.13).encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=45, filled=True)).encode(
            x=x, y=y, color=colour, tooltip=tooltip
        ),
    ]
    return _with_metric(layers, height=320)


def _columns(titles: Sequence[str]) -> int:
    """Of a legend that is no wider than its chart: as many as there is room for, four at most."""

    def width(n: int) -> int:
        return sum(
            max(len(title) for title in titles[i::n]) * LETTER_PX + SYMBOL_PX for i in range(min(n, len(titles)))
        )

    return next((n for n in (4, 3, 2) if width(n) <= LEGEND_PX), 1)


def final(findings: Findings, points: Sequence[Point], colour_of: Mapping[str, str], baselines: Sequence[str]) -> Spec:
    """Each strategy's figure after the last round with its interval, seeds as small dots, the best on top."""
    titles = {one.name: one.title for one in findings.summaries}
    order = [one.title for one in sorted(findings.summaries, key=lambda one: -one.final["wMAP"].mean)]
    rows = [_row(one.title, one.final[m], m) for one in findings.summaries for m in METRICS if m in one.final]
    last = max((point.round for point in points), default=0)
    seeds = [
        {"strategy": titles[p.strategy], "seed": p.seed, "metric": metric, "mean": p.figures[metric]}
        for p in points
        if p.strategy in titles and p.round == last and p.seed in findings.seeds
        for metric in METRICS
        if p.figures.get(metric) is not None
    ]
    y = alt.Y("strategy:N", title=None, sort=order, axis=alt.Axis(labelLimit=220, ticks=False, domain=False))
    x = alt.X("mean:Q", title=None, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(format=".2f", tickCount=5))
    colour = _colour(colour_of, legend=None)
    base, tooltip = _of_metric(rows), _TOOLTIP
    based = _of_metric([row for row in rows if row["strategy"] in {titles[b] for b in baselines if b in titles}])
    layers = [
        *_full_layers(findings, colour, alt.X),
        based.mark_rule(strokeDash=[2, 3], strokeWidth=1.5).encode(x=x, color=colour, tooltip=tooltip),
        _of_metric(seeds).mark_circle(size=22, opacity=0.35).encode(
            x=x, y=y, color=colour, tooltip=["strategy:N", "seed:O", alt.Tooltip("mean:Q", format=".4f", title="value")]
        ),
        base.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y, color=colour),
        base.mark_point(size=90, filled=True, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip),
    ]  # fmt: skip
    return _with_metric(layers, height=60 + 26 * len(order))


def scatter(findings: Findings, colour_of: Mapping[str, str]) -> Spec:
    """Each strategy's figure after the last round against what its labels cost, in boxes."""
    rows = [
        _row(one.title, one.final[m], m, boxes=one.cost["boxes"].mean, images=one.cost["images"].mean)
        for one in findings.summaries
        for m in METRICS
        if m in one.final
    ]
    x = alt.X(
        "boxes:Q", title="labelled boxes", scale=alt.Scale(zero=False, padding=MARGIN_PX),
        axis=alt.Axis(format=",d", tickCount=5),
    )  # fmt: skip
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False, padding=18), axis=alt.Axis(format=".2f", tickCount=5))
    colour = _colour(colour_of, legend=None)
    tooltip = [*_TOOLTIP, alt.Tooltip("boxes:Q", format=",.0f"), alt.Tooltip("images:Q", format=",.0f")]
    for metric in METRICS:
        _place_labels([row for row in rows if row["metric"] == metric])
    base, low = _of_metric(rows), alt.Y("low:Q", title=None)
    layers = [
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(x=x, y=low, y2="high:Q", color=colour),
        base.mark_point(size=80, filled=True, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip),
        *(
            _of_metric([row for row in rows if row["place"] == i]).mark_text(
                align=align, dx=dx, dy=dy, fontSize=LABEL_PX
            ).encode(x=x, y=y, text="strategy:N", color=colour)
            for i, (align, dx, dy) in enumerate(LABEL_PLACES)
        ),
    ]  # fmt: skip
    return _with_metric(layers, height=320)


def _place_labels(rows: list[Spec]) -> None:
    """Give each row the `place` of its label: the first at which it hides neither a point nor another label."""
    if not rows:
        return
    width, height = (_spread([row[key] for row in rows], px) for key, px in PLOT_PX.items())
    taken = [(row["boxes"] * width, -row["mean"] * height, 6.0, 6.0) for row in rows]  # points: centre, half sizes
    ends = [row["boxes"] * width for row in rows]
    low, high = min(ends) - 2 * MARGIN_PX, max(ends) + 2 * MARGIN_PX
    for row in sorted(rows, key=lambda row: row["boxes"]):
        half = 0.28 * LABEL_PX * len(row["strategy"])
        centres = [
            (row["boxes"] * width + dx + {"left": half, "right": -half}.get(align, 0.0), dy - row["mean"] * height)
            for align, dx, dy in LABEL_PLACES
        ]
        hidden = [
            (not low < x - half < x + half < high)
            + sum(abs(x - u) < half + w and abs(y - v) < LABEL_PX / 2 + h for u, v, w, h in taken)
            for x, y in centres
        ]
        row["place"] = hidden.index(min(hidden))
        taken.append((*centres[row["place"]], half, LABEL_PX / 2))


def _spread(values: Sequence[float], px: int) -> float:
    """Pixels a unit, where the values fill so many."""
    return px / (max(values) - min(values) or 1.0)


def differences(comparisons: Sequence[Comparison], summaries: Sequence[Summary]) -> Spec:
    """Differences in wMAP from one baseline with their intervals, coloured by what is shown."""
    titles = {one.name: one.title for one in summaries}
    rows = [
        {
            "strategy": titles[one.strategy], "mean": one.final.difference.mean,
            "low": one.final.difference.low, "high": one.final.difference.high,
            "p": one.final.p_told, "verdict": one.final.verdict,
        }
        for one in comparisons
    ]  # fmt: skip
    return interval_chart(rows, "strategy", ".3f", height=50 + 26 * len(rows))


def interval_chart(rows: list[Spec], label: str, form: str, height: int) -> Spec:
    """Rows of `label`, mean, low, high, p and verdict as dots with intervals, beside a line at 0."""
    order = [row[label] for row in sorted(rows, key=lambda row: -row["mean"])]
    y = alt.Y(f"{label}:N", title=None, sort=order, axis=alt.Axis(labelLimit=260, ticks=False, domain=False))
    x = alt.X("mean:Q", title=None, axis=alt.Axis(format=f"+{form}", tickCount=5), scale=alt.Scale(padding=12))
    colour = alt.Color(
        "verdict:N", title=None, legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(VERDICT_COLOURS), range=list(VERDICT_COLOURS.values())),
    )  # fmt: skip
    tooltip = [
        f"{label}:N", alt.Tooltip("mean:Q", format=f"+{form}", title="difference"),
        alt.Tooltip("low:Q", format=f"+{form}"), alt.Tooltip("high:Q", format=f"+{form}"),
        alt.Tooltip("p:Q", format=".3f", title="p, corrected"), "verdict:N",
    ]  # fmt: skip
    base = alt.Chart(alt.Data(values=rows))
    zero = alt.Chart(alt.Data(values=[{"mean": 0}])).mark_rule(color=FULL_COLOUR).encode(x=x)
    bars = base.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y, color=colour)
    dots = base.mark_point(size=90, filled=True, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip)
    return chart_spec(alt.layer(zero, bars, dots), height=height)


_TOOLTIP = [
    alt.Tooltip("strategy:N"), alt.Tooltip("mean:Q", format=".4f"),
    alt.Tooltip("low:Q", format=".4f", title="95 % from"), alt.Tooltip("high:Q", format=".4f", title="to"),
]  # fmt: skip


def _row(title: str, of: Interval, metric: str, **more: float) -> Spec:
    return {"strategy": title, "metric": metric, "mean": of.mean, "low": of.low, "high": of.high, **more}


def _of_metric(rows: list[Spec]) -> alt.Chart:
    return alt.Chart(alt.Data(values=rows)).transform_filter(alt.datum.metric == alt.param(name="metric"))


def _with_metric(layers: Sequence[alt.Chart], height: int) -> Spec:
    return chart_spec(alt.layer(*layers).add_params(alt.param(name="metric", value=METRICS[0])), height)


def _colour(colour_of: Mapping[str, str], legend: alt.Legend | None) -> alt.Color:
    scale = alt.Scale(domain=list(colour_of), range=list(colour_of.values()))
    return alt.Color("strategy:N", title=None, scale=scale, legend=legend)


def _full_layers(findings: Findings, colour: alt.Color, axis: Any) -> list[alt.Chart]:
    """The whole pool's figure as a line with its band across the chart."""
    if findings.full is None:
        return []
    rows = [_row(FULL_TITLE, findings.full[metric], metric) for metric in METRICS if metric in findings.full]
    base, key = _of_metric(rows), "y" if axis is alt.Y else "x"
    band = {key: axis("low:Q", title=None), f"{key}2": "high:Q"}
    return [
        base.mark_rect(opacity=0.14).encode(color=colour, **band),
        base.mark_rule(strokeDash=[6, 4], strokeWidth=2).encode(
            color=colour, tooltip=_TOOLTIP, **{key: axis("mean:Q", title=None, scale=alt.Scale(zero=False))}
        ),
    ]
