"""The `poolscout` command: collects the commands and turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

from poolscout import __version__
from poolscout.cli import (
    ab,
    convert,
    demo,
    doctor,
    embed,
    evaluate,
    experiment,
    heatmap,
    labels,
    plan,
    quarantine,
    report,
    run,
    sandbox,
    score,
    select,
    shortlist,
    status,
    train,
)
from poolscout.cli.console import stderr
from poolscout.engine.memory import keep_freed_memory
from poolscout.errors import PoolscoutError

app = typer.Typer(
    name="poolscout",
    help="Finds the images worth labelling: active learning for object detection.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 2 config or usage, 3 waiting for labels, 4 input data, 5 a table on disk, "
    "6 the run folder, 7 non-finite numbers, 8 a missing capability, 9 storage, 10 lost workers, 130 interrupted.",
)

for command in (
    demo.demo,
    run.run,
    status.status,
    plan.plan,
    sandbox.sandbox,
    shortlist.shortlist,
    train.train,
    score.score,
    embed.embed,
    select.select,
    evaluate.evaluate,
):
    app.command()(command)
app.command()(experiment.experiment)
app.command()(ab.ab)
app.command()(convert.convert)
app.command()(quarantine.quarantine)
app.command()(report.report)
app.command()(heatmap.heatmap)
app.command()(doctor.doctor)
app.add_typer(labels.app, name="labels")


def _version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"poolscout {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Options that come before the command."""


def main() -> None:
    """Run the command line; every deliberate error ends in its message and its exit code, never in a traceback."""
    keep_freed_memory()
    try:
        app()
    except PoolscoutError as error:
        first, *rest = str(error).splitlines()
        stderr.print(f"[bold red]error:[/] {escape(first)}", soft_wrap=True)
        for line in rest:
            stderr.print(escape(line), soft_wrap=True)
        sys.exit(error.exit_code)
