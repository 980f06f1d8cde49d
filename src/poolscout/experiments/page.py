"""An experiment's figures → one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from poolscout.config_experiment import ExperimentRunConfig
from poolscout.experiments import paper
from poolscout.experiments.cells import START, seed_path
from poolscout.experiments.charts import FULL_TITLE, Spec, colours, curve, differences, final, scatter
from poolscout.experiments.comparison import COSTS, Comparison, Findings, Summary
from poolscout.experiments.gallery import Galleries, first_picks, galleries
from poolscout.experiments.results import METRICS, RANGE, Point
from poolscout.experiments.sentences import Setting, Told, focus, p_words, signed, target_words, tell
from poolscout.experiments.statistics import Interval, Paired
from poolscout.pool.shortlist_stage import pool_path
from poolscout.report.html import environment, vega_library
from poolscout.tables.atomic import write_text
from poolscout.tables.declared import POOL
from poolscout.tables.parquet import iter_parts
from poolscout.tables.runfolder import RunFolder, read_json

FILE_NAME = "experiment.html"
SHOWN = {"better": "better", "worse": "worse", "no difference shown": "not shown"}


def write_page(
    kind: str, config: ExperimentRunConfig, points: Sequence[Point], findings: Findings, out: Path
) -> tuple[Path, Told]:
    """Write `out`/experiment.html; the same folder gives the same bytes.

    Args:
        kind: of the experiment, for the command and the paper's table.
        config: of its runs.
        points, findings: its figures and what they say.
        out: its folder.

    Returns:
        The page's path, and its summary.

    Raises:
        StorageError: the disk is full or refuses.
        TableError: a table of the folder is missing or damaged.
    """
    setting = setting_of(config, out)
    told = tell(findings, setting)
    path = out / FILE_NAME
    write_text(path, _render(kind, config, points, findings, out, setting, told))
    return path, told


def setting_of(config: ExperimentRunConfig, out: Path) -> Setting:
    """What was compared on what, from the experiment's folder."""
    held_out = bool(config.experiment.validation)
    pool = out / "split" / "pool" if held_out else pool_path(RunFolder(out), config.shortlist)
    metrics = out.glob(f"seeds/seed-*/{START}/round-000/metrics.json")
    test: dict[str, Any] = next((read_json(path)["test"] for path in sorted(metrics)), {"images": 0, "boxes": {}})
    return Setting(
        data_name(str(config.pool.source)),
        sum(part.num_rows for part in iter_parts(pool, POOL, ["image_id"])),
        test["images"],
        sum(test["boxes"].values()),
        held_out,
        config.experiment.seeds,
        config.rounds,
        config.labelling.initial,
        config.selection.n,
        config.training.members,
        config.experiment.baselines,
        config.experiment.train_out,
    )


def data_name(source: str) -> str:
    """What people call a data set: its folder's name."""
    parts = [part for part in source.split("/") if part]
    is_file = len(parts) > 1 and "." in parts[-1]
    return parts[-2] if is_file else parts[-1]


def _render(
    kind: str, config: ExperimentRunConfig, points: Sequence[Point], findings: Findings, out: Path, setting: Setting,
    told: Told,
) -> str:  # fmt: skip
    templates = environment("poolscout.experiments")
    templates.filters |= FILTERS
    ours = focus(findings, setting.baselines)
    colour_of = colours(findings, setting.baselines, ours.name if ours else None)
    charts = _charts(findings, points, colour_of, setting)
    versions = out / "versions.json"
    return templates.get_template("experiment.html.j2").render(
        title=f"{config.name}: {kind}",
        kind=kind,
        setting=setting,
        told=told,
        findings=findings,
        titles={one.name: one.title for one in findings.summaries},
        charts=charts,
        vega=vega_library() if charts else "",
        metrics=METRICS,
        strategy_colours=colour_of,
        against=_against(findings, setting.baselines),
        classes=_class_table(findings),
        sizes=_size_table(findings),
        targets=_targets(findings),
        beside=_beside(kind, config, findings),
        statements=_statements(findings) if kind == "loop" else [],
        paper=paper,
        gallery=_gallery(config, findings, out),
        seeds=[config.seed + seed for seed in findings.seeds],
        first=findings.seeds[0] if findings.seeds else 0,
        definition=_definition(out),
        config_text=config_text(config),
        versions=read_json(versions) if versions.exists() else {},
    )


