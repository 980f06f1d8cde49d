"""Core-set and k-means++ kernels against naive loops in float64."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from poolscout.engine import SerialExecutor
from poolscout.errors import WorkerLostError
from poolscout.selection import select
from poolscout.selection.kernels import diverse
from poolscout.selection.kernels.compiled_shard import CompiledShard
from poolscout.selection.kernels.diverse import pick_diverse
from poolscout.selection.kernels.fleet import LocalFleet
from poolscout.selection.kernels.greedy import greedy
from poolscout.selection.kernels.state import Centres, Rule
from poolscout.selection.kernels.tensor_shard import TensorShard
from poolscout.selection.kernels.vectors import Vectors
from poolscout.selection.registry import Candidates, Known
from tests.oracles import diverse as oracle
from tests.selection.kernels.pools import WAYS, calculating, clips, exponentials, rule

SAMPLERS = ("coreset", "kmeans++")
ways = pytest.mark.parametrize("way", WAYS)
samplers = pytest.mark.parametrize("sampler", SAMPLERS)
metrics = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def naive(sampler: str, candidates: Candidates, weight: np.ndarray, n: int) -> list[int]:
    assert candidates.embeddings is not None
    labelled, metric = candidates.labelled_embeddings, candidates.metric
    if sampler == "coreset":
        return oracle.coreset(candidates.embeddings, weight, n, labelled, metric)
    return oracle.race(candidates.embeddings, weight, exponentials(candidates.n), n, labelled, metric)


@ways
@samplers
@metrics
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n_labelled", [0, 30])
def test_picks_are_those_of_the_naive_loop(
    way: str, sampler: str, metric: str, dtype: type, n_labelled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, weight = clips(1000, 20).astype(dtype), np.random.default_rng(3).random(1000) ** 4
    labelled = clips(n_labelled, 20, per=1, seed=9) if n_labelled else None
    candidates = Candidates(1000, weight, rows, metric=metric, labelled_embeddings=labelled)
    with calculating(way, monkeypatch):
        picked = pick_diverse(candidates, rule(sampler, weight), 120)
    assert picked.positions.tolist() == naive(sampler, candidates, weight, 120)


@ways
@samplers
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_small_pool(way: str, sampler: str, data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 19))
    generator = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    rows = generator.integers(-2, 3, (n, d)).astype(np.float32)  # many equal distances and equal rows
    weight = generator.integers(0, 4, n) / 2.0
    asked = data.draw(st.integers(1, n))
    candidates = Candidates(n, weight, rows)
    with pytest.MonkeyPatch.context() as patch, calculating(way, patch):
        picks = pick_diverse(candidates, rule(sampler, weight), asked).positions.tolist()
    assert len(set(picks)) == asked
    if sampler == "coreset":
        assert picks == naive(sampler, candidates, weight, asked)
    else:  # what follows when no hazard is left is ours to define; before, the race decides
        distinct = len({tuple(row) for row in rows[weight > 0].tolist()})
        alive = min(asked, distinct)
        assert not weight.any() or picks[:alive] == naive(sampler, candidates, weight, alive)


@ways
@samplers
@pytest.mark.parametrize(("factor", "of_labelled"), [(1e-50, 1e-50), (1e-30, 1e-30), (1e30, 1e30), (1.0, 1e25)])
def test_any_unit(way: str, sampler: str, factor: float, of_labelled: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = clips(300, 9).astype(np.float64) * factor, np.random.default_rng(3).random(300)
    labelled = clips(3, 9, per=1, seed=9).astype(np.float64) * of_labelled
    candidates = Candidates(300, weight, rows, labelled_embeddings=labelled)
    with calculating(way, monkeypatch):
        picked = pick_diverse(candidates, rule(sampler, weight), 60)
    assert picked.positions.tolist() == naive(sampler, candidates, weight, 60)


@ways
@samplers
def test_labelled_rows_keep_their_digits(way: str, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More labelled rows than there is room for at first, in a wider type, a hair's breadth from candidates."""
    rows, weight = clips(400, 9), np.random.default_rng(3).random(400)
    labelled = rows[:300].astype(np.float64) + 1e-9 * np.random.default_rng(5).standard_normal((300, 9))
    candidates = Candidates(400, weight, rows, labelled_embeddings=labelled)
    with calculating(way, monkeypatch):
        picked = pick_diverse(candidates, rule(sampler, weight), 390)
    assert picked.positions.tolist() == naive(sampler, candidates, weight, 390)


