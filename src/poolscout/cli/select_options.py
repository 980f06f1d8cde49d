"""The options of `poolscout select`, and how they become the config's room of selection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from poolscout.errors import ConfigError

Scores = Annotated[Path, typer.Option(help="Score table: a file or a folder of parts.")]
N = Annotated[int, typer.Option("--n", help="Images to pick.")]
Out = Annotated[
    Path | None,
    typer.Option(help="A .parquet or .csv; default: selection.parquet. With --compare a folder, or nothing."),
]
SamplerName = Annotated[str, typer.Option(help="top-n, random, random-per-sequence, coreset, kmeans++ …")]
Compare = Annotated[
    str | None, typer.Option(metavar="SAMPLER,SAMPLER…", help="Pick with each and say how they differ.")
]
RankBy = Annotated[str | None, typer.Option(help="Score column; default: the table's first.")]
Pool = Annotated[Path | None, typer.Option(help="Pool table with sequences and frames.")]
EmbeddingsPath = Annotated[
    Path | None, typer.Option(help="Parquet, a folder of parts, or .npy (rows as in NAME.ids.txt or --pool).")
]
Detections = Annotated[Path | None, typer.Option(help="Detection table, for predicted boxes.")]
Labelled = Annotated[Path | None, typer.Option(help="List of labelled images: kept away from, and not picked.")]
Repeats = Annotated[bool, typer.Option("--repeats", help="Labelled images may be picked again, at no cost.")]
Keys = Annotated[
    Path | None,
    typer.Option(help="Folder of distances that this selection leaves for the next, when the pool has grown."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda: the picks are the same.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of samplers that draw.")]

Metric = Annotated[Literal["euclidean", "cosine"], typer.Option(help="Distance between embeddings.")]
ScorePower = Annotated[
    float, typer.Option(min=0, help="Samplers that weigh distances use score^power; 0: distances alone.")
]
OverClasses = Annotated[
    Literal["max", "mean", "weighted"] | None,
    typer.Option(help="An image's score from those of its classes; default: max."),
]
ClassWeight = Annotated[
    list[str], typer.Option(metavar="CLASS=WEIGHT", help="Weigh a class; others weigh 1. Implies weighted.")
]
NormaliseClasses = Annotated[
    bool, typer.Option("--normalise-classes", help="Rank within each class first: none takes the whole batch.")
]
Classes = Annotated[
    str | None, typer.Option(metavar="CLASS,CLASS…", help="Round-robin: in turn for each, by its own score.")
]
Quota = Annotated[
    str | None,
    typer.Option(metavar="CLASS=PART,…", help="Of --classes: shares that add up to 1, or numbers of images."),
]
BudgetBoxes = Annotated[int | None, typer.Option(min=1, help="Most predicted boxes in the batch.")]
BudgetMinutes = Annotated[float | None, typer.Option(help="Most labelling time of the batch, min.")]
SecondsPerImage = Annotated[float, typer.Option(min=0, help="Labelling time of an image, s.")]
SecondsPerBox = Annotated[float, typer.Option(min=0, help="Labelling time of a box, s.")]
MinProbability = Annotated[float, typer.Option(min=0, max=1, help="A predicted box counts from here on.")]
CapPerSequence = Annotated[int | None, typer.Option(min=1, help="Most images of one sequence.")]
MinGap = Annotated[int | None, typer.Option(min=1, help="Least gap between picks of one sequence, frames.")]
GapToLabelled = Annotated[bool, typer.Option("--gap-to-labelled", help="--min-gap also to labelled images.")]
MinDistance = Annotated[
    float | None, typer.Option(help="Least distance to earlier picks and labelled images (euclidean: squared).")
]
Prefilter = Annotated[float | None, typer.Option(min=1, help="Look at the best PREFILTER times n by score only.")]
Exclude = Annotated[Path | None, typer.Option(help="List of images never to pick: text, CSV or Parquet.")]
Include = Annotated[Path | None, typer.Option(help="List of images to pick first, in its order.")]


def selection_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """The room `selection` as plain values, from the options by name.

    Raises:
        ConfigError: options that contradict each other, or a part of a list that is no CLASS=NUMBER.
    """
    weights, over = given["class_weight"], given["over_classes"]
    if weights and over not in (None, "weighted"):
        raise ConfigError(
            f"--class-weight does not go with --over-classes {over}", got=", ".join(weights),
            expected="--over-classes weighted", fix="leave one of them out",
        )  # fmt: skip
    constraints = {
        name: given[name]
        for name in (
            "budget_boxes", "budget_minutes", "cap_per_sequence", "min_gap", "gap_to_labelled", "min_distance",
            "prefilter",
        )
    } | {name: given[name] for name in ("exclude", "include") if given[name] is not None}  # fmt: skip
    if given["classes"] is not None:
        constraints["classes"] = split(given["classes"])
    if given["quota"] is not None:
        constraints["class_quota"] = by_class(split(given["quota"]), "--quota", "part", "person=0.7,bicycle=0.3")
    return {
        "n": given["n"],
        "sampler": given["sampler"],
        "metric": given["metric"],
        "score_power": given["score_power"],
        "over_classes": over or ("weighted" if weights else "max"),
        "class_weights": by_class(weights, "--class-weight", "weight", "bicycle=2")
        if weights or over == "weighted"
        else None,
        "normalise_classes": given["normalise_classes"],
        "constraints": constraints,
        "price": {name: given[name] for name in ("seconds_per_image", "seconds_per_box", "min_probability")},
    }


def split(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def by_class(given: list[str], option: str, what: str, example: str) -> dict[str, float]:
    """A number for each of some classes, written CLASS=NUMBER; `what` the numbers are is said in errors.

    Raises:
        ConfigError: no such pair, or a class twice.
    """
    numbers: dict[str, float] = {}
    for one in given:
        name, _, text = one.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not name or not 0 <= number <= 1e6:
            raise ConfigError(
                f"{option} {one}: not a {what}", got=one,
                expected=f"CLASS={what.upper()}, 0 to 1,000,000, e.g. {example}",
            )  # fmt: skip
        if name in numbers:
            raise ConfigError(f"{option}: two {what}s for {name!r}", got=given, fix="leave one of them out")
        numbers[name] = number
    return numbers
