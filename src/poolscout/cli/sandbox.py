"""`poolscout sandbox`: the embedded data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, show


def sandbox(
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    clips: Annotated[int, typer.Option(help="Clips of the pool.")] = 20,
    test_clips: Annotated[int, typer.Option(help="Further clips for the test set.")] = 6,
    frames: Annotated[int, typer.Option(help="Frames a clip.")] = 40,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    width: Annotated[int, typer.Option(help="Frame width, px.")] = 320,
    height: Annotated[int, typer.Option(help="Frame height, px.")] = 192,
    field_of_view: Annotated[
        float, typer.Option(metavar="DEG", help="Horizontal, of the camera; less: a longer lens.")
    ] = 70.0,
    as_json: JsonOption = False,
) -> None:
    """Write procedural street clips with five classes, day to night, as COCO.

    Example: `poolscout sandbox data/sandbox --clips 40 --test-clips 10 --seed 1`
    """
    from poolscout.sandbox import write_sandbox

    with ConsoleProgress().task("drawing frames", (clips + test_clips) * frames) as task:
        summary = write_sandbox(
            out,
            clips=clips,
            frames_per_clip=frames,
            seed=seed,
            width=width,
            height=height,
            field_of_view_deg=field_of_view,
            test_clips=test_clips,
            progress=lambda done, _: task.update(done),
        )
    show(asdict(summary), as_json)