def config_text(config: ExperimentRunConfig) -> str:
    """As the folder's run.yaml has it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _charts(
    findings: Findings, points: Sequence[Point], colour_of: Mapping[str, str], setting: Setting
) -> dict[str, Spec]:
    if not findings.summaries:
        return {}
    found = {"curve-final": final(findings, points, colour_of, setting.baselines)}
    if setting.rounds > 1:
        found |= {f"curve-{cost}": curve(findings, colour_of, cost) for cost in COSTS}
    else:
        found["curve-scatter"] = scatter(findings, colour_of)
    for number, of in enumerate(_against(findings, setting.baselines).values()):
        found[f"difference-{number}"] = differences(of, findings.summaries)
    return found


def _against(findings: Findings, baselines: Sequence[str]) -> dict[str, list[Comparison]]:
    """Baseline → all that is compared with it."""
    names = [name for name in baselines if any(one.baseline == name for one in findings.comparisons)]
    return {name: [one for one in findings.comparisons if one.baseline == name] for name in names}


def _class_table(findings: Findings) -> dict[str, Any]:
    """AP50 and AP of each class for each strategy; classes that the test images do not show have none."""
    names = sorted({key[5:] for one in findings.summaries for key in one.final if key.startswith("AP50 ")})
    rows = [
        {"title": one.title, "cells": [
            {"AP50": one.final.get(f"AP50 {name}"), "AP": one.final.get(f"AP {name}"),
             "labelled": one.boxes_per_class.get(name)} for name in names
        ]} for one in findings.summaries
    ]  # fmt: skip
    if findings.full and rows:
        full = findings.full
        cells = [{"AP50": full.get(f"AP50 {n}"), "AP": full.get(f"AP {n}"), "labelled": None} for n in names]
        rows.append({"title": FULL_TITLE, "cells": cells})
    return {"names": names, "rows": rows}


def _size_table(findings: Findings) -> dict[str, Any]:
    """AP of each range of box sizes, of which wMAP is the mean."""
    keys = list(dict.fromkeys(key for one in findings.summaries for key in one.final if key.startswith(RANGE)))
    rows = [{"title": one.title, "cells": [one.final.get(key) for key in keys]} for one in findings.summaries]
    if findings.full and rows:
        rows.append({"title": FULL_TITLE, "cells": [findings.full.get(key) for key in keys]})
    return {"names": [key.removeprefix(RANGE).split(", ") for key in keys], "rows": rows}


def _targets(findings: Findings) -> list[tuple[float, str]]:
    targets = findings.summaries[0].to_reach if findings.summaries else {}
    return [(target, target_words(target, findings)) for target in targets]


def _beside(kind: str, config: ExperimentRunConfig, findings: Findings) -> dict[str, Any] | None:
    """The paper's table and ours: rank and gain over random of the strategies that both have."""
    table, ours = paper.table_of(kind, tuple(config.experiment.embeddings)), _by_name(findings)
    if table is None or paper.RANDOM not in ours:
        return None
    lines = [line for line in table.lines if line.name in ours]
    base, theirs = ours[paper.RANDOM].final["wMAP"].mean, next(x.wmap for x in lines if x.name == paper.RANDOM)
    verdicts = {one.strategy: one.final.verdict for one in findings.comparisons if one.baseline == paper.RANDOM}
    ranks = _ranks([line.wmap for line in lines]), _ranks([ours[line.name].final["wMAP"].mean for line in lines])
    rows = [
        {
            "line": line, "title": ours[line.name].title, "wmap": 100 * ours[line.name].final["wMAP"].mean,
            "gain": 100 * (ours[line.name].final["wMAP"].mean - base), "paper_gain": line.wmap - theirs,
            "paper_rank": paper_rank, "rank": rank, "verdict": verdicts.get(line.name),
        }
        for line, paper_rank, rank in zip(lines, *ranks, strict=True)
    ]  # fmt: skip
    return {"table": table, "rows": rows}


def _statements(findings: Findings) -> list[dict[str, Any]]:
    """What the paper's text says of its loop, and the same of ours."""
    ours, rows = _by_name(findings), []
    for one in paper.LOOP:
        if one.ours in ours and one.beside in ours:
            a, b = ours[one.ours], ours[one.beside]
            if one.of == "images":
                value = f"{100 * a.cost['images'].mean / b.cost['images'].mean:.0f} %"
            else:
                base = b.final["wMAP"].mean
                value = f"{signed(100 * (a.final['wMAP'].mean / base - 1), 1)} %" if base else "–"
            rows.append({"words": one.words, "paper": one.paper, "ours": value})
    return rows


def _ranks(values: Sequence[float]) -> list[int]:
    """1 is the highest."""
    return [1 + sum(other > value for other in values) for value in values]


def _gallery(config: ExperimentRunConfig, findings: Findings, out: Path) -> Galleries | None:
    """What each strategy picked first, in the first finished seed."""
    if not findings.seeds:
        return None
    at = seed_path(out, findings.seeds[0])
    titles = {one.title: one.name for one in findings.summaries}
    picks = {title: found for title, name in titles.items() if (found := first_picks(at / name / "round-000"))}
    labels = {title: at / titles[title] / "labels" for title in picks}
    return galleries(out, config, picks, labels, sorted(findings.summaries[0].boxes_per_class))


def _definition(out: Path) -> str:
    files = sorted(out.glob("seeds/seed-*/*/round-*/metrics.json"))
    return next((read_json(path).get("wMAP_definition", "") for path in files), "")


def _by_name(findings: Findings) -> dict[str, Summary]:
    return {one.name: one for one in findings.summaries}


def _between(of: Interval | None, digits: int = 3) -> str:
    """The interval in words."""
    if of is None or of.low is None or of.high is None:
        return ""
    return f"{of.low:.{digits}f} … {of.high:.{digits}f}"


def _between_signed(of: Interval, digits: int = 3) -> str:
    return "" if of.low is None or of.high is None else f"{signed(of.low, digits)} … {signed(of.high, digits)}"


def _verdict(of: Paired) -> str:
    return SHOWN[of.verdict]


def _p(of: Paired) -> str:
    return p_words(of.p_told)


FILTERS = {"between": _between, "between_signed": _between_signed, "signed": signed, "verdict": _verdict, "p": _p}