def test_threads_started_later_are_left_alone() -> None:
    def n_threads() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        pick_diverse(Candidates(300, None, clips(300, 9)), Rule(np.ones(300)), 20, 2)
        assert n_threads() == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_without_numba_the_picks_are_the_same() -> None:
    """In a process of its own, in which Numba cannot be imported."""
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np, poolscout\n"
        "from poolscout.selection.kernels.compiled import HAS_NUMBA\n"
        "assert not HAS_NUMBA\n"
        "g = np.random.default_rng(0); x = g.standard_normal((300, 11)).astype(np.float32); s = g.random(300)\n"
        "for sampler in ('coreset', 'kmeans++'):\n"
        "    for metric in ('euclidean', 'cosine'):\n"
        "        print(poolscout.select(s, x, 40, sampler, metric, labelled_embeddings=x[:3] + 1).tolist())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    generator = np.random.default_rng(0)
    x, s = generator.standard_normal((300, 11)).astype(np.float32), generator.random(300)
    found = [
        select(s, x, 40, sampler, metric, labelled_embeddings=x[:3] + 1).tolist()
        for sampler in SAMPLERS for metric in ("euclidean", "cosine")
    ]  # fmt: skip
    assert [json.loads(line) for line in ended.stdout.splitlines()] == found


