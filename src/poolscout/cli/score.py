"""`poolscout score`: one pass of an ensemble over images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, RedoOption, SetOption, resumable, show


def score(
    source: Annotated[Path, typer.Argument(help="COCO json, Parquet manifest or folder of images.")],
    models: Annotated[Path, typer.Option(help="Folder with member-*.safetensors.")],
    out: Annotated[Path, typer.Option(help="Folder for scores, embeddings and detections.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images; default: found beside.")] = None,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    redo_stale: RedoOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score images with an ensemble; finished parts are kept when it is started again.

    Example: `poolscout score data/frames --models models --out scored --set scoring.batch_size=32`
    """
    from poolscout.single import score_source

    with resumable():
        result = score_source(
            source, models, out, images=images, overrides=overrides, progress=ConsoleProgress(), redo_stale=redo_stale
        )
    show(result, as_json)
