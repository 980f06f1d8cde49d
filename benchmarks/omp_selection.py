"""Matching pursuit against reading the embeddings once a pick, and how it grows with images and picks.

The peer is one float32 product of all embeddings with one vector for every pick, timed in the same run, before and
after: an eager matching pursuit cannot do with less, and would still have to solve for weights. For the Gaussian kernel
it is one GEMM of all images with all images, timed on a part of them, which is what a full matrix K costs before the
first pick.

    python benchmarks/omp_selection.py [--full]
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np

from poolscout.selection.kernels.omp import OmpResult, omp
from poolscout.selection.kernels.omp_gaussian import omp_gaussian
from selection_data import clips

D = 160


def timed(work: Callable[[], OmpResult]) -> tuple[float, OmpResult]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def one_sweep(embeddings: np.ndarray) -> float:
    """Seconds of one product with a vector, the median of nine."""
    vector, times = np.ones(embeddings.shape[1], np.float32), []
    for _ in range(9):
        start = time.perf_counter()
        embeddings @ vector
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def all_with_all(embeddings: np.ndarray) -> float:
    """Seconds of a GEMM of all images with all, scaled up from 2,048 of them."""
    start = time.perf_counter()
    for begin in range(0, 2048, 256):
        embeddings[begin : begin + 256] @ embeddings.T
    return (time.perf_counter() - start) * len(embeddings) / 2048


def low_rank(n: int, picks: int) -> None:
    """n → 4n images, then N → 4N picks."""
    base = 0.0
    for images, budget in ((n // 4, picks // 4), (n, picks // 4), (n, picks)):
        embeddings, scores = clips(images, D, relu=True)
        earlier = one_sweep(embeddings)
        seconds, result = timed(lambda: omp(embeddings, scores, budget, similarity="cosine"))  # noqa: B023
        sweep = (earlier + one_sweep(embeddings)) / 2
        base = base or seconds
        print(
            f"{'cosine':10} {images:9,} images {budget:6,} picks {seconds:8.1f} s {seconds / base:6.2f} × the first  "
            f"{seconds / (sweep * budget):6.2f} × bare sweeps of {embeddings.nbytes / sweep / 1e9:.0f} GB/s   "
            f"saturated after {result.saturated_after}, {result.layer.max() + 1} layers, "
            f"{result.n_finalists / budget:.1f} correlations a pick evaluated twice",
            flush=True,
        )


def gaussian(n: int, picks: int) -> None:
    """n → 4n images, then N → 4N picks."""
    base = 0.0
    omp_gaussian(*clips(3000, D, relu=True), 2)  # compiles
    for images, budget in ((n // 4, picks // 4), (n, picks // 4), (n, picks)):
        embeddings, scores = clips(images, D, relu=True)
        seconds, result = timed(lambda: omp_gaussian(embeddings, scores, budget))  # noqa: B023
        base = base or seconds
        print(
            f"{'gaussian':10} {images:9,} images {budget:6,} picks {seconds:8.1f} s {seconds / base:6.2f} × the first  "
            f"{seconds / all_with_all(embeddings):6.2f} × GEMM of all with all   saturated after "
            f"{result.saturated_after}, {result.layer.max() + 1} layers, h {result.bandwidth:.2f}, "
            f"{result.dropped_mass:.1e} of the kernel's mass dropped",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="2,000,000 images, and 200,000 for the Gaussian kernel")
    parser.add_argument("--only", choices=("low-rank", "gaussian"))
    options = parser.parse_args()
    if options.only != "gaussian":
        low_rank(2_000_000 if options.full else 500_000, 1000)
    if options.only != "low-rank":
        gaussian(*((200_000, 10_000) if options.full else (50_000, 2500)))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB, embeddings among it")


if __name__ == "__main__":
    main()
