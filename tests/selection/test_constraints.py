"""Constraints around samplers: against slow walks, and what no batch may ever be."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.config import build_selection
from poolscout.errors import CapabilityError, ConfigError, DataError, TableError
from poolscout.selection import notes_of, select, select_images
from poolscout.selection.near_duplicates import NearDuplicates
from poolscout.selection.registry import Candidates, samplers
from poolscout.selection.turns import turns_ahead
from tests.oracles import constraints as oracle

CLASSES = ("car", "person", "bicycle")


class Pool:
    """n images of a few sequences, with scores, boxes and embeddings that lie in clumps of near-duplicates."""

    def __init__(self, seed: int, n: int = 60, ties: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.n, self.ids = n, [f"{i:04d}.jpg" for i in range(n)]
        self.per_class = (rng.integers(0, 5, (n, 3)) / 4 if ties else rng.random((n, 3)) ** 3).astype(np.float32)
        self.scores = self.per_class.max(1)
        self.sequences = [f"clip {number}" for number in rng.integers(0, 6, n)]
        self.frames = rng.integers(0, 25, n).tolist()
        clumps = rng.standard_normal((8, 5))[rng.integers(0, 8, n)]
        self.embeddings = (clumps + 0.1 * rng.standard_normal((n, 5))).astype(np.float32)
        self.boxes = rng.integers(0, 5, n).tolist()
        self.labelled = rng.permutation(n)[:4].tolist()

    @property
    def candidates(self) -> pa.Table:
        return pa.table(
            {
                "image_id": self.ids, "sequence": self.sequences, "frame": self.frames, "s": self.scores,
                "s_per_class": pa.array(self.per_class.tolist(), pa.list_(pa.float32())),
            }
        )  # fmt: skip

    @property
    def vectors(self) -> pa.Table:
        return pa.table({"image_id": self.ids, "embedding": pa.array(self.embeddings.tolist(), pa.list_(pa.float32()))})

    @property
    def detections(self) -> pa.Table:
        """As many boxes of the ensemble as `boxes` says, and others that do not count."""
        rows = [(i, -1, 0.5) for i, count in enumerate(self.boxes) for _ in range(count)]
        rows += [(i, -1, 0.49) for i in range(self.n)] + [(i, 0, 0.9) for i in range(self.n)]
        where, member, probability = zip(*rows, strict=True)
        return pa.table(
            {
                "image_id": [self.ids[i] for i in where],
                "member": pa.array(member, pa.int32()),
                "probability": pa.array(probability, pa.float32()),
            }
        )

    def pick(self, n: int, sampler: str = "top-n", seed: int = 0, repeats: bool = False, **keys) -> pa.Table:
        """`keys` of the constraints, or of the room itself."""
        room = {key: keys.pop(key) for key in ("metric", "price", "score_power", "over_classes") if key in keys}
        config = build_selection({"sampler": sampler, "constraints": keys, **room})
        detections = self.detections
        return select_images(
            self.candidates, self.vectors, config, n, seed,
            labelled={self.ids[i] for i in self.labelled} if repeats else set(), rank_by="s", classes=CLASSES,
            detections=[detections.slice(0, 40), detections.slice(40)], pool=self.candidates,
        )  # fmt: skip

    def at(self, table: pa.Table) -> list[int]:
        return [self.ids.index(image_id) for image_id in table["image_id"].to_pylist()]

    def rules(self, **keys) -> oracle.Rules:
        return oracle.Rules(
            self.boxes, keys.get("budget_boxes"), self.sequences, keys.get("cap_per_sequence"), self.frames,
            keys.get("min_gap"), self.embeddings, keys.get("metric", "euclidean"), keys.get("min_distance"),
        )  # fmt: skip


some_constraints = st.fixed_dictionaries(
    {},
    optional={
        "budget_boxes": st.integers(1, 60),
        "cap_per_sequence": st.integers(1, 8),
        "min_gap": st.integers(1, 12),
        "min_distance": st.sampled_from([1e-9, 0.05, 0.4, 3.0]),
    },
)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(0, 70), some_constraints, st.booleans(), st.booleans(), st.booleans())
def test_top_n_is_the_walk_down_the_ranking(seed: int, n: int, keys: dict, ties: bool, repeats: bool, lists: bool):
    pool, start, excluded = Pool(seed, ties=ties), [], []
    if lists and n > 2 and "budget_boxes" not in keys:
        start, excluded = [7, 3], [1, 2, 40]
        keys |= {"include": ["0007.jpg", "0003.jpg"], "exclude": ["0001.jpg", "0002.jpg", "0040.jpg", "none.jpg"]}
    table = pool.pick(n, repeats=repeats, **keys)
    rules = pool.rules(**keys)
    rules.labelled, rules.excluded = pool.labelled if repeats else [], excluded
    assert pool.at(table) == oracle.down_the_ranking(pool.scores, n, rules, start)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.integers(1, 70), some_constraints, st.sampled_from([None, "shares", "images"]))
def test_round_robin_takes_turns(seed: int, n: int, keys: dict, quota: str | None) -> None:
    pool, weights, most = Pool(seed), [0.5, 0.5], [math.inf] * 2
    if quota == "shares":
        weights, keys = [0.7, 0.3], keys | {"class_quota": {"person": 0.7, "bicycle": 0.3}}
    if quota == "images":
        weights, most, keys = [9, 4], [9, 4], keys | {"class_quota": {"person": 9, "bicycle": 4}}
    table = pool.pick(n, classes=["person", "bicycle"], **keys)
    expected = oracle.in_turn(pool.per_class[:, 1:], n, pool.rules(**keys), weights, most)
    assert pool.at(table) == [position for position, _ in expected]
    assert table["class"].to_pylist() == [("person", "bicycle")[c] for _, c in expected]
    assert table["score"].to_pylist() == [pool.per_class[position, 1 + c] for position, c in expected]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 999), st.sampled_from(samplers.names()), st.integers(1, 70), some_constraints, st.booleans(),
    st.sampled_from(["euclidean", "cosine"]),
)  # fmt: skip
def test_no_batch_breaks_a_constraint(seed: int, sampler: str, n: int, keys: dict, by_class: bool, metric: str) -> None:
    pool = Pool(seed)
    if "min_distance" in keys and metric == "cosine":
        keys["min_distance"] /= 10
    if by_class and "scores" in samplers.get(sampler).needs:
        keys["classes"] = ["car", "person", "bicycle"]
    picks = pool.at(table := pool.pick(n, sampler, seed, metric=metric, repeats=True, **keys))
    rules = pool.rules(metric=metric, **keys)
    rules.labelled = pool.labelled
    assert len(set(picks)) == len(picks) <= n
    for rank, position in enumerate(picks):
        assert rules.allow(picks[:rank], position), f"pick {rank}"
    if len(picks) < n:  # only when nothing else fits
        assert not [i for i in range(pool.n) if rules.allow(picks, i)]
        assert any("asked for" in note for note in notes_of(table))
    assert pool.at(pool.pick(n, sampler, seed, metric=metric, repeats=True, **keys)) == picks


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("min_distance", [4.0, np.nextafter(4.0, 5.0)])
def test_float64_decides_what_is_too_close(dtype: type, min_distance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers on a line: 2 is near enough or too far by one bit of float64; blocks are small."""
    monkeypatch.setattr("poolscout.selection.near_duplicates.BLOCK", 16)
    monkeypatch.setattr("poolscout.selection.near_duplicates.TILE", 4)
    line = (1000 + np.arange(50.0))[:, None].astype(dtype)
    gate = NearDuplicates(Candidates(50, embeddings=line, labelled_embeddings=line[:1]), min_distance)
    step = 2 if min_distance == 4.0 else 3
    assert np.flatnonzero(~gate.admitted(np.arange(50))).tolist() == list(range(step))
    gate.ahead(np.arange(step, 50))
    picks = []
    for position in range(step, 50):
        if gate.admits(position):
            gate.accept(position)
            picks.append(position)
    assert picks == list(range(step, 50, step))
    left = [p for p in range(50) if all(abs(p - pick) >= step for pick in picks)]
    assert np.flatnonzero(gate.admitted(np.arange(50))).tolist() == left


