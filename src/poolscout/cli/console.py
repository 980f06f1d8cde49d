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

from poolscout.engine.progress import Meter

LINE_EVERY_S = 60.0  # of long work where no bar can be drawn

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
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="threads, processes, ray or serial; short for engine.name.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="How many work at the same time; short for engine.workers.")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to join, e.g. auto or HOST:6379; short for engine.address.")
]


def engine_settings(engine: str | None, workers: int | None, address: str | None) -> list[str]:
    """The short options as overrides of the config."""
    named = {"name": engine, "workers": workers, "address": address}
    return [f"engine.{key}={json.dumps(value)}" for key, value in named.items() if value is not None]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C in work that can be continued says so."""
    try:
        yield
    except KeyboardInterrupt:
        stderr.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


class _Bar:
    def __init__(self, bars: Progress, task_id: Any, title: str, total: int) -> None:
        self.bars, self.task_id, self.title, self.meter = bars, task_id, title, Meter(total)
        self._told = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        self.meter.update(done, note)
        words = [rate_words(self.meter.rate), size_words(self.meter.resident_bytes), self.meter.note]
        told = "  ".join(filter(None, words))
        self.bars.update(self.task_id, completed=done, note=escape(told))
        now = time.monotonic()
        if self.bars.disable and now - self._told >= LINE_EVERY_S:  # a log file shows that it lives
            self._told = now
            of = f" of {self.meter.total:,}" if self.meter.total else ""
            stderr.print(f"[dim]· {escape(f'{self.title}: {done:,}{of}  {told}')}[/]", soft_wrap=True)


class ConsoleProgress:
    """Draws bars with rate, time left and memory on a terminal; elsewhere one line a minute and one a finished task.

    A total of 0 means that it is not known: then there is neither a share nor a time left.
    """

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[_Bar]:
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
            bar = _Bar(bars, bars.add_task(title, total=total or None, note=""), title, total)
            yield bar
        meter = bar.meter
        meter.look()
        words = [
            f"{meter.done:,} in {time_words(meter.seconds)}", rate_words(meter.rate),
            f"peak {size_words(meter.peak_bytes)}", meter.note,
        ]  # fmt: skip
        stderr.print(f"[green]✓[/] {escape(title)}  [dim]{escape('  '.join(filter(None, words)))}[/]", soft_wrap=True)

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


def time_words(seconds: float) -> str:
    """A duration for people: `9.5 s`, `12 min 5 s`, `3 h 7 min`, `2 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size_words(n_bytes: float) -> str:
    """A size for people: `812 MiB`, `1.2 GiB`."""
    size, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if size >= 99.5 or units[0] == "B" else f"{size:.2g} {units[0]}"


def rate_words(rate: float | None) -> str:
    """Units a second; empty when it is not known yet."""
    return "" if rate is None else f"{plain(float(rate))}/s"
