"""`poolscout train`: an ensemble from annotated images."""

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
    show,
)


def train(
    annotations: Annotated[Path, typer.Argument(help="Labelled images: COCO, YOLO or Pascal VOC.")],
    out: Annotated[Path, typer.Option(help="Folder for the members' weights.")],
    images: Annotated[str | None, typer.Option(help="Folder or URL of the images; default: found beside.")] = None,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    redo_stale: RedoOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an ensemble of detectors; finished members are kept when it is started again.

    Example: `poolscout train data/annotations.json --out models --set training.members=1 --set detector.height=288`
    """
    from poolscout.single import train_from_coco

    overrides = [*engine_settings(engine, workers, address), *overrides]
    with resumable():
        result = train_from_coco(
            annotations, out, images=images, overrides=overrides, progress=ConsoleProgress(), redo_stale=redo_stale
        )
    show(result, as_json)
