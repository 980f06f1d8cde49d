"""`poolscout evaluate`: AP and wMAP of an ensemble, or of anybody's detections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, SetOption, show


def evaluate(
    annotations: Annotated[Path, typer.Argument(help="Test images: COCO, YOLO or Pascal VOC.")],
    models: Annotated[Path | None, typer.Option(help="Folder with member-*.safetensors.")] = None,
    detections: Annotated[Path | None, typer.Option(help="Or: a COCO results json.")] = None,
    images: Annotated[str | None, typer.Option(help="Folder or URL of the images; default: found beside.")] = None,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    as_json: JsonOption = False,
) -> None:
    """Measure AP, AP50 and wMAP, per class.

    Example: `poolscout evaluate data/test.json --models runs/first/round-003/models`
    """
    from poolscout.single import evaluate_on_coco

    show(
        evaluate_on_coco(
            annotations,
            models=models,
            detections=detections,
            images=images,
            overrides=overrides,
            progress=ConsoleProgress(),
        ),
        as_json,
    )
