"""`poolscout score`: one pass of an ensemble over images, or the detections of any detector."""

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
from poolscout.errors import ConfigError


def score(
    source: Annotated[str, typer.Argument(help="What holds or lists the images: a path or a URL (docs/pools.md).")],
    out: Annotated[Path, typer.Option(help="Folder for scores, detections and, with --models, embeddings.")],
    models: Annotated[Path | None, typer.Option(help="Folder with member-*.safetensors.")] = None,
    detections: Annotated[
        list[Path] | None,
        typer.Option(help="Or: COCO results json or Parquet of your own detector; once for each member."),
    ] = None,
    images: Annotated[str | None, typer.Option(help="Folder or URL of the images; default: found beside.")] = None,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    redo_stale: RedoOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score images with an ensemble, or by detections you bring; finished parts are kept when it is started again.

    Example: `poolscout score data/frames --models models --out scored --set scoring.batch_size=32`

    Example: `poolscout score data/pool.json --detections found.json --out scored`
    """
    from poolscout.single_score import score_detections, score_source

    progress = ConsoleProgress()
    overrides = [*engine_settings(engine, workers, address), *overrides]
    with resumable():
        if models is not None and not detections:
            result = score_source(
                source, models, out, images=images, overrides=overrides, progress=progress, redo_stale=redo_stale
            )
        elif detections and models is None:
            result = score_detections(
                source, detections, out, images=images, overrides=overrides, progress=progress, redo_stale=redo_stale
            )
        else:
            raise ConfigError(
                "what is to be scored with?",
                got="both --models and --detections" if models else "neither --models nor --detections",
                expected="one of them",
                fix="--models FOLDER for detectors trained here, --detections FILE for boxes of your own detector",
            )
    show(result, as_json)
