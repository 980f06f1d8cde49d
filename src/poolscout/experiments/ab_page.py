"""An A/B test → one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from poolscout.config_experiment import load_experiment
from poolscout.experiments import paper
from poolscout.experiments.ab_cells import BOTH, REFERENCE, AbCells, open_ab
from poolscout.experiments.ab_findings import AbFindings, class_keys, conclude, plain
from poolscout.experiments.ab_picks import picked_arms
from poolscout.experiments.ab_sentences import part_words, tell_ab, wanted_keys
from poolscout.experiments.arms import Arms
from poolscout.experiments.charts import BASELINE_COLOURS, COLOURS, FULL_COLOUR, Spec
from poolscout.experiments.gallery import PICTURES, Galleries, Pick, galleries
from poolscout.experiments.page import FILTERS, config_text, data_name
from poolscout.experiments.sentences import Told, percent
from poolscout.labels import LabelStore
from poolscout.report.html import chart_spec, environment, vega_library
from poolscout.tables.atomic import write_json, write_text
from poolscout.tables.runfolder import RunFolder, read_json

FILE_NAME = "ab.html"
FIGURES_NAME = "ab.json"


def write_ab_page(cells: AbCells, findings: AbFindings) -> Path:
    """Write ab.json, every figure, and ab.html into the test's folder; the same folder gives the same bytes.

    Raises:
        StorageError: the disk is full or refuses.
        TableError: a table of the folder is missing or damaged.
    """
    out = cells.world.folder.path
    path = out / FILE_NAME
    write_json(out / FIGURES_NAME, plain(findings))
    if _given(out).exists():
        for name, ids in (*cells.arms[0].picked.items(), (REFERENCE, cells.arms[0].reference)):
            write_text(_given(out).with_name(f"{name}.txt"), "".join(f"{i}\n" for i in ids))  # as --arm takes them
    told = tell_ab(findings, _what(cells, findings), _wanted(cells))
    write_text(path, _render(cells, findings, told, out))
    return path


def write_ab_page_again(out: Path) -> Path:
    """The same of a test's folder, with the settings and arms in it.

    Raises:
        ConfigError: the settings are not what this release knows.
    """
    config, given = load_experiment(RunFolder(out).config), _given(out)
    seeds, splits = range(config.experiment.seeds), 1 if given.exists() else config.experiment.ab.splits
    if given.exists():
        kept, names = read_json(given), [arm["name"] for arm in read_json(out / FIGURES_NAME)["arms"]]  # in their order
        arms = [Arms(kept["reference"], {name: kept["arms"][name] for name in names})] * len(seeds)
    else:
        arms = [picked_arms(out, seed) for seed in seeds for _ in range(splits)]
    cells = open_ab(config, tuple(arms), splits, out, alone=True)
    return write_ab_page(cells, conclude(cells))


def _wanted(cells: AbCells) -> Sequence[str]:
    return cells.config.experiment.ab.classes


def _given(out: Path) -> Path:
    """The selections that somebody brought; it is not there where the test picked its own."""
    return out / "arms" / "arms.json"


def _render(cells: AbCells, findings: AbFindings, told: Told, out: Path) -> str:
    templates = environment("poolscout.experiments")
    templates.filters |= FILTERS | {"percent": percent, "part": part_words}
    colour_of = arm_colours(cells.names)
    versions = out / "versions.json"
    return templates.get_template("ab.html.j2").render(
        title=f"{cells.config.name}: A/B test",
        data=data_name(str(cells.config.pool.source)),
        told=told,
        findings=findings,
        keys=_in_order(findings, _wanted(cells)),
        wanted=wanted_keys(findings, _wanted(cells)) if _wanted(cells) else [],
        charts={f"gain-{n}": gains(findings, test, colour_of, _wanted(cells))
                for n, test in enumerate(findings.reference)},
        vega=vega_library(),
        arm_colours=colour_of,
        classes=list(cells.world.classes),
        minutes=any(arm.cost["minutes"] for arm in findings.arms),
        paper=paper,
        paper_parts={"manual and AL test data": paper.AB_BOTH, "manual test data only": paper.AB_MANUAL},
        gallery=_gallery(cells, out),
        picks_itself=not _given(out).exists(),
        config_text=config_text(cells.config),
        versions=read_json(versions) if versions.exists() else {},
    )  # fmt: skip


def _what(cells: AbCells, findings: AbFindings) -> str:
    arms = " and ".join(f"{arm.name} ({_cost_words(arm.cost)})" for arm in findings.arms)
    share = cells.config.experiment.ab.held_out
    splits = f", the mean of {cells.splits} splits each" if cells.splits > 1 else ""
    return (
        f"{arms} were compared on {data_name(str(cells.config.pool.source))} beside a reference set of "
        f"{len(cells.arms[0].reference):,} images, {findings.repeats} times{splits}: about "
        f"{100 * (1 - share):.0f} % of each arm is learnt from, the rest, whole sequences, is measured on."
    )


def _cost_words(cost: Mapping[str, Any]) -> str:
    """240 images of 13 sequences, 1,744 boxes, 145 min."""
    minutes = f", {cost['minutes']:,.0f} min" if cost["minutes"] else ""
    return f"{cost['images']:,.0f} images of {cost['sequences']:,.0f} sequences, {cost['boxes']:,.0f} boxes{minutes}"


def arm_colours(names: Sequence[str]) -> dict[str, str]:
    """The arm named first in the baselines' colour, the others in the strategies'."""
    return {name: BASELINE_COLOURS[0] if i == 0 else COLOURS[(i - 1) % len(COLOURS)] for i, name in enumerate(names)}


def _in_order(findings: AbFindings, wanted: Sequence[str]) -> list[str]:
    """Figures on all held-out parts: those that are wanted, the other classes, then the means."""
    known = list(findings.reference.get(BOTH, {}))
    first = wanted_keys(findings, wanted)
    classes = class_keys(known)
    return [*first, *(key for key in classes if key not in first), *(key for key in known if key not in classes)]


def gains(findings: AbFindings, test: str, colour_of: dict[str, str], wanted: Sequence[str]) -> Spec:
    """Relative gain over the reference model with its interval: a row for each figure, a dot for each arm."""
    order = [key for key in _in_order(findings, wanted) if key in findings.reference[test]]
    rows = [
        {"arm": arm.name, "figure": key, "mean": gain.mean, "low": gain.low, "high": gain.high}
        for arm in findings.arms
        for key in order
        if (gain := arm.gain[test].get(key)) is not None
    ]
    y = alt.Y("figure:N", title=None, sort=order, axis=alt.Axis(labelLimit=220, ticks=False, domain=False))
    x = alt.X("mean:Q", title=None, axis=alt.Axis(format="+.0%", tickCount=5), scale=alt.Scale(padding=12))
    offset = alt.YOffset("arm:N", sort=list(colour_of))
    colour = alt.Color(
        "arm:N", title=None, legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=list(colour_of), range=list(colour_of.values())),
    )  # fmt: skip
    tooltip = ["arm:N", "figure:N", *(alt.Tooltip(f"{key}:Q", format="+.1%") for key in ("mean", "low", "high"))]
    base = alt.Chart(alt.Data(values=rows))
    zero = alt.Chart(alt.Data(values=[{"mean": 0}])).mark_rule(color=FULL_COLOUR).encode(x=x)
    bars = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", title=None), x2="high:Q", y=y, yOffset=offset, color=colour
    )
    dots = base.mark_point(size=80, filled=True, opacity=1).encode(
        x=x, y=y, yOffset=offset, color=colour, tooltip=tooltip
    )
    return chart_spec(alt.layer(zero, bars, dots), height=60 + 18 * (1 + len(colour_of)) * len(order))


def _gallery(cells: AbCells, out: Path) -> Galleries:
    """Images evenly spaced over what each arm's first model learnt from."""
    picks, labels = dict[str, list[Pick]](), dict[str, Path]()
    for name, picked in cells.arms[0].picked.items():
        labels[name] = cells.repeat(0) / name / "labels"
        store = LabelStore(labels[name])
        learnt = set(store.current().labelled["image_id"].to_pylist())
        ids = [image_id for image_id in picked if image_id in learnt]
        n = min(PICTURES, len(ids))
        picks[name] = [Pick(ids[i * len(ids) // n]) for i in range(n)]
    return galleries(out, cells.config, picks, labels, list(cells.world.classes))
