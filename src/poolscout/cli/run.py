"""`poolscout run`: the whole loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
)


def run(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/NAME.")] = None,
    redo_stale: RedoOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train, score, select, label, and again; the same command continues a run that was stopped.

    Exits with 3 when the run waits for labels (`labelling.mode: files`).

    Example: `poolscout run examples/carla_driving.yaml --set rounds=2 --out runs/first`
    """
    from poolscout.cli.summary import show_outcome
    from poolscout.config import load_config
    from poolscout.loop import run as run_loop

    settings = load_config(config, [*engine_settings(engine, workers, address), *overrides])
    folder = out or Path("runs") / settings.name
    with resumable():
        outcome = run_loop(settings, folder, progress=ConsoleProgress(), redo_stale=redo_stale)
    show_outcome(folder, outcome, as_json)
    if outcome.waiting_for is not None:
        raise typer.Exit(3)
