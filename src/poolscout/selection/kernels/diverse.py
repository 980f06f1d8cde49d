"""Core-set and k-means++ from arrays: what their samplers call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float64, Int64

from poolscout.detector.sharded import one_thread, restored_threads
from poolscout.selection.kernels.compiled import HAS_NUMBA
from poolscout.selection.kernels.compiled_shard import CompiledShard
from poolscout.selection.kernels.greedy import greedy
from poolscout.selection.kernels.state import Centres, Rule, Shard
from poolscout.selection.kernels.tensor_shard import TensorShard
from poolscout.selection.kernels.vectors import Vectors
from poolscout.selection.registry import Candidates, Picked

GROUPED_FROM = 3e8  # distances, below which looking for groups takes longer than it saves


def pick_diverse(candidates: Candidates, rule: Rule, n: int, n_threads: int | None = None) -> Picked:
    """n candidates by a rule; the distances are those to the nearest labelled or picked image, NaN for a first pick.

    Args:
        candidates: with embeddings; labelled ones count as centres from the beginning.
        rule: core-set or k-means++ over these candidates.
        n: 1 … candidates.n.
        n_threads: as many as torch uses, if not given; the picks do not depend on it.
    """
    assert candidates.embeddings is not None
    start = time.perf_counter()
    vectors = Vectors.of(candidates.embeddings, candidates.metric, candidates.rows)
    given, unit = _given(candidates.labelled_embeddings, candidates.metric, vectors)
    vectors = replace(vectors, unit=min(vectors.unit, unit))
    first = np.empty(0, np.int64)
    if not len(given):
        first = np.array([_first(rule)])
        # The race goes on from the moment at which the first point fired.
        if rule.theta is not None and np.isfinite(rule.theta[first[0]]):
            rule = replace(rule, theta=rule.theta - rule.theta[first[0]])

    def rows_of(positions: Int64[np.ndarray, " t"], times: Float64[np.ndarray, " t"]) -> Centres:
        return Centres(vectors.raw(positions), vectors.scales[positions], times)

    n_threads = n_threads or torch.get_num_threads()
    with _exact_products(), restored_threads(), ThreadPoolExecutor(n_threads, initializer=one_thread) as pool:
        shard = _shard(vectors, rule, candidates, n, pool, n_threads)
        if len(given):
            shard.add(given, np.empty(0, np.int64), 0.0, 0.0)
        if len(first):
            shard.add(rows_of(first, np.zeros(1)), first, 0.0, 0.0)
        work = {"prepare_s": time.perf_counter() - start}
        picked = greedy([shard], rule, n - len(first), rows_of)
        learned = shard.known()
    n_ranked = len(first) + picked.n_ranked
    return Picked(
        np.concatenate([first, picked.positions]),
        np.concatenate([np.full(len(first), np.nan), picked.distances * vectors.half]),
        notes=_without_keys(n - n_ranked, rule),
        because=[""] * n_ranked + ["nothing to tell it from others"] * (n - n_ranked),
        known=learned,
        work=work | picked.work,
    )


def _shard(
    vectors: Vectors, rule: Rule, candidates: Candidates, n: int, pool: ThreadPoolExecutor, n_threads: int
) -> Shard:
    """All points, on the device of the candidates."""
    device = torch.device(candidates.device)
    if device.type != "cpu" or not HAS_NUMBA:
        return TensorShard(vectors, rule, device, candidates.known)
    grouped = float(vectors.n) * n >= GROUPED_FROM
    return CompiledShard(vectors, rule, pool, n_threads, grouped=grouped, known=candidates.known)


def _without_keys(n: int, rule: Rule) -> tuple[str, ...]:
    if not n:
        return ()
    how = "in their order" if rule.theta is None else "at random"
    return (f"{n:,} picks are taken {how}: weights or distances of all that was left are 0",)


def _first(rule: Rule) -> int:
    """Where nothing is there to keep away from: the highest weight (lowest position), or a draw by weight."""
    if rule.theta is None or rule.exponentials is None:
        return int(np.argmax(rule.weight))
    return int(np.argmin(rule.theta if np.isfinite(rule.theta).any() else rule.exponentials))


def _given(labelled: np.ndarray | None, metric: str, vectors: Vectors) -> tuple[Centres, float]:
    """Labelled rows in a type that holds them and the vectors' own, and the unit they need."""
    wide = np.float64 if vectors.source.dtype == np.float64 else np.float32
    if labelled is None or not len(labelled):
        return Centres(np.empty((0, vectors.d), wide), np.empty(0), np.empty(0)), vectors.unit
    own = Vectors.of(labelled, metric)
    raw = own.raw(np.arange(own.n))
    return Centres(raw.astype(np.result_type(raw, wide), copy=False), own.scales, np.zeros(own.n)), own.unit


@contextmanager
def _exact_products() -> Iterator[None]:
    """float32 products in float32, whatever the process has allowed: TF32 or bf16 would not keep the error bound."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