@pytest.mark.parametrize("sampler", samplers.names())
def test_without_constraints_a_sampler_draws_as_ever(sampler: str) -> None:
    pool = Pool(1)
    plain = select(pool.scores, pool.embeddings, 20, sampler, seed=11, sequences=pool.sequences)
    loose = {"cap_per_sequence": 60, "min_gap": 1, "budget_boxes": 10_000, "prefilter": 60.0, "exclude": ["none.jpg"]}
    pool.frames = list(range(pool.n))
    assert pool.at(pool.pick(20, sampler, 11)) == plain.tolist()
    assert pool.at(pool.pick(20, sampler, 11, **loose)) == plain.tolist()


@pytest.mark.parametrize("sampler", samplers.names())
def test_must_includes_come_first_and_count(sampler: str) -> None:
    pool = Pool(2)
    given = ["0050.jpg", "0001.jpg", "0033.jpg"]
    table = pool.pick(10, sampler, include=given, exclude=["0000.jpg"])
    assert table["image_id"].to_pylist()[:3] == given
    assert table.num_rows == len(set(table["image_id"].to_pylist())) == 10
    assert "0000.jpg" not in table["image_id"].to_pylist()
    reasons = table["reason"].to_pylist()
    assert all("must-include" in reason for reason in reasons[:3])
    assert not any("must-include" in reason for reason in reasons[3:])
    far = table["distance"].to_pylist()
    assert far[0] is None
    assert (far[1] is None) == (sampler not in ("coreset", "kmeans++"))
    warm = select(
        pool.scores, pool.embeddings, 10, sampler, sequences=pool.sequences, start=[50, 1, 33]
    ).tolist()  # fmt: skip
    assert warm[:3] == [50, 1, 33]
    assert len(set(warm)) == 10


