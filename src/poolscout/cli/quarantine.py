"""`poolscout quarantine`: the images that a run could not use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from poolscout.cli.console import JsonOption, RedoOption, SetOption, show, show_table
from poolscout.errors import ConfigError, some


def quarantine(
    run: Annotated[Path, typer.Argument(help="The run's folder, or the --out of score or embed.")],
    retry: Annotated[
        bool, typer.Option("--retry", help="Read them again; the same command as before uses those that are well now.")
    ] = False,
    redo_stale: RedoOption = False,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    as_json: JsonOption = False,
) -> None:
    """List the images that a run could not use, with the reasons; `--retry` gives them another chance.

    With `--retry`, what other finished stages follow from is left as it is, and named, unless `--redo-stale` is given;
    `--set` says how to read, for what `score` and `embed` wrote: the settings of the pool that they were given.

    Example: `poolscout quarantine runs/carla --retry`
    """
    from poolscout.single_quarantine import list_quarantine, retry_quarantine

    if overrides and not retry:
        raise ConfigError("--set is for reading again", got="--set without --retry", expected="both or neither")
    result = (
        retry_quarantine(run, overrides=overrides, redo_stale=redo_stale) if retry else list_quarantine(run)
    )  # fmt: skip
    if as_json:
        show(result, as_json=True)
        return
    if images := result["images"]:
        show_table([{**image, "where": some(image["where"], 3)} for image in images])
    show(_summary(result), as_json=False)


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    lines: dict[str, Any] = {"in quarantine": result["in quarantine"]}
    for key in ("by reason", "by stage"):
        if counts := result[key]:
            lines[key] = ", ".join(f"{times:,} {kind}" for kind, times in counts.items())
    if "readable" in result:
        lines["well now"] = len(result["readable"])
        if again := result["done again"]:
            lines["next run"] = f"does again: {some(again)}"
        for stage, stale in result["left"].items():
            lines[f"left: {stage}"] = (
                f"with --redo-stale it is done again, and so are {some(stale, 6)}; else it stays, "
                "and only later rounds read the image"
            )
    return lines
