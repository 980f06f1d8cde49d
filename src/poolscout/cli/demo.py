"""`poolscout demo`: the whole loop on the embedded data set."""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, SetOption, resumable

CLIPS, TEST_CLIPS, FRAMES = 44, 14, 20


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the data set and the run.")] = Path("demo-run"),
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    as_json: JsonOption = False,
) -> None:
    """Draw a data set of street clips and run the whole loop on it, in minutes.

    Example: `poolscout demo --out /tmp/demo --set rounds=2`
    """
    import yaml

    from poolscout.cli.summary import show_outcome
    from poolscout.config import build_config
    from poolscout.loop import run as run_loop
    from poolscout.sandbox import write_sandbox

    started, progress = time.monotonic(), ConsoleProgress()
    settings = build_config(
        yaml.safe_load(files("poolscout.cli").joinpath("demo.yaml").read_text()), overrides, base=out
    )
    with resumable():
        with progress.task("drawing the data set", (CLIPS + TEST_CLIPS) * FRAMES) as task:
            write_sandbox(
                out / "sandbox",
                clips=CLIPS,
                frames_per_clip=FRAMES,
                test_clips=TEST_CLIPS,
                progress=lambda done, _: task.update(done),
            )
        outcome = run_loop(settings, out / "run", progress=progress)
    more = {"took": f"{time.monotonic() - started:.0f} s"}
    if not as_json:
        more["your images"] = "write a run.yaml (README.md, Use it on your data), then: poolscout run run.yaml"
    show_outcome(out / "run", outcome, as_json, **more)
