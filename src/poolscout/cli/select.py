"""`poolscout select`: pick a batch from score tables, or compare what several samplers would pick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poolscout.cli import select_options as option
from poolscout.cli.console import (
    AddressOption,
    ConsoleProgress,
    EngineOption,
    JsonOption,
    WorkersOption,
    plain,
    show,
    show_table,
)
from poolscout.errors import ConfigError


def select(
    scores: option.Scores,
    n: option.N,
    out: option.Out = None,
    sampler: option.SamplerName = "top-n",
    compare: option.Compare = None,
    rank_by: option.RankBy = None,
    pool: option.Pool = None,
    embeddings: option.EmbeddingsPath = None,
    detections: option.Detections = None,
    labelled: option.Labelled = None,
    repeats: option.Repeats = False,
    metric: option.Metric = "euclidean",
    score_power: option.ScorePower = 1.0,
    over_classes: option.OverClasses = None,
    class_weight: option.ClassWeight = [],  # noqa: B006  (typer copies it)
    normalise_classes: option.NormaliseClasses = False,
    classes: option.Classes = None,
    quota: option.Quota = None,
    budget_boxes: option.BudgetBoxes = None,
    budget_minutes: option.BudgetMinutes = None,
    seconds_per_image: option.SecondsPerImage = 0.0,
    seconds_per_box: option.SecondsPerBox = 0.0,
    min_probability: option.MinProbability = 0.5,
    cap_per_sequence: option.CapPerSequence = None,
    min_gap: option.MinGap = None,
    gap_to_labelled: option.GapToLabelled = False,
    min_distance: option.MinDistance = None,
    prefilter: option.Prefilter = None,
    exclude: option.Exclude = None,
    include: option.Include = None,
    keys: option.Keys = None,
    device: option.Device = "auto",
    seed: option.Seed = 0,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pick a batch of images from tables that a scoring pass wrote.

    Example: `poolscout select --scores round-000/scores --n 100 --out picks.csv`

    Example: `poolscout select --scores s/scores --embeddings s/embeddings --n 500 --compare top-n,coreset,kmeans++`
    """
    values = option.selection_values(locals())
    if n < 1:
        raise ConfigError("--n: nothing to pick", got=n, expected="at least 1")
    from poolscout.config import build_engine, build_selection
    from poolscout.engine import open_executor
    from poolscout.single_select import Sources, compare_samplers, select_from_tables

    config = build_selection(values, "poolscout select")
    settings = build_engine({"name": engine, "workers": workers, "address": address}, "poolscout select")
    with open_executor(settings) as executor:
        sources = Sources(scores, rank_by, pool, embeddings, detections, labelled, repeats, keys, device, executor)
        if compare is not None:
            _show_comparison(compare_samplers(option.split(compare), sources, config, out, seed), as_json)
            return
        result = select_from_tables(sources, config, out or Path("selection.parquet"), seed)
    _say(result, as_json)
    show(result if as_json else {name: plain(value) for name, value in result.items()}, as_json)


def _show_comparison(result: dict[str, Any], as_json: bool) -> None:
    _say(result, as_json)
    if as_json:
        show(result, as_json)
        return
    show_table(result["samplers"])
    overlap = result["overlap"]
    in_order = [{"shared with": one, **{other: overlap[one].get(other) for other in overlap}} for one in overlap]
    show_table(in_order, fractions="{:.0%}")
    if "written" in result:
        show({"written": result["written"]}, as_json)


def _say(result: dict[str, Any], as_json: bool) -> None:
    """Notes go to people line by line; machines find them in the result."""
    if not as_json:
        for note in result.pop("notes"):
            ConsoleProgress().say(note)
