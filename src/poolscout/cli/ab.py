"""`poolscout ab`: which of several selections was worth its labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from poolscout.cli.console import (
    AddressOption,
    ConsoleProgress,
    EngineOption,
    JsonOption,
    RedoOption,
    SetOption,
    WorkersOption,
    engine_settings,
    resumable,
    show_table,
    stdout,
)
from poolscout.errors import ConfigError

if TYPE_CHECKING:
    from poolscout.experiments.ab_findings import AbFindings


def ab(
    config: Annotated[Path, typer.Argument(help="The YAML file of a run: its pool, labels, detector and training.")],
    arm: Annotated[list[str], typer.Option(metavar="NAME=FILE", help="A selection: image ids; at least twice.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="Image ids that all models learn from; default: labelling.initial random ones."),
    ] = None,
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    out: Annotated[Path | None, typer.Option(help="The test's folder; default experiments/NAME-arms.")] = None,
    redo_stale: RedoOption = False,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train beside the same reference set on 90 % of each arm, measure on the other 10 %, and again.

    Example: `poolscout ab run.yaml --arm manual=list.csv --arm al=selection.parquet --set experiment.seeds=10`
    """
    from poolscout.config_experiment import load_experiment
    from poolscout.experiments.ab import run_ab

    settings = load_experiment(config, [*engine_settings(engine, workers, address), *overrides])
    folder = out or Path("experiments") / f"{settings.name}-arms"
    with resumable():
        found = run_ab(
            settings, _arms(arm), folder, reference=reference, progress=ConsoleProgress(), redo_stale=redo_stale
        )
    tell_findings(found, folder, settings.experiment.ab.classes, as_json)


def tell_findings(found: AbFindings, folder: Path, wanted: Sequence[str], as_json: bool) -> None:
    """Cost, gains and what they say; `wanted`: classes that were asked for, none: all."""
    from poolscout.experiments.ab_sentences import tell_ab

    if as_json:
        typer.echo(json.dumps(json.loads((folder / "ab.json").read_text()), indent=1))
        return
    show_table([_cost(one) for one in found.arms])
    show_table([_gain(key, found.arms) for key in found.arms[0].gain["both"]])
    empty = "; –: that one found nothing" if any(None in one.gain["both"].values() for one in found.arms) else ""
    stdout.print(escape(f"gains over the reference model, {found.repeats} repeats, on all held-out parts{empty}"))
    for sentence in [*found.words, *tell_ab(found, "", wanted).power]:
        stdout.print(escape(sentence))
    stdout.print(escape(f"report   {folder / 'ab.html'}"))
    stdout.print(escape(f"written  {folder}"))


def _arms(options: list[str]) -> dict[str, Path]:
    arms: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if name in arms:
            raise ConfigError(
                f"--arm {option}: the name {name} is taken", got=f"{name}={arms[name]} and {option}",
                expected="a name of its own for every arm", fix=f"call one of them {name}2",
            )  # fmt: skip
        if not equals or not path or not name.isidentifier() or name in ("reference", "both"):
            raise ConfigError(
                f"--arm {option}: not a selection with a name", got=option,
                expected="NAME=FILE, the name of letters and digits; not reference or both",
                fix="write for example --arm manual=list.csv",
            )  # fmt: skip
        arms[name] = Path(path)
    return arms


def _cost(one: Any) -> dict[str, Any]:
    cost = one.cost
    row = {"arm": one.name, "images": cost["images"], "boxes": cost["boxes"], "sequences": cost["sequences"]}
    return row | ({"minutes": cost["minutes"]} if cost["minutes"] else {}) | cost["boxes_per_class"]


def _gain(key: str, arms: Any) -> dict[str, Any]:
    from poolscout.experiments.sentences import percent

    row = {"figure": key}
    for one in arms:
        gain = one.gain["both"].get(key)
        row[one.name] = "–" if gain is None else percent(gain)
    return row
