"""`poolscout shortlist`: the images of a pool for which a condition in SQL is true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, SetOption, show
from poolscout.errors import ConfigError


def shortlist(
    source: Annotated[str, typer.Argument(help="A run, a pool table (file or folder of parts), or any source of one.")],
    where: Annotated[
        str, typer.Option(help="SQL over the pool's columns: \"time_of_day = 'night' AND speed_kmh > 5\".")
    ],
    table: Annotated[
        list[str],
        typer.Option(metavar="NAME=PATH", help="Parquet, folder of parts or CSV to join by image_id."),
    ] = [],  # noqa: B006  (typer copies it)
    out: Annotated[Path | None, typer.Option(help="A .parquet or .csv for the kept rows; default: only told.")] = None,
    images: Annotated[str | None, typer.Option(help="Folder of the images; default: found beside.")] = None,
    overrides: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Keep the images for which a condition is true.

    Example: `poolscout shortlist runs/x --where "time_of_day = 'night' AND speed_kmh > 5" --out night.parquet`

    Example: `poolscout shortlist pool.parquet --where "scores.mi_max > 0.5" --table scores=runs/x/round-000/scores`
    """
    from poolscout.single_shortlist import shortlist_source

    result = shortlist_source(
        source, where, _tables(table), out, images=images, overrides=overrides, progress=ConsoleProgress()
    )
    show(result, as_json)


def _tables(options: list[str]) -> dict[str, Path]:
    """`NAME=PATH` options as name → path."""
    tables: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not path or name in tables:
            raise ConfigError(
                f"--table {option}: not a table with its own name", got=option,
                expected="NAME=PATH, each name once, e.g. scores=runs/x/round-000/scores",
            )  # fmt: skip
        tables[name] = Path(path)
    return tables
