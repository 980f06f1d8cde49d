"""What `poolscout plan` forecasts, divided by what the run then takes, stage by stage, on sandbox frames.

    python benchmarks/plan_against_run.py [--clips 10] [--images 100]

A factor of 3 either way is asked of scoring. The run's own log says what it took; stages without a bar in it (listing,
selection) are left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from poolscout.config import RunConfig, build_config
from poolscout.engine.memory import keep_freed_memory
from poolscout.loop import run
from poolscout.planning import make_plan
from poolscout.sandbox import write_sandbox
from poolscout.status import RunWatch

WITHIN = 3.0


def sandbox_config(folder: Path) -> RunConfig:
    return build_config({
        "name": "planned", "rounds": 1, "pool": {"source": str(folder / "annotations_pool.json")},
        "evaluation": {"annotations": str(folder / "annotations_test.json")},
        "labelling": {"initial": 40}, "selection": {"n": 40},
        "training": {"members": 2, "min_steps": 60, "max_steps": 60},
        "references": {"random": False, "full": False},
    })  # fmt: skip


def measured_seconds(out: Path) -> dict[str, float]:
    """Seconds of each stage of a finished run, by the stage's name in a plan."""
    names = {"training": "train", "evaluating": "evaluate", "scoring": "score"}
    found: dict[str, float] = {}
    for task in RunWatch(out).look().tasks:
        for words, name in names.items():
            if f": {words}" in task.title:
                found[name] = found.get(name, 0.0) + task.seconds
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sandbox"
        write_sandbox(folder, clips=options.clips, frames_per_clip=60, test_clips=2, seed=0)
        config = sandbox_config(folder)
        plan = make_plan(config, images=options.images, workers=(1,))
        run(config, Path(scratch) / "run")
        taken = measured_seconds(Path(scratch) / "run")
    forecasts: dict[str, float] = {}
    for stage in plan.stages:
        forecasts[stage.stage] = forecasts.get(stage.stage, 0.0) + stage.seconds[1].value
    ratios = {name: forecasts[name] / seconds for name, seconds in taken.items()}
    print(f"{plan.images:,} images, sample of {options.images}")
    for name, ratio in ratios.items():
        print(f"{name:<10} forecast {forecasts[name]:8.1f} s   run {taken[name]:8.1f} s   forecast / run {ratio:5.2f}")
    return 0 if 1 / WITHIN <= ratios["score"] <= WITHIN else 1


if __name__ == "__main__":
    sys.exit(main())
