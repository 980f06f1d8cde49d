"""`poolscout experiment`: a table of the paper on your own data, with intervals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from poolscout.cli.ab import tell_findings
from poolscout.cli.console import (
    AddressOption,
    ConsoleProgress,
    EngineOption,
    JsonOption,
    RedoOption,
    SetOption,
    WorkersOption,
    engine_settings,
    resumable,
    show_table,
    stdout,
)


def experiment(
    kind: Annotated[str, typer.Argument(help="scoring, sampling, diversity, loop or ab (docs/experiments.md).")],
    config: Annotated[Path, typer.Argument(help="The YAML file of a run; its section experiment is read too.")],
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    out: Annotated[Path | None, typer.Option(help="The experiment's folder; default experiments/NAME-KIND.")] = None,
    redo_stale: RedoOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare strategies over paired seeds; the same command continues an experiment that was stopped.

    Example: `poolscout experiment loop examples/carla_driving.yaml --set experiment.seeds=10 --engine processes`
    """
    from poolscout.config_experiment import load_experiment
    from poolscout.experiments.ab import run_picking_ab
    from poolscout.experiments.presets import check_kind
    from poolscout.experiments.runner import run_experiment
    from poolscout.experiments.sentences import signed

    check_kind(kind)
    settings = load_experiment(config, [*engine_settings(engine, workers, address), *overrides])
    folder = out or Path("experiments") / f"{settings.name}-{kind}"
    if kind == "ab":
        with resumable():
            ab = run_picking_ab(settings, folder, progress=ConsoleProgress(), redo_stale=redo_stale)
        tell_findings(ab, folder, settings.experiment.ab.classes, as_json)
        return
    with resumable():
        outcome = run_experiment(kind, settings, folder, progress=ConsoleProgress(), redo_stale=redo_stale)
    found = outcome.findings
    if as_json:
        more = {"told": asdict(outcome.told), "report": str(outcome.page), "written": str(folder)}
        typer.echo(json.dumps(asdict(found) | more, indent=1, default=str))
        return
    show_table([_row(summary) for summary in found.summaries])
    for one in found.comparisons:
        final = one.final
        told = f"wMAP {signed(final.difference.mean)}, p = {final.p_told:.3f}: {final.verdict}"
        stdout.print(escape(f"{one.strategy} against {one.baseline}: {told}"))
    for sentence in outcome.told.briefly:
        stdout.print(escape(sentence))
    stdout.print(escape(f"report   {outcome.page}"))
    stdout.print(escape(f"written  {folder}"))


def _row(summary: Any) -> dict[str, Any]:
    final, cost = summary.final["wMAP"], summary.cost
    between = "–" if final.low is None else f"{final.low:.4f} … {final.high:.4f}"
    figures = {"strategy": summary.title, "seeds": summary.seeds, "wMAP": f"{final.mean:.4f}", "95 %": between}
    return figures | {key: f"{cost[key].mean:,.0f}" for key in ("images", "boxes", "minutes") if key in cost}
