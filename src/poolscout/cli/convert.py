"""`poolscout convert`: annotations of one format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, show


def convert(
    source: Annotated[Path, typer.Argument(help="COCO json, YOLO data.yaml or folder, or Pascal VOC folder.")],
    out: Annotated[Path, typer.Argument(help="New folder to write to.")],
    to: Annotated[Literal["coco", "yolo", "voc"], typer.Option(help="Format to write.")],
    images: Annotated[
        Literal["link", "copy", "none"],
        typer.Option(help="Link the images, copy them, or write the annotations alone."),
    ] = "link",
    images_from: Annotated[
        Path | None, typer.Option(help="Folder of the source's images; default: where its format has them.")
    ] = None,
    drop_bad_boxes: Annotated[
        bool, typer.Option("--drop-bad-boxes", help="Go on without unusable boxes, and list them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write annotations in another format; image names and their order stay, and what is left out is said.

    Example: `poolscout convert data/annotations.json data-yolo --to yolo`
    """
    from poolscout.formats.convert import convert as convert_annotations

    done = convert_annotations(
        source,
        out,
        to,
        placing=images,
        images_root=images_from,
        bad_boxes="drop" if drop_bad_boxes else "error",
    )
    progress = ConsoleProgress()
    for note in done.notes:
        progress.say(note)
    result = {
        "images": done.n_images,
        "boxes": done.n_boxes,
        "classes": list(done.classes) if as_json else ", ".join(done.classes),
        "written to": done.path,
    }
    show(result | ({"notes": list(done.notes)} if as_json else {}), as_json)
