"""What the commands share: progress bars, how results and errors are printed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Progress and errors go to standard error, results to standard output: `--json` can be piped.
stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a config key, e.g. training.members=3."),
]


class _Bar:
    def __init__(self, bars: Progress, task_id: Any, total: int) -> None:
        self.bars, self.task_id, self.total = bars, task_id, total
        self.started, self.done, self.note = time.monotonic(), 0, ""

    def update(self, done: int, note: str = "") -> None:
        self.done, self.note = done, note or self.note
        self.bars.update(self.task_id, completed=done, note=f"{self.rate:,.0f}/s  {self.note}")

    @property
    def rate(self) -> float:
        return self.done / max(time.monotonic() - self.started, 1e-9)


class ConsoleProgress:
    """Draws bars with rate and time left on a terminal; writes one line a task elsewhere."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[_Bar]:
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
            bar = _Bar(bars, bars.add_task(title, total=total, note=""), total)
            yield bar
        seconds = time.monotonic() - bar.started
        stderr.print(f"[green]✓[/] {title}  [dim]{bar.done:,} in {seconds:.1f} s  {bar.note}[/]")

    def say(self, text: str) -> None:
        stderr.print(f"[dim]· {text}[/]", soft_wrap=True)


def show(result: dict[str, Any], as_json: bool, title: str = "") -> None:
    """Print a flat result for people, or as JSON for machines."""
    if as_json:
        typer.echo(json.dumps(result, indent=1, default=str))
        return
    table = Table(title=title or None, title_justify="left", show_header=False, box=None, pad_edge=False)
    for key, value in result.items():
        table.add_row(f"[dim]{key}[/]", f"{value:.4f}" if isinstance(value, float) else str(value))
    stdout.print(table)
