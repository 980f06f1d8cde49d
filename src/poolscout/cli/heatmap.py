"""`poolscout heatmap`: what an ensemble sees in one image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import JsonOption, show, stderr
from poolscout.errors import ConfigError


def heatmap(
    image: Annotated[str, typer.Argument(help="An image_id of the run's pool or test set, or an image file.")],
    run: Annotated[Path | None, typer.Option(help="A run's folder.")] = None,
    scorer: Annotated[
        list[str],
        typer.Option(help="A scorer that gives a map; may be repeated. Default: five that fit the ensemble."),
    ] = [],  # noqa: B006  (typer copies it)
    number: Annotated[int | None, typer.Option("--round", help="Of the run; default: the last with models.")] = None,
    out: Annotated[Path | None, typer.Option(help="The figure; default: heatmap-IMAGE.png here.")] = None,
    models: Annotated[Path | None, typer.Option(help="Without a run: folder with member-*.safetensors.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw each member's boxes and, class by class, where scorers see something to learn (PNG).

    Example: `poolscout heatmap Town03_013320.jpg --run runs/first --scorer entropy --scorer mutual_information`
    """
    from poolscout.assemble import load_members
    from poolscout.report.heatmap import find_target, write_heatmap
    from poolscout.report.seen import in_unit
    from poolscout.scoring.registry import scorers

    # Without its suffix, which a video's frame has not: drive.mp4#000120
    name = re.sub(r"(?<=.)\.[^.#]*$", "", Path(image).name)
    file = out or Path(f"heatmap-{name}.png")
    if file.suffix.lower() != ".png":
        raise ConfigError(
            f"--out {file}: not a PNG file", got=file.suffix or "no suffix", expected="a name ending in .png"
        )
    try:
        target = find_target(image, run=run, models=models, number=number)
        source = Path(target.reader.uris[target.image_id])  # of an object at a URL, the path of nothing
        if file.exists() and source.exists() and file.samefile(source):
            raise ConfigError(f"--out {file} is the image itself", expected="another file", fix="choose another --out")
        result = write_heatmap(target, load_members(target.models, "cpu"), scorer, file)
    except KeyboardInterrupt:
        stderr.print("stopped; nothing was written")
        raise typer.Exit(130) from None
    if as_json:
        show(result, as_json)
        return
    lines = {"written": result["written"], "seen by": f"{target.origin}, members: {result['members']}"}
    for name, highest in result["highest"].items():
        where = max(highest, key=lambda c: highest[c])
        lines[name] = f"at most {in_unit(highest[where], scorers.get(name).unit)} ({where})"
    show(lines, as_json)