def test_must_includes_are_centres() -> None:
    """On a line: 0 and 10 are included, so the farthest is 5, then one of the halves."""
    line = np.arange(11.0)[:, None]
    assert select(None, line, 3, "coreset", score_power=0, start=[0, 10]).tolist() == [0, 10, 5]
    assert select(None, line, 4, "coreset", score_power=0, start=[10, 0]).tolist()[:3] == [10, 0, 5]


@pytest.mark.parametrize(
    ("start", "message"),
    [([3], "whole numbers from 0 to 2"), ([-1], "no positions"), ([0.5], "no positions"), ([0, 0], "1 of them diff"),
     ([0, 1, 2], "at most n = 2")],
)  # fmt: skip
def test_a_start_that_is_none(start: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        select([0.1, 0.2, 0.3], None, 2, start=start)


def test_the_reasons_say_what_moved_a_pick() -> None:
    pool = Pool(0, n=6)
    pool.scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)
    pool.sequences, pool.frames = ["a", "a", "a", "b", "b", "c"], [0, 5, 6, 0, 1, 0]
    table = pool.pick(4, cap_per_sequence=2, min_gap=2)
    assert pool.at(table) == [0, 1, 3, 5]
    assert table["reason"].to_pylist() == [
        "top-n by s", "top-n by s", "top-n by s; after 1 refused: 1 cap per sequence", "top-n by s",
    ]  # fmt: skip
    assert notes_of(table) == ["cap per sequence: 1 picks refused, 0 more candidates ruled out",
                               "minimum gap: 0 picks refused, 1 more candidates ruled out"]  # fmt: skip
    assert pool.pick(3)["reason"].to_pylist() == ["top-n by s"] * 3
    reason = pool.pick(2, "coreset", classes=["bicycle", "person"], score_power=2, prefilter=2)["reason"].to_pylist()
    assert reason[0] == "coreset by s^2, of the best 4 by s, round-robin: bicycle"
    assert reason[1].startswith("coreset by s^2, of the best 4 by s, round-robin: person")


def test_distances_are_kept() -> None:
    pool = Pool(4)
    table = pool.pick(5, "coreset", repeats=True)
    picks, centres = pool.at(table), list(pool.labelled)
    for position, distance in zip(picks, table["distance"].to_pylist(), strict=True):
        to_centres = [oracle.distance(pool.embeddings[position], pool.embeddings[c], "euclidean") for c in centres]
        assert distance == pytest.approx(min(to_centres), rel=1e-6)
        centres.append(position)
    assert set(pool.pick(5, "top-n")["distance"].to_pylist()) == {None}


