"""`poolscout labels add`: bring labels back into a run that waits for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import JsonOption, show
from poolscout.errors import ConfigError, some

app = typer.Typer(help="Labels of a run.", no_args_is_help=True)


@app.callback()
def labels() -> None:
    """Labels of a run."""


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="What came back from labelling: COCO, YOLO or Pascal VOC.")],
    run: Annotated[Path | None, typer.Option(help="The run's folder; default: the only one below runs/.")] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Accept a delivery in which no image has a box.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check what labelling brought back and merge it: part of it, several deliveries, corrected ones later.

    Every image listed there counts as labelled, also one without boxes.

    Example: `poolscout labels add batch-1.json --run runs/first`
    """
    from poolscout.labelling import add_labels

    show(add_labels(run or _only_run(), file, allow_empty=allow_empty), as_json)


def _only_run() -> Path:
    found = sorted(path.parent for path in Path("runs").glob("*/run.yaml"))
    if len(found) != 1:
        raise ConfigError(
            "--run: which run are these labels for?",
            got=some(found) if found else "no run below runs/",
            expected="one run's folder",
            fix="add --run DIR",
        )
    return found[0]
