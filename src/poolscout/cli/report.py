"""`poolscout report`: a run's page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from poolscout.cli.console import JsonOption, show


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of an experiment.")],
    as_json: JsonOption = False,
) -> None:
    """Write the page of a run or an experiment again: one HTML file that opens offline.

    Example: `poolscout report runs/first`
    """
    from poolscout.report import write_report

    if (run / "experiment.json").exists():
        from poolscout.experiments.runner import conclude_again

        show({"report": conclude_again(run).page}, as_json)
    elif (run / "ab.json").exists():
        from poolscout.experiments.ab_page import write_ab_page_again

        show({"report": write_ab_page_again(run)}, as_json)
    else:
        show({"report": write_report(run)}, as_json)
