"""Core-set and k-means++ from arrays: what their samplers call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int64

from poolscout.detector.sharded import one_thread, restored_threads
from poolscout.errors import WorkerLostError
from poolscout.selection.kernels.compiled import HAS_NUMBA
from poolscout.selection.kernels.compiled_shard import CompiledShard
from poolscout.selection.kernels.fleet import ActorFleet, LocalFleet, answer
from poolscout.selection.kernels.greedy import Greedy, greedy
from poolscout.selection.kernels.state import Centres, Fleet, Rule, Shard
from poolscout.selection.kernels.tensor_shard import TensorShard
from poolscout.selection.kernels.vectors import Vectors
from poolscout.selection.registry import Candidates, Known, Picked

GROUPED_FROM = 3e8  # distances, below which looking for groups takes longer than it saves
SPREAD_FROM = 100_000  # points, below which starting actors takes longer than they save
ATTEMPTS = 3


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

    before = time.perf_counter()
    found = _spread(candidates, vectors, rule, n, given, first) if spreads(candidates) else None
    picked, learned, prepare_s = found or _here(candidates, vectors, rule, n, given, first, n_threads)
    work = {"prepare_s": prepare_s + before - start}
    n_ranked = len(first) + picked.n_ranked
    return Picked(
        np.concatenate([first, picked.positions]),
        np.concatenate([np.full(len(first), np.nan), picked.distances * vectors.half]),
        notes=_without_keys(n - n_ranked, rule),
        because=[""] * n_ranked + ["nothing to tell it from others"] * (n - n_ranked),
        known=learned,
        work=work | picked.work,
    )


def spreads(candidates: Candidates) -> bool:
    """Whether actors hold the embeddings."""
    executor = candidates.executor
    return executor is not None and executor.has_actors and candidates.n >= SPREAD_FROM


def _here(
    candidates: Candidates, vectors: Vectors, rule: Rule, n: int, given: Centres, first: Int64[np.ndarray, " f"],
    n_threads: int | None,
) -> tuple[Greedy, Known, float]:  # fmt: skip
    """All points in this process, on the device of the candidates."""
    start, n_threads = time.perf_counter(), n_threads or torch.get_num_threads()
    with _exact_products(), restored_threads(), ThreadPoolExecutor(n_threads, initializer=one_thread) as pool:
        grouped = float(vectors.n) * n >= GROUPED_FROM
        fleet = LocalFleet([_shard(vectors, rule, candidates.known, candidates.device, grouped, pool, n_threads)])
        _meet_first(fleet, vectors, given, first)
        prepare_s = time.perf_counter() - start
        return greedy(fleet, rule, n - len(first)), fleet.known(), prepare_s


def _spread(
    candidates: Candidates, vectors: Vectors, rule: Rule, n: int, given: Centres, first: Int64[np.ndarray, " f"]
) -> tuple[Greedy, Known, float] | None:
    """A part of the points in each of as many actors as there is room for; None where there is none for long.

    An actor that is lost takes its part along: then all begins anew, and ends with the same picks.
    """
    executor = candidates.executor
    assert executor is not None
    start, device = time.perf_counter(), "cuda" if executor.uses_gpus else "cpu"
    for _ in range(ATTEMPTS):
        if not (n_shards := executor.room()):
            return None
        cuts = np.linspace(0, vectors.n, n_shards + 1).astype(np.int64).tolist()
        actors = None
        try:
            setups = (_setup(candidates, vectors, rule, n, lo, hi, device) for lo, hi in pairwise(cuts))
            actors = executor.actors(answer, setups)
            fleet = ActorFleet(actors, np.diff(cuts).tolist())
            _meet_first(fleet, vectors, given, first)
            prepare_s = time.perf_counter() - start
            return greedy(fleet, rule, n - len(first)), fleet.known(), prepare_s
        except WorkerLostError:
            continue
        finally:
            if actors is not None:
                actors.close()
    return None


def _meet_first(fleet: Fleet, vectors: Vectors, given: Centres, first: Int64[np.ndarray, " f"]) -> None:
    if len(given):
        fleet.meet(given)
    if len(first):
        fleet.meet(Centres(vectors.raw(first), vectors.scales[first], np.zeros(1)), int(first[0]))


def _setup(
    candidates: Candidates, vectors: Vectors, rule: Rule, n: int, lo: int, hi: int, device: str
) -> Callable[[], Shard]:
    """What makes the shard of the points lo … hi − 1 where it is going to live."""
    part, known = slice(lo, hi), candidates.known
    return partial(
        _open_shard,
        np.ascontiguousarray(vectors.source[part if vectors.rows is None else vectors.rows[part]]),
        candidates.metric,
        vectors.unit,
        rule.part(part),
        None if known is None else Known(known.d[part], known.near[part], known.seen[part]),
        device,
        float(hi - lo) * n >= GROUPED_FROM,
    )


def _open_shard(
    rows: np.ndarray, metric: str, unit: float, rule: Rule, known: Known | None, device: str, grouped: bool
) -> Shard:
    """In an actor, which lives as long as its shard: it has one thread, and exact products."""
    one_thread()
    torch.set_float32_matmul_precision("highest")
    pool = ThreadPoolExecutor(1, initializer=one_thread)
    return _shard(replace(Vectors.of(rows, metric), unit=unit), rule, known, device, grouped, pool, 1)


def _shard(
    vectors: Vectors, rule: Rule, known: Known | None, device: str, grouped: bool, pool: ThreadPoolExecutor,
    n_threads: int,
) -> Shard:  # fmt: skip
    if torch.device(device).type != "cpu" or not HAS_NUMBA:
        return TensorShard(vectors, rule, torch.device(device), known)
    return CompiledShard(vectors, rule, pool, n_threads, grouped=grouped, known=known)


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
