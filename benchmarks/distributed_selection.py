"""Core-set and k-means++ over shard actors of a Ray cluster against one process: the same picks, what is exchanged.

`python benchmarks/distributed_selection.py` (2,000,000 × 160, N = 19,000, 4 actors on one machine; `--small`: a tenth).
A ratio above 1 says what spreading costs where it cannot gain: all actors share this machine's cores.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from poolscout.config import EngineConfig
from poolscout.engine import open_executor
from poolscout.selection.kernels.diverse import pick_diverse
from poolscout.selection.kernels.state import Rule
from poolscout.selection.registry import Candidates
from selection_data import clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--actors", type=int, default=4)
    arguments = parser.parse_args()
    n, k = (200_000, 1_900) if arguments.small else (2_000_000, 19_000)
    embeddings, scores = clips(n, 160)
    candidates = Candidates(n, scores, embeddings)
    rules = {
        "coreset": Rule(scores),
        "kmeans++": Rule.race(scores, np.random.default_rng(0).standard_exponential(n)),
    }
    with open_executor(EngineConfig(name="ray", workers=arguments.actors)) as executor:
        for name, rule in rules.items():
            start = time.perf_counter()
            alone = pick_diverse(candidates, rule, k)
            alone_s = time.perf_counter() - start
            spread_over = Candidates(n, scores, embeddings, executor=executor)
            start = time.perf_counter()
            spread = pick_diverse(spread_over, rule, k)
            spread_s = time.perf_counter() - start
            same = np.array_equal(alone.positions, spread.positions) and np.array_equal(
                alone.distances, spread.distances, equal_nan=True
            )
            work = spread.work
            sweeping_s = spread_s - work["prepare_s"]
            print(
                f"{name:9} n {n:,} N {k:,} actors {arguments.actors}: same picks and distances: {same}  "
                f"sweeps {work['sweeps']:.0f}  exchanged {work['bytes'] / 2**20:,.0f} MiB "
                f"({work['bytes'] / work['sweeps'] / 2**20:.2f} a sweep)  "
                f"seconds {spread_s:.1f} (placing the shards {work['prepare_s']:.1f}, sweeps {sweeping_s:.1f}) against "
                f"{alone_s:.1f} in one process: {spread_s / alone_s:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
