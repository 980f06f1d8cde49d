"""What a run came to: a few lines for people, an object for machines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from poolscout.cli.console import show
from poolscout.loop import Outcome
from poolscout.tables.runfolder import RunFolder, read_json

ARMS = {"random": "random picks, as many images", "full": "all labels of the pool"}


def show_outcome(path: Path, outcome: Outcome, as_json: bool, **more: Any) -> None:
    """End a run: what was paid, what was gained, where the report is, what it waits for."""
    folder = RunFolder(path)
    rounds = [read_json(r / "metrics.json") for r in folder.rounds() if (r / "metrics.json").exists()]
    arms = {arm: [read_json(p) for p in sorted(folder.reference(arm).glob("round-*/metrics.json"))] for arm in ARMS}
    if as_json:
        facts = {
            "report": str(outcome.report),
            "waiting_for": None if outcome.waiting_for is None else str(outcome.waiting_for),
            "rounds": [_facts(metrics) for metrics in rounds],
            "references": {
                arm: [_facts(metrics) for metrics in measured] for arm, measured in arms.items() if measured
            },
        }
        show({**facts, **more}, as_json=True)
    else:
        show({**_lines(path, outcome, rounds, arms), **more}, as_json=False)


def _facts(metrics: dict[str, Any]) -> dict[str, Any]:
    mean = metrics.get("mean", {})
    return {
        "images": metrics["images"]["unique"],
        "boxes": metrics["boxes"],
        **{name: mean.get(name) for name in ("AP50", "AP", "wMAP")},
    }


def _lines(path: Path, outcome: Outcome, rounds: list[dict], arms: dict[str, list[dict]]) -> dict[str, Any]:
    lines: dict[str, Any] = {}
    if rounds:
        ends = rounds[:: max(len(rounds) - 1, 1)]  # the first and the last, or the only one
        lines["labelled"] = " → ".join(map(_cost, ends))
        if "mean" in ends[-1]:
            figures = [(name, [f"{one['mean'][name]:.3f}" for one in ends]) for name in ("AP50", "AP", "wMAP")]
            told = ", ".join(f"{name} {' → '.join(values)}" for name, values in figures)
            lines["gained" if len(ends) > 1 else "so far"] = told
    for arm, words in ARMS.items():
        if arms[arm] and "mean" in (reference := arms[arm][-1]):
            lines[words] = f"AP50 {reference['mean']['AP50']:.3f} for {_cost(reference)}"
    if outcome.waiting_for is not None:
        lines["waiting"] = f"label the images in {outcome.waiting_for}, then"
        lines["next"] = f"poolscout labels add FILE --run {shlex.quote(str(path))}, and this command again"
    lines["report"] = outcome.report
    return lines


def _cost(metrics: dict[str, Any]) -> str:
    return f"{metrics['images']['unique']:,} images with {metrics['boxes']:,} boxes"
