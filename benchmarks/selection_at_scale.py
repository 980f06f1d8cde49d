"""Core-set and k-means++ at 2,000,000 × 160, N = 19,000: against one matrix product and against other libraries.

The bound: the product of all points with all picks in float32, which a blocked greedy without pruning has to calculate;
timed on a slice in the same process, before and after, and scaled. Peers (`pip install -e '.[bench]'`) are timed for a
few picks on the same embeddings and extrapolated, as they take an hour to two hours. Every cell runs in a process of
its own, so that its peak memory is its own; the embeddings are not counted.

    python benchmarks/selection_at_scale.py [--images 2000000] [--picks 19000] [--only skewed] [--quick] [--out FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from poolscout.selection.kernels.diverse import pick_diverse
from poolscout.selection.kernels.state import Rule
from poolscout.selection.registry import Candidates
from selection_data import clips

# name: (d, generator's settings, scores)
POOLS = {
    "skewed": (160, {}, "u⁴"),
    "skewed, shuffled": (160, {"shuffle": True}, "u⁴"),
    "uniform scores": (160, {}, "u"),
    "no scores": (160, {}, "1"),
    "independent": (160, {"per": 1, "sigma": 0.0}, "u⁴"),
    "independent, uniform": (160, {"per": 1, "sigma": 0.0}, "u"),
    "independent, no scores": (160, {"per": 1, "sigma": 0.0}, "1"),
    "d = 768": (768, {}, "u⁴"),
    "d = 768, independent, no scores": (768, {"per": 1, "sigma": 0.0}, "1"),
}
RULES = ("coreset", "kmeans++")


def pool(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    d, settings, scores = POOLS[name]
    embeddings, skewed = clips(n, d, **settings)
    return embeddings, {"u⁴": skewed, "u": skewed**0.25, "1": np.ones(n)}[scores]


def rule(sampler: str, weight: np.ndarray) -> Rule:
    if sampler == "coreset":
        return Rule(weight)
    return Rule.race(weight, np.random.default_rng(0).exponential(size=len(weight)))


def product_s(embeddings: np.ndarray, n_picks: int) -> float:
    """Seconds that the product of all points with all picks takes, in tiles that stay in the cache."""
    points, picks = torch.from_numpy(embeddings[:8192]), torch.from_numpy(embeddings[-1024:].copy()).T
    out, times = torch.empty(len(points), picks.shape[1]), []
    for _ in range(15):
        start = time.perf_counter()
        torch.mm(points, picks, out=out)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * (len(embeddings) / len(points)) * (n_picks / picks.shape[1])


def cell(name: str, sampler: str, n: int, n_picks: int, device: str = "cpu") -> dict:
    embeddings, weight = pool(name, n)
    candidates = Candidates(n, weight, embeddings, device=device)
    warm = min(n, 40_000)
    for few in (10, 8_000):  # compiled on first use: without and with groups
        small = Candidates(warm, weight[:warm], embeddings[:warm], device=device)
        pick_diverse(small, rule(sampler, weight[:warm]), min(few, warm // 2))
    bound, before = product_s(embeddings, n_picks), peak_gib()
    start = time.perf_counter()
    picked = pick_diverse(candidates, rule(sampler, weight), n_picks)
    seconds = time.perf_counter() - start
    bound = (bound + product_s(embeddings, n_picks)) / 2
    return {
        "pool": name, "sampler": sampler, "n": n, "N": n_picks, "seconds": seconds, "product": bound,
        "extra_gib": peak_gib() - before, "work": dict(picked.work), "device": device,
        "picks": hashlib.sha256(picked.positions.tobytes()).hexdigest(),
    }  # fmt: skip


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def per_pick(run: Callable[[int], object], few: int, more: int) -> float:
    """Seconds a pick: the difference between many and few picks, so that what is done once does not count."""
    times = []
    for k in (few, more):
        start = time.perf_counter()
        run(k)
        times.append(time.perf_counter() - start)
    return (times[1] - times[0]) / (more - few)


def anomalib_s(embeddings: np.ndarray, weight: np.ndarray) -> float:
    from anomalib.models.components.sampling import KCenterGreedy

    sampler = KCenterGreedy(torch.from_numpy(embeddings), 0.01)
    sampler.features = torch.from_numpy(embeddings)  # without its random projection, which is done once
    sampler.reset_distances()

    def run(k: int) -> None:
        index = torch.tensor(0)
        for _ in range(k):
            sampler.update_distances(cluster_center=index)
            index = sampler.get_new_idx()

    return per_pick(run, 1, 7)


def sklearn_s(embeddings: np.ndarray, weight: np.ndarray) -> float:
    from sklearn.cluster import kmeans_plusplus

    return per_pick(
        lambda k: kmeans_plusplus(embeddings, k, sample_weight=weight, n_local_trials=1, random_state=0), 2, 12
    )


def mundig_s(embeddings: np.ndarray, weight: np.ndarray) -> float:
    """It takes lists of Python numbers, so a tenth of the pool: time a pick is linear in the pool, as is printed."""
    from lightly_mundig import Selection

    times = []
    for share in (20, 10):
        n = len(embeddings) // share
        vectors, weights = embeddings[:n].tolist(), weight[:n].tolist()

        def run(k: int, n: int = n, vectors: list = vectors, weights: list = weights) -> None:
            selection = Selection()
            selection.add_diversifying_strategy(vectors, 1.0)
            selection.add_weighting_strategy(weights, 1.0)
            selection.run_selection([], n, k)

        times.append(per_pick(run, 20, 220) * share)
    print(f"  lightly-mundig, s a pick, scaled from 1/20 and 1/10 of the pool: {times[0]:.4f}, {times[1]:.4f}")
    return times[1]


PEERS = {
    "anomalib KCenterGreedy": ("coreset", anomalib_s),
    "lightly-mundig diversity × weights": ("coreset", mundig_s),
    "scikit-learn kmeans_plusplus(n_local_trials=1)": ("kmeans++", sklearn_s),
}


def in_process(*words: object) -> dict:
    ended = subprocess.run(
        [sys.executable, __file__, "--cell", *map(str, words)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def show(found: dict) -> None:
    work = found["work"]
    print(
        f"  {found['pool']:32} {found['sampler']:9} {found['seconds']:7.1f} s  "
        f"product {found['product']:6.1f} s  ratio {found['seconds'] / found['product']:.3f}  "
        f"evaluated {work['evaluated'] / (found['n'] * found['N']):6.2%}  sweeps {work['sweeps']:4}  "
        f"memory +{found['extra_gib']:.2f} GiB",
        flush=True,
    )
    parts = ", ".join(f"{part} {work[part] / found['seconds']:.0%}" for part in work if part.endswith("_s"))
    print(f"  {'':32} {'':9} {parts}", flush=True)


def on_gpu(n: int, n_picks: int, ours: dict[str, dict]) -> list[dict]:
    """The same selections once the embeddings are on the device."""
    rows = []
    for sampler in RULES if torch.cuda.is_available() else ():
        found = in_process("skewed", sampler, n, n_picks, "cuda")
        seconds, same = found["seconds"] - found["work"]["prepare_s"], found["picks"] == ours[sampler]["picks"]
        rows.append({"sampler": sampler, "seconds": seconds, "placing": found["work"]["prepare_s"], "same": same})
        name = torch.cuda.get_device_name()
        print(
            f"  {sampler:9} on {name}: {seconds:.2f} s once the embeddings are there ({rows[-1]['placing']:.2f} s), "
            f"{'the same picks' if same else 'OTHER PICKS'}", flush=True,
        )  # fmt: skip
    return rows


def peers(n: int, n_picks: int, ours: dict[str, dict]) -> list[dict]:
    embeddings, weight = pool("skewed", n)
    rows = []
    for name, (sampler, run) in PEERS.items():
        try:
            seconds = run(embeddings, weight) * n_picks
        except ImportError:
            print(f"  {name}: not installed, see above")
            continue
        ratio = seconds / ours[sampler]["seconds"]
        rows.append({"peer": name, "sampler": sampler, "seconds": seconds, "ratio": ratio})
        print(f"  {name:48} {seconds:8.0f} s extrapolated = {ratio:6.0f} × {sampler}", flush=True)
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--images", type=int, default=2_000_000)
    arguments.add_argument("--picks", type=int, default=19_000)
    arguments.add_argument("--only", help="one pool")
    arguments.add_argument("--quick", action="store_true", help="the skewed pool, peers and growth")
    arguments.add_argument("--out", type=Path, help="JSON of all figures")
    arguments.add_argument("--cell", nargs="+", help="POOL SAMPLER N PICKS [DEVICE]: one cell, in this process")
    given = arguments.parse_args()
    if given.cell:
        name, sampler, n, n_picks, *device = given.cell
        print(json.dumps(cell(name, sampler, int(n), int(n_picks), *device)))
        return
    n, n_picks, all_found = given.images, given.picks, {"cells": [], "peers": [], "growth": [], "gpu": []}
    for name in [given.only] if given.only else list(POOLS)[: 2 if given.quick else None]:
        for sampler in RULES:
            found = in_process(name, sampler, n, n_picks)
            all_found["cells"].append(found)
            show(found)
    if not given.only:
        ours = {found["sampler"]: found for found in all_found["cells"] if found["pool"] == "skewed"}
        all_found["gpu"] = on_gpu(n, n_picks, ours)
        all_found["peers"] = peers(n, n_picks, ours)
        for sampler in RULES:
            small = in_process("skewed", sampler, n // 4, n_picks // 4)
            for what, grown in (
                ("n → 4n", in_process("skewed", sampler, n, n_picks // 4)),
                ("N → 4N", in_process("skewed", sampler, n // 4, n_picks)),
            ):
                growth = {key: grown[key] / small[key] for key in ("seconds", "product")}
                all_found["growth"].append({"sampler": sampler, "what": what, **growth})
                print(
                    f"  {sampler:9} {what}: time × {growth['seconds']:.2f} (product × {growth['product']:.1f}), "
                    f"memory +{small['extra_gib']:.2f} → +{grown['extra_gib']:.2f} GiB", flush=True,
                )  # fmt: skip
    if given.out:
        given.out.write_text(json.dumps(all_found, indent=1))


if __name__ == "__main__":
    main()