def test_a_labelled_image_costs_nothing() -> None:
    pool = Pool(3, n=5)
    pool.scores, pool.boxes = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), [4, 4, 3, 2, 1]
    pool.labelled = [0]
    assert pool.at(pool.pick(5, budget_boxes=5, repeats=True)) == [0, 1, 4]
    assert pool.at(pool.pick(5, budget_boxes=5)) == [0, 4]
    price = {"seconds_per_image": 30, "seconds_per_box": 10}  # 70, 70, 60, 50, 40 s
    assert pool.at(pool.pick(5, budget_minutes=2, price=price)) == [0, 3]
    assert pool.at(pool.pick(5, budget_minutes=2, price={"seconds_per_image": 60})) == [0, 1]


def test_the_gap_to_labelled_images() -> None:
    pool = Pool(3, n=4)
    pool.scores, pool.sequences, pool.frames = np.array([0.9, 0.8, 0.7, 0.6], np.float32), list("aaab"), [0, 4, 9, 4]
    pool.labelled = [1]
    assert pool.at(pool.pick(4, min_gap=5, repeats=True)) == [0, 2, 3]
    assert pool.at(pool.pick(4, min_gap=5, gap_to_labelled=True, repeats=True)) == [2, 3]


def test_prefilter_looks_at_the_best_alone() -> None:
    pool = Pool(5)
    best = set(np.argsort(-pool.scores, kind="stable")[:15].tolist())
    assert set(pool.at(pool.pick(10, "random", prefilter=1.5))) <= best
    table = pool.pick(10, "random", prefilter=1.5)
    assert table["reason"].to_pylist()[0] == "random, of the best 15 by s"
    assert None not in table["score"].to_pylist()
    assert pool.pick(30, "top-n", prefilter=1, cap_per_sequence=2).num_rows == 12


