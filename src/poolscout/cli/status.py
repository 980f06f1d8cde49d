"""`poolscout status`: how a run is getting on, from another terminal."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from poolscout.cli.console import JsonOption, rate_words, show, show_table, size_words, stdout, time_words
from poolscout.errors import ConfigError

if TYPE_CHECKING:
    from poolscout.status import RunStatus, TaskState

LOOK_EVERY_S = 2.0
BAR = 24  # characters
COLOURS = {
    "running": "green", "finished": "green", "waiting for labels": "yellow", "failed": "red", "killed": "red",
    "interrupted": "yellow", "stopped": "yellow",
}  # fmt: skip
WORDS = {
    "interrupted": "the same command goes on from here",
    "killed": "its process ended without a word; the same command goes on from here",
    "stopped": "not finished, and nobody is at work; the same command goes on from here",
}


def status(
    run: Annotated[Path, typer.Argument(help="The run's folder, or the --out of train, score or embed.")],
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until the run ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show who works on a run, how far it is, what it has measured and what it waits for; nothing is written.

    Example: `poolscout status runs/first --watch`
    """
    from poolscout.status import RunWatch

    if watch and as_json:
        raise ConfigError("--watch draws for people", got="--watch and --json", expected="one of them")
    looking = RunWatch(run)
    while True:
        seen = looking.look()
        if as_json:
            show(seen.to_json(), as_json=True)
            return
        if watch:
            stdout.clear()
        draw(seen, datetime.now(UTC))
        if not watch or seen.state != "running":
            return
        try:
            time.sleep(LOOK_EVERY_S)
        except KeyboardInterrupt:
            return


def draw(seen: RunStatus, now: datetime) -> None:
    """Print a status for people."""
    stdout.print(f"[bold]{escape(seen.path)}[/]  [{COLOURS[seen.state]}]{seen.state}[/]{_who(seen, now)}")
    if seen.state in WORDS:
        stdout.print(f"[dim]{WORDS[seen.state]}[/]")
    if seen.error is not None:
        stdout.print(f"[red]{escape(seen.error['type'])}:[/] {escape(seen.error['message'])}")
    if seen.waiting_for is not None:
        stdout.print(f"label the images in {escape(seen.waiting_for)}, then `poolscout labels add FILE --run …`")
    stdout.print()
    for task in seen.tasks:
        if task.state == "running":
            _draw_bar(task, now)
    _draw_unbarred(seen, now)
    ended = [_row(task) for task in seen.tasks if task.state != "running"]
    if ended:
        show_table(ended)
    elif not seen.tasks and seen.stages:
        for stage in seen.stages:
            state = "done " if stage.finished else "begun"
            stdout.print(f"[dim]{stage.time[:19]}  {state}[/]  {escape(f'{stage.where}: {stage.stage}')}")
        stdout.print()
    if seen.rounds:
        show_table([_round(figures) for figures in seen.rounds], "{:.4f}")
    if any(seen.quarantine.values()):
        told = ", ".join(f"{count:,} of the {name}" for name, count in seen.quarantine.items() if count)
        stdout.print(f"[dim]in quarantine[/]  {told}")
    for note in seen.notes:
        stdout.print(f"[dim]· {escape(note)}[/]")


def _who(seen: RunStatus, now: datetime) -> str:
    writer = seen.writer
    if writer is None:
        return ""
    who = f"process {writer.pid} on {escape(writer.host)}"
    return f"  [dim]{who}, {f'for {_since(writer.since, now)}' if writer.held else 'which is gone'}[/]"


def _draw_bar(task: TaskState, now: datetime) -> None:
    words = [
        f"{task.done:,}/{task.total:,}" if task.total else f"{task.done:,}", rate_words(task.rate),
        "" if task.left_s is None else f"{time_words(task.left_s)} left",
        "" if task.resident_bytes is None else size_words(task.resident_bytes), task.note,
        f"heard {_since(task.time, now)} ago",
    ]  # fmt: skip
    stdout.print(f"{escape(task.title)}{_bar(task)}")
    stdout.print(f"  [dim]{escape('  '.join(filter(None, words)))}[/]\n")


def _bar(task: TaskState) -> str:
    """How much of a task is done; nothing where the whole is not known."""
    if not task.total:
        return ""
    share = min(task.done / task.total, 1.0)
    full = int(share * BAR)
    return f"  [green]{'━' * full}[/][dim]{'─' * (BAR - full)}[/]  {share:.0%}"


def _draw_unbarred(seen: RunStatus, now: datetime) -> None:
    """The stage that is at work, when it has no bar."""
    if seen.state == "running" and not any(task.state == "running" for task in seen.tasks):
        for stage in [stage for stage in seen.stages if not stage.finished][-1:]:
            stdout.print(f"{escape(f'{stage.where}: {stage.stage}')}  [dim]for {_since(stage.time, now)}[/]\n")


def _row(task: TaskState) -> dict[str, Any]:
    done = f"{task.done:,}" if task.state == "done" or not task.total else f"{task.done:,} of {task.total:,}"
    return {
        "stage": task.title, "done": done, "time": time_words(task.seconds), "rate": rate_words(task.rate) or None,
        "peak memory": None if task.peak_bytes is None else size_words(task.peak_bytes),
    }  # fmt: skip


def _round(figures: dict[str, Any]) -> dict[str, Any]:
    arm = f"{figures['reference']} reference, " if figures["reference"] else ""
    rest = {name: value for name, value in figures.items() if name not in ("reference", "round")}
    return {"": f"{arm}round {figures['round']}", **rest}


def _since(when: str, now: datetime) -> str:
    return time_words(max((now - datetime.fromisoformat(when)).total_seconds(), 0.0))
