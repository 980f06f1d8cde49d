"""`poolscout report`: a run's page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import JsonOption, show


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's report again: one HTML file that opens offline.

    Example: `poolscout report runs/first`
    """
    from poolscout.report import write_report

    show({"report": write_report(run)}, as_json)
