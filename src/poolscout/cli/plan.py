"""`poolscout plan`: what a run will take, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from poolscout.cli.console import (
    ConsoleProgress,
    JsonOption,
    SetOption,
    show,
    show_table,
    size_words,
    stdout,
    time_words,
)
from poolscout.errors import ConfigError

if TYPE_CHECKING:
    from poolscout.planning import Figure, Plan, StagePlan


def plan(
    config: Annotated[Path, typer.Argument(help="The run's YAML file.")],
    overrides: SetOption = [],  # noqa: B006  (typer copies it)
    out: Annotated[Path | None, typer.Option(help="The run's folder, if it has listed the pool already.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Images that are scored, and as many others read.")] = 300,
    workers: Annotated[str, typer.Option(help="Numbers of machines like this one.")] = "1,2,8",
    as_json: JsonOption = False,
) -> None:
    """Measure a sample of the pool here; forecast hours, memory, disk and network of every stage of the run.

    Example: `poolscout plan examples/carla_driving.yaml --workers 1,4 --set rounds=5`
    """
    numbers = _numbers(workers)
    from poolscout.config import load_config
    from poolscout.planning import make_plan

    settings = load_config(config, overrides)
    made = make_plan(settings, out=out, images=images, workers=numbers, progress=ConsoleProgress())
    if as_json:
        show(made.to_json(), as_json=True)
    else:
        draw(made)


def _numbers(workers: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in workers.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ConfigError("--workers: not numbers of machines", got=workers, expected="such as 1,2,8")
    return numbers


def draw(made: Plan) -> None:
    """Print a plan for people."""
    by_stage: dict[str, list[StagePlan]] = {}
    for stage in made.stages:
        by_stage.setdefault(stage.stage, []).append(stage)
    rows = [_row(name, stages, made.workers) for name, stages in by_stage.items()]
    total = {"stage": "all", "times": None, **{_heading(k): _duration(made.seconds(k)) for k in made.workers}}
    total |= _sizes(made.memory_bytes, made.disk_bytes, made.network_bytes)
    stdout.print(f"[bold]{made.images:,} images[/]\n")
    show_table([*rows, total])
    for note in made.notes:
        stdout.print(f"[dim]· {escape(note)}[/]")


def _row(name: str, stages: list[StagePlan], workers: tuple[int, ...]) -> dict[str, Any]:
    row: dict[str, Any] = {"stage": name, "times": len(stages)}
    for k in workers:
        figures = [stage.seconds[k] for stage in stages]
        row[_heading(k)] = (
            _duration(_sum([figure for figure in figures if figure is not None])) if all(figures) else None
        )
    memory = max(stage.memory_bytes for stage in stages)
    disk, network = _sum([stage.disk_bytes for stage in stages]), _sum([stage.network_bytes for stage in stages])
    return row | _sizes(memory, disk, network)


def _sum(figures: list[Figure]) -> Figure:
    total, *rest = figures
    for figure in rest:
        total = total + figure
    return total


def _sizes(memory_bytes: float, disk: Figure, network: Figure) -> dict[str, Any]:
    return {
        "memory": size_words(memory_bytes), "disk": _range(disk, size_words),
        "network": size_words(network.value),
    }  # fmt: skip


def _duration(seconds: Figure) -> str:
    return _range(seconds, time_words)


def _range(figure: Figure, words: Any) -> str:
    low, high = words(figure.low), words(figure.high)
    return low if low == high else f"{low} – {high}"


def _heading(workers: int) -> str:
    return "this machine" if workers == 1 else f"{workers} workers"
