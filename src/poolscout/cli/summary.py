"""What a run came to, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poolscout.loop import Outcome
from poolscout.tables.runfolder import RunFolder, read_json


def summarise(path: Path, outcome: Outcome) -> dict[str, Any]:
    """The lines that `poolscout run` ends with: what was paid, what was gained, where the report is."""
    folder = RunFolder(path)
    measured = [read_json(r / "metrics.json") for r in folder.rounds() if (r / "metrics.json").exists()]
    lines: dict[str, Any] = {}
    if measured:
        first, last = measured[0], measured[-1]
        lines["labelled"] = f"{_cost(first)} → {_cost(last)}"
        if "mean" in last:
            lines["gained"] = ", ".join(
                f"{name} {first['mean'][name]:.3f} → {last['mean'][name]:.3f}" for name in ("AP50", "AP", "wMAP")
            )
        for arm, words in (("random", "random picks, as many images"), ("full", "all labels of the pool")):
            rounds = sorted(folder.reference(arm).glob("round-*/metrics.json"))
            if rounds and "mean" in (reference := read_json(rounds[-1])):
                lines[words] = f"AP50 {reference['mean']['AP50']:.3f} for {_cost(reference)}"
    if outcome.waiting_for is not None:
        lines["waiting"] = f"label the images in {outcome.waiting_for}, then:"
        lines[""] = f"poolscout labels add FILE --run {path}, and the same run command again"
    lines["report"] = outcome.report
    return lines


def _cost(metrics: dict[str, Any]) -> str:
    return f"{metrics['images']['unique']:,} images with {metrics['boxes']:,} boxes"
