"""`poolscout select`: pick a batch from score tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from poolscout.cli.console import ConsoleProgress, JsonOption, show
from poolscout.errors import ConfigError


def select(
    scores: Annotated[Path, typer.Option(help="Score table: a file or a folder of parts.")],
    n: Annotated[int, typer.Option("--n", help="Images to pick.")],
    out: Annotated[Path, typer.Option(help="selection.parquet, or a .csv.")] = Path("selection.parquet"),
    sampler: Annotated[str, typer.Option(help="top-n, random or random-per-sequence.")] = "top-n",
    rank_by: Annotated[str | None, typer.Option(help="Score column; default: the table's first.")] = None,
    pool: Annotated[Path | None, typer.Option(help="Pool table with sequences.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Embedding table: a file or a folder.")] = None,
    metric: Annotated[Literal["euclidean", "cosine"], typer.Option(help="Distance between embeddings.")] = "euclidean",
    over_classes: Annotated[
        Literal["max", "mean", "weighted"] | None,
        typer.Option(help="An image's score from those of its classes; default: max."),
    ] = None,
    class_weight: Annotated[
        list[str], typer.Option(metavar="CLASS=WEIGHT", help="Weigh a class; others weigh 1. Implies weighted.")
    ] = [],  # noqa: B006  (typer copies it)
    normalise_classes: Annotated[
        bool, typer.Option("--normalise-classes", help="Rank within each class first: none takes the whole batch.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of samplers that draw.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Pick a batch of images from tables that a scoring pass wrote.

    Example: `poolscout select --scores runs/first/round-000/scores --n 100 --out picks.csv`
    """
    from poolscout.single import select_from_tables

    if class_weight and over_classes not in (None, "weighted"):
        raise ConfigError(
            f"--class-weight does not go with --over-classes {over_classes}", got=", ".join(class_weight),
            expected="--over-classes weighted", fix="leave one of them out",
        )  # fmt: skip
    picks = select_from_tables(
        scores,
        n,
        out,
        sampler=sampler,
        rank_by=rank_by,
        pool=pool,
        embeddings=embeddings,
        settings={
            "metric": metric,
            "over_classes": over_classes or ("weighted" if class_weight else "max"),
            "class_weights": _weights(class_weight) if class_weight or over_classes == "weighted" else None,
            "normalise_classes": normalise_classes,
        },
        seed=seed,
    )
    if picks.num_rows < n:
        ConsoleProgress().say(f"{n} were asked for, {picks.num_rows} are there")
    show({"picked": picks.num_rows, "sampler": sampler, "written": out}, as_json)


def _weights(given: list[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for one in given:
        name, _, text = one.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if not name or not 0 <= weight <= 1e6:
            raise ConfigError(
                f"--class-weight {one}: not a weight", got=one, expected="CLASS=WEIGHT, 0 to 1,000,000, e.g. bicycle=2"
            )
        if name in weights:
            raise ConfigError(f"--class-weight: two weights for {name!r}", got=given, fix="leave one of them out")
        weights[name] = weight
    return weights
