"""What the commands share: progress bars, how results and errors are printed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

# Progress and errors go to standard error, results to standard output: `--json` can be piped.
stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a config key, e.g. training.members=3."),
]
RedoOption = Annotated[
    bool, typer.Option("--redo-stale", help="Do stages again in place whose settings or inputs changed.")
]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C in work that can be continued says so."""
    try:
        yield
    except KeyboardInterrupt:
        stderr.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


class _Bar:
    def __init__(self, bars: Progress, task_id: Any, total: int) -> None:
        self.bars, self.task_id, self.total = bars, task_id, total
        self.started, self.done, self.note = time.monotonic(), 0, ""
        self.first: tuple[float, int] | None = None

    def update(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        self.done, self.note = done, note or self.note
        if self.first is None:  # what an earlier process had finished does not count as speed
            self.first = (now, done)
        seconds, units = now - self.first[0], done - self.first[1]
        rate = f"{units / seconds:,.1f}/s  " if seconds > 0 and units else ""
        self.bars.update(self.task_id, completed=done, note=escape(rate + self.note))


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
        done = f"{bar.done:,} in {seconds:.1f} s  {bar.note}".rstrip()
        stderr.print(f"[green]✓[/] {escape(title)}  [dim]{escape(done)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        stderr.print(f"[dim]· {escape(text)}[/]", soft_wrap=True)


def show(result: dict[str, Any], as_json: bool, title: str = "") -> None:
    """Print a flat result for people, or as JSON for machines."""
    if as_json:
        typer.echo(json.dumps(result, indent=1, default=str))
        return
    if title:
        stdout.print(f"[bold]{escape(title)}[/]")
    width = max(map(len, result), default=0)
    for key, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        stdout.print(f"[dim]{escape(key.ljust(width))}[/]  {escape(shown)}")  # unfolded: a path stays one word


def show_table(rows: Sequence[Mapping[str, Any]], fractions: str | None = None) -> None:
    """Rows with the same kind of cells below each other; a row may lack a cell.

    Args:
        rows: the first column's cells name the rows.
        fractions: format of numbers with a fraction, if not as `plain`.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns]
    for row in rows:
        cells = [row.get(name) for name in columns]
        lines.append([fractions.format(c) if fractions and isinstance(c, float) else plain(c) for c in cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, (name, *figures) in enumerate(lines):
        right = [cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)]
        text = escape("  ".join([name.ljust(widths[0]), *right]))
        stdout.print(f"[dim]{text}[/]" if number == 0 else text)
    stdout.print()


def plain(value: Any) -> str:
    """A value for people: thousands marked, four digits of a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"
