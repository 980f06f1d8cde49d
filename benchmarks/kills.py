"""SIGKILL at random moments over runs with small shards: what is lost, what is done twice, what it costs.

Each run is killed and started again in its folder until it ends by itself; runs are made until there were enough kills.
All must end with the selections of an unbroken run, byte for byte, and with each image of a pass in its scores or its
quarantine exactly once. With `processes` and `ray` the main process alone is killed: its workers must see for
themselves. Exit code 1 when anything differs.

    python benchmarks/kills.py [--kills 200] [--engine threads processes ray] [--images 80] [--seed 0] [--address auto]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.loop.kills import facts, kill_until_done, lost_and_double, seconds_of
from tests.loop.tiny import tiny_config, write_data

from poolscout.config import RunConfig

ENGINES = ("threads", "processes", "ray")


def config_of(data: Path, engine: str, address: str | None) -> RunConfig:
    """Two rounds; a shard is one batch."""
    changes = {"scoring__shard_size": 4, "scoring__batch_size": 4, "report__images_per_round": 0}
    changes |= {"engine__address": address} if engine == "ray" else {}
    return tiny_config(data, evaluation__annotations=None, engine__name=engine, engine__workers=2, **changes)


def compare(folder: Path, engine: str, n_kills: int, n_images: int, seed: int, address: str | None) -> bool:
    """Report one engine; returns whether nothing was lost."""
    data = write_data(folder / "data", n_pool=n_images, n_test=0)
    broken = data / "images" / "pool-011.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    config, dice = config_of(data, engine, address), random.Random(seed)
    unbroken_s = min(seconds_of(config, folder / f"whole-{number}") for number in range(2))
    whole = facts(folder / "whole-0")
    kills, lost, double, differing, ratios = 0, 0, 0, 0, []
    while kills < n_kills:
        out, began = folder / f"run-{len(ratios)}", time.monotonic()
        kills_here = kill_until_done(config, out, unbroken_s / 3, dice)
        ratios.append((time.monotonic() - began) / unbroken_s)
        found = facts(out)
        lost, double = (a + b for a, b in zip((lost, double), lost_and_double(found, whole), strict=True))
        differing += found != whole
        kills += kills_here
        so_far = f"{kills} kills so far, lost {lost}, twice {double}, differing {differing}"
        print(f"  run {len(ratios)}: {kills_here} kills, {ratios[-1]:.1f} × an unbroken run; {so_far}", flush=True)
    per_kill = (sum(ratios) - len(ratios)) / kills
    print(
        f"{engine}: {kills} kills, {kills} restarts, {len(ratios)} runs of {unbroken_s:.1f} s unbroken; "
        f"images lost: {lost}, twice: {double}; runs that end differently: {differing}; a run with its kills takes "
        f"{statistics.median(ratios):.1f} × an unbroken one, a kill costs {per_kill:.0%} of one"
    )
    return not (lost or double or differing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--engine", choices=ENGINES, nargs="+", default=ENGINES)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--address", help="ray: of a running cluster; default: each run starts one")
    options = parser.parse_args()
    good = []
    for engine in options.engine:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            good.append(compare(Path(folder), engine, options.kills, options.images, options.seed, options.address))
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
