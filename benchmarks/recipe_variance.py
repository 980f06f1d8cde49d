"""How far a training recipe's figures spread, before strategies are compared with it.

Trains ensembles on random frames of the pool of `carla_driving`, a quarter and more of whose blocks are held out to
measure on (the test frames are not looked at). Told are mean and spread between seeds, which differ in labels and
initial weights, and between the members of a seed, which differ in weights alone. Every seed is kept in --out.

    python benchmarks/recipe_variance.py [--data data/carla_driving] [--out runs/recipes] [--seeds 4] [KEY=VALUE ...]

KEY=VALUE are settings of a run, e.g. training.max_steps=1200; without any a short recipe beside a longer one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from poolscout.config import build_as
from poolscout.config_experiment import ExperimentRunConfig
from poolscout.experiments.cells import START, open_cells, play_start, seed_path
from poolscout.tables.runfolder import read_json

LABELLED = 225
SHORT = ("training.min_steps=100", "training.max_steps=100")
LONGER = ("training.min_steps=400", "training.max_steps=400")
METRICS = ("wMAP", "wMAP_by_count", "AP50")


def config_of(data: Path, settings: Sequence[str]) -> ExperimentRunConfig:
    """A small member, and these settings."""
    values = {
        "name": "recipe",
        "pool": {"source": str(data / "annotations_pool.json"), "sequence": "block", "frame": "frame"},
        "labelling": {"initial": LABELLED},
        "detector": {"stem": 8, "widths": [16, 32, 64, 96], "neck": 24},
        "training": {"members": 2, "crop_height": 128, "crop_width": 192},
        "evaluation": {"least_boxes": 10},
        "experiment": {"validation": 0.3},
    }
    return build_as(ExperimentRunConfig, values, settings)


def train(config: ExperimentRunConfig, out: Path, seed: int) -> Mapping[str, Any]:
    """A seed's figures."""
    play_start(open_cells(config, {}, out, alone=False), seed)
    figures: Mapping[str, Any] = read_json(seed_path(out, seed) / START / "round-000" / "metrics.json")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/carla_driving"))
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args()
    print("| recipe | " + " | ".join(f"{m} | between seeds | between members" for m in METRICS) + " |")
    print("|---" * (1 + 3 * len(METRICS)) + "|")
    for settings in [asked.settings] if asked.settings else (SHORT, LONGER):
        out = asked.out / re.sub(r"[^\w.=-]", "_", " ".join(settings))
        job = partial(train, config_of(asked.data, settings), out)
        with ProcessPoolExecutor(asked.workers, get_context("spawn")) as workers:
            found = list(workers.map(job, range(asked.seeds)))
        cells = []
        for metric in METRICS:
            means = [one["mean"][metric] for one in found]
            within = fmean(stdev(member[metric] for member in one["members"]) ** 2 for one in found) ** 0.5
            cells += [f"{fmean(means):.3f}", f"{stdev(means):.3f}", f"{within:.3f}"]
        print(f"| {', '.join(settings)} | {' | '.join(cells)} |", flush=True)
        (out / "settings.json").write_text(json.dumps(list(settings)))


if __name__ == "__main__":
    main()