def test_lists_may_be_files(tmp_path: Path) -> None:
    pool = Pool(6)
    (tmp_path / "ids.txt").write_text("0009.jpg\n\n0004.jpg\n")
    assert pool.pick(3, include=str(tmp_path / "ids.txt"))["image_id"].to_pylist()[:2] == ["0009.jpg", "0004.jpg"]
    assert "0009.jpg" not in pool.pick(60, exclude=str(tmp_path / "ids.txt"))["image_id"].to_pylist()


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"include": ["x.jpg"]}, DataError, r"1 images are no candidates[\s\S]*x.jpg"),
        ({"include": ["0001.jpg"] * 2}, ConfigError, "there more than once"),
        ({"include": ["0001.jpg"], "exclude": ["0001.jpg"]}, ConfigError, "to be excluded too"),
        ({"include": [f"{i:04d}.jpg" for i in range(6)]}, ConfigError, "more than the 5"),
        ({"include": ["0001.jpg", "0002.jpg"], "budget_boxes": 1}, ConfigError, "beyond the budget in boxes"),
        ({"classes": ["persn"]}, ConfigError, r"no class 'persn'[\s\S]*'person'"),
        ({"classes": ["car"], "sampler": "random"}, ConfigError, r"'random' does not look at scores"),
        ({"classes": ["car"], "sampler": "coreset", "score_power": 0}, ConfigError, "does not look at scores"),
    ],
)
def test_what_cannot_be_is_said(keys: dict, error: type[Exception], message: str) -> None:
    pool = Pool(0)
    pool.boxes = [1] * pool.n
    with pytest.raises(error, match=message):
        pool.pick(5, **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"constraints": {"class_quota": {"car": 0.5}}}, "one for each of classes"),
        ({"constraints": {"classes": ["a", "b"], "class_quota": {"a": 0.5, "b": 0.4}}}, "shares that add up to 1"),
        ({"constraints": {"classes": ["a", "a"]}}, "each class once"),
        ({"constraints": {"gap_to_labelled": True}}, "goes with min_gap"),
        ({"constraints": {"budget_minutes": 3}}, "price.seconds_per_image"),
        ({"constraints": {"classes": ["a"]}, "normalise_classes": True}, "ranks each class by its own score"),
        ({"constraints": {"min_gap": 0}}, "constraints.min_gap"),
        ({"constraints": {"cap": 3}}, r"no such key 'constraints.cap'[\s\S]*cap_per_sequence"),
        ({"score_power": -1}, "score_power"),
    ],
)
def test_a_config_that_cannot_be(keys: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_selection(keys)


def test_what_a_constraint_needs_is_asked_for() -> None:
    pool = Pool(0)

    def pick(candidates: pa.Table, **keys) -> pa.Table:
        config = build_selection({"constraints": keys})
        return select_images(candidates, None, config, 3, 0, labelled={"0001.jpg"}, rank_by="s", classes=CLASSES)

    bare = pool.candidates.select(["image_id", "s"])
    with pytest.raises(CapabilityError, match="need sequences"):
        pick(bare, cap_per_sequence=1)
    with pytest.raises(CapabilityError, match="needs frame numbers"):
        pick(pool.candidates.drop_columns("frame"), min_gap=1)
    with pytest.raises(CapabilityError, match="needs embeddings"):
        pick(bare, min_distance=1)
    with pytest.raises(CapabilityError, match="needs predicted boxes"):
        pick(bare, budget_boxes=1)
    with pytest.raises(CapabilityError, match="frames of labelled images"):
        pick(pool.candidates, min_gap=1, gap_to_labelled=True)
    pool.frames[5:8] = [None] * 3
    with pytest.raises(TableError, match=r"3 of 60 candidates have no frame number[\s\S]*0005.jpg"):
        pick(pool.candidates, min_gap=1)


@given(
    st.lists(st.floats(0.05, 5), min_size=1, max_size=4), st.integers(0, 60),
    st.lists(st.sampled_from([None, 0, 3, 20]), min_size=4, max_size=4),
)  # fmt: skip
def test_turns_are_fair(weights: list[float], n: int, most: list[int | None]) -> None:
    ends = most[: len(weights)]
    turns = turns_ahead([0] * len(weights), weights, ends, range(len(weights)), n)
    assert all(end is None or turn <= end for turn, end in zip(turns, ends, strict=True))
    assert sum(turns) == min(n, sum(n if end is None else end for end in ends))
    if ends == [None] * len(weights):
        for turn, weight in zip(turns, weights, strict=True):
            assert abs(turn - n * weight / sum(weights)) < len(weights)
    assert Counter(turns_ahead([0, 0, 0], [1, 1, 1], [None] * 3, {0, 1, 2}, 3 * n)) == {n: 3}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("keys", [{"classes": ["car", "person"]}, {"cap_per_sequence": 3}, {"include": ["0007.jpg"]}])
def test_distances_are_true_whatever_was_refused_or_taken_in_turn(metric: str, keys: dict) -> None:
    pool = Pool(4)
    config = build_selection({"sampler": "coreset", "n": 16, "metric": metric, "constraints": keys}, "test")
    labelled = [pool.ids[i] for i in pool.labelled]
    table = select_images(pool.candidates, pool.vectors, config, 16, 0, labelled=labelled, rank_by="s", classes=CLASSES)
    x = pool.embeddings.astype(np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x
    half = 0.5 if metric == "cosine" else 1.0
    centres = list(pool.labelled)
    for image_id, distance in zip(table["image_id"].to_pylist(), table["distance"].to_pylist(), strict=True):
        at = pool.ids.index(image_id)
        assert distance == pytest.approx(half * np.square(x[centres] - x[at]).sum(1).min(), rel=1e-4, abs=1e-7)
        centres.append(at)


def test_classes_that_take_turns_keep_away_from_each_other() -> None:
    """Two classes that like the same clumps: picked apart, each clump would be taken twice."""
    rng = np.random.default_rng(0)
    n_clumps, per = 30, 8
    clumps = np.repeat(rng.standard_normal((n_clumps, 6)), per, axis=0)
    embeddings = (clumps + 0.01 * rng.standard_normal(clumps.shape)).astype(np.float32)
    per_class = np.ones((len(clumps), 2)) + 0.01 * rng.random((len(clumps), 2))
    ids = [f"{i:03d}" for i in range(len(clumps))]
    candidates = pa.table(
        {"image_id": ids, "s": per_class.max(1).astype(np.float32), "s_per_class": per_class.tolist()}
    )
    config = build_selection({"sampler": "coreset", "constraints": {"classes": ["a", "b"]}}, "test")
    table = select_images(
        candidates, pa.table({"image_id": ids, "embedding": embeddings.tolist()}), config, n_clumps, 0,
        labelled=[], rank_by="s", classes=("a", "b"),
    )  # fmt: skip
    assert len({int(image_id) // per for image_id in table["image_id"].to_pylist()}) == n_clumps
    assert table["class"].to_pylist() == ["a", "b"] * (n_clumps // 2)