@ways
@samplers
def test_far_from_the_origin(way: str, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the offset would swallow the distances; taking it off before screening is what keeps them apart."""
    rows = clips(300, 9).astype(np.float64) + 1e6
    weight = np.random.default_rng(3).random(300)
    candidates = Candidates(300, weight, rows)
    with calculating(way, monkeypatch):
        picked = pick_diverse(candidates, rule(sampler, weight), 60)
    assert picked.positions.tolist() == naive(sampler, candidates, weight, 60)


@samplers
def test_every_way_gives_the_same_bits(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = clips(2000, 33, shuffle=True), np.random.default_rng(3).random(2000) ** 4
    candidates = Candidates(2000, weight, rows, metric="cosine")
    found = []
    for way in WAYS:
        for n_threads in (1, 3):
            with calculating(way, monkeypatch):
                found.append(pick_diverse(candidates, rule(sampler, weight), 200, n_threads))
    for other in found[1:]:
        np.testing.assert_array_equal(other.positions, found[0].positions)
        np.testing.assert_array_equal(other.distances, found[0].distances)


@samplers
def test_the_distance_is_the_one_to_the_nearest_centre(sampler: str) -> None:
    rows, weight = clips(400, 12), np.random.default_rng(3).random(400)
    picked = pick_diverse(Candidates(400, weight, rows, metric="cosine"), rule(sampler, weight), 50)
    x = oracle.scaled(rows, "cosine")[picked.positions]
    assert picked.distances is not None
    assert np.isnan(picked.distances[0])
    for k in range(1, 50):
        np.testing.assert_allclose(picked.distances[k], (1 - x[:k] @ x[k]).min(), rtol=1e-9)


@samplers
def test_shards_pick_what_one_process_picks(sampler: str) -> None:
    rows, weight = clips(900, 14), np.random.default_rng(3).random(900) ** 2
    labelled = Vectors.of(clips(5, 14, seed=4), "euclidean")
    whole_rule = rule(sampler, weight)
    alone = pick_diverse(
        Candidates(900, weight, rows, labelled_embeddings=labelled.source), whole_rule, 150
    ).positions.tolist()
    with ThreadPoolExecutor(2) as pool:
        shards = []
        for number, part in enumerate(np.split(np.arange(900), [200, 201, 700])):
            theta = None if whole_rule.theta is None else whole_rule.theta[part]
            own = Rule(weight[part], theta, None if theta is None else exponentials(900)[part])
            vectors = Vectors.of(rows[part], "euclidean")
            shards.append(
                TensorShard(vectors, own, torch.device("cpu"))
                if number == 2
                else CompiledShard(vectors, own, pool, 2, grouped=number == 3)
            )

        fleet, given_rows = LocalFleet(shards), labelled.raw(np.arange(5))
        fleet.meet(Centres(given_rows, labelled.scales, np.zeros(5)))
        assert greedy(fleet, whole_rule, 150).positions.tolist() == alone


@samplers
@pytest.mark.parametrize(("n_labelled", "fails"), [(0, 2), (5, 0), (5, 9)])
def test_actors_pick_what_one_process_picks(
    sampler: str, n_labelled: int, fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actors as the engines make them, but here: what they are sent is pickled."""
    monkeypatch.setattr(diverse, "SPREAD_FROM", 1)
    rows, weight = clips(900, 14), np.random.default_rng(3).random(900) ** 2
    labelled = clips(n_labelled, 14, seed=4) if n_labelled else None
    candidates = Candidates(900, weight, rows, np.arange(899, -1, -1), labelled_embeddings=labelled)
    alone = pick_diverse(candidates, rule(sampler, weight), 150)
    executor = PickledActors(workers=4, fails=fails)
    spread = pick_diverse(replace(candidates, executor=executor), rule(sampler, weight), 150)
    assert executor.made == min(fails + 1, 3), "begun anew when one is lost; in the end, without them"
    assert spread.positions.tolist() == alone.positions.tolist()
    np.testing.assert_array_equal(spread.distances, alone.distances)
    centres = candidates.away_from(spread.positions).labelled_embeddings.astype(np.float64)
    e = np.square(rows[::-1].astype(np.float64)[np.arange(900)][:, None] - centres).sum(2)
    assert (spread.known.d >= e.min(1) * (1 - 1e-9)).all()
    met = np.where(np.arange(len(centres)) < spread.known.seen[:, None], e, np.inf).min(1)
    assert (spread.known.d <= met * (1 + 1e-9)).all()
    assert (spread.work["bytes"] > 0) == (fails < 3)
    assert alone.work["bytes"] == 0


class PickledActors(SerialExecutor):
    has_actors = True

    def __init__(self, workers: int, fails: int) -> None:
        object.__setattr__(self, "workers", workers)
        object.__setattr__(self, "fails", fails)
        object.__setattr__(self, "made", 0)

    def room(self) -> int:
        return self.workers

    def actors(self, function, setups):
        object.__setattr__(self, "made", self.made + 1)
        return _Held(function, [pickle.loads(pickle.dumps(setup))() for setup in setups], self.made <= self.fails)


class _Held:
    def __init__(self, function, held, fails: bool) -> None:
        self.function, self.held, self.fails, self.calls = function, held, fails, 0

    def call(self, items):
        self.calls += 1
        if self.fails and self.calls == 9:
            raise WorkerLostError("gone")
        sent = pickle.loads(pickle.dumps(items))
        replies = [self.function(one, item) for one, item in zip(self.held, sent, strict=True)]
        return pickle.loads(pickle.dumps(replies))

    def close(self) -> None:
        self.held = []


@samplers
def test_a_larger_batch_begins_with_the_smaller_one(sampler: str) -> None:
    rows, weight = clips(500, 8), np.random.default_rng(3).random(500)
    candidates = Candidates(500, weight, rows)
    small, large = (pick_diverse(candidates, rule(sampler, weight), n).positions.tolist() for n in (40, 300))
    assert large[:40] == small


@metrics
def test_k_means_plus_plus_has_its_distribution(metric: str) -> None:
    """The race that the kernels run, pick for pick, ends in every batch as often as the definition says."""
    generator = np.random.default_rng(5)
    rows, weight = generator.standard_normal((5, 3)), generator.random(5) + 0.1
    chances = dict(oracle.kmeans_plus_plus_chances(rows, weight, 3, metric))
    assert sum(chances.values()) == pytest.approx(1)
    draws, counts = 8_000, dict.fromkeys(chances, 0)
    candidates = Candidates(5, weight, rows, metric=metric)
    for seed in range(draws):
        picks = oracle.race(rows, weight, exponentials(5, seed), 3, None, metric)
        counts[tuple(picks)] += 1
        if seed < 60:
            picked = pick_diverse(candidates, Rule.race(weight, exponentials(5, seed)), 3, 1)
            assert picked.positions.tolist() == picks
    expected = draws * np.array(list(chances.values()))
    assert chisquare(list(counts.values()), expected).pvalue > 1e-3


@ways
@samplers
@metrics
def test_frames_that_were_added_only_need_their_own_distances(
    way: str, sampler: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, weight = clips(1500, 16), np.random.default_rng(3).random(1500)
    old, n = 1200, 100
    with calculating(way, monkeypatch):
        first = pick_diverse(Candidates(old, weight[:old], rows[:old], metric=metric), rule(sampler, weight[:old]), n)
        assert first.known is not None
        blank = Known(np.full(1500, np.inf), np.full(1500, -1, np.int32), np.zeros(1500, np.int64))
        for part, learned in zip((blank.d, blank.near, blank.seen), vars(first.known).values(), strict=True):
            part[:old] = learned
        for kept in (n, 60):  # all picks were labelled, or only the first ones
            labelled = np.vstack([rows[first.positions[:kept]], clips(3, 16, seed=8)])
            cold = Candidates(1500, weight, rows, metric=metric, labelled_embeddings=labelled)
            cold = cold.only(np.setdiff1d(np.arange(1500), first.positions))
            warm = replace(cold, known=blank.up_to(kept))
            assert warm.known is not None
            warm = replace(warm, known=Known(*(part[warm.rows] for part in vars(warm.known).values())))
            cold_picks, warm_picks = (pick_diverse(c, rule(sampler, c.scores), 80) for c in (cold, warm))
            np.testing.assert_array_equal(warm_picks.positions, cold_picks.positions)
            np.testing.assert_array_equal(warm_picks.distances, cold_picks.distances)
            if way != "groups":
                assert warm_picks.work["evaluated"] < cold_picks.work["evaluated"]


@ways
@samplers
def test_nothing_of_size_n_times_n_picks_is_held(way: str, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = clips(40_000, 8, sigma=0.3), np.random.default_rng(3).random(40_000)
    candidates = Candidates(40_000, weight, rows)
    with calculating(way, monkeypatch):
        pick_diverse(candidates, rule(sampler, weight), 10)
        tracemalloc.start()
        pick_diverse(candidates, rule(sampler, weight), 1000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40_000 * 400  # bytes; one byte for each point and pick would be 40,000,000


@ways
@samplers
def test_zero_weights_come_last_and_all_are_taken(way: str, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = clips(200, 6), np.zeros(200)
    weight[[5, 50, 150]] = 0.5
    with calculating(way, monkeypatch):
        picks = pick_diverse(Candidates(200, weight, rows), rule(sampler, weight), 200).positions
        nothing = pick_diverse(Candidates(200, np.zeros(200), rows), rule(sampler, np.zeros(200)), 200).positions
    assert set(picks[:3].tolist()) == {5, 50, 150}
    assert sorted(picks.tolist()) == sorted(nothing.tolist()) == list(range(200))
    if sampler == "coreset":
        assert nothing.tolist() == list(range(200))
