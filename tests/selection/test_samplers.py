"""Each sampler against its oracle, or against what chance must give."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolscout.selection import select
from tests.oracles import selection as oracle


def chi_square(counts: np.ndarray) -> float:
    """Of counts that should be equal."""
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.25 + 1e-12, 3.0]), min_size=1), st.integers(0, 40))
def test_top_n_is_greedy_with_ties_to_the_lowest_position(scores: list[float], n: int) -> None:
    assert select(scores, None, n).tolist() == oracle.top_n(scores, n)


def test_random_is_uniform() -> None:
    counts = np.bincount(np.concatenate([select(np.zeros(10), None, 3, "random", seed=s) for s in range(2000)]))
    assert chi_square(counts) < 27.9  # p = 0.001 at 9 degrees of freedom


def test_random_does_not_look_at_scores() -> None:
    scores = np.arange(50.0)
    picks = select(scores, None, 20, "random", seed=1)
    assert picks.tolist() == select(scores[::-1], None, 20, "random", seed=1).tolist()
    assert picks.tolist() != select(scores, None, 20, "random", seed=2).tolist()


def test_a_larger_budget_keeps_the_picks_of_a_smaller_one() -> None:
    sequences = np.arange(40) % 6
    for sampler in ("random", "random-per-sequence"):
        few, many = (select(None, None, n, sampler, seed=4, sequences=sequences) for n in (9, 30))
        assert many[:9].tolist() == few.tolist()


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40), st.integers(0, 45), st.integers(0, 5))
def test_random_per_sequence_goes_round_robin(sequences: list[str], n: int, seed: int) -> None:
    picks = select(None, None, n, "random-per-sequence", seed=seed, sequences=sequences).tolist()
    assert oracle.is_round_robin(sequences, picks)
    taken, there = Counter(sequences[p] for p in picks), Counter(sequences)
    for one in there:
        for other in there:
            assert taken[one] <= taken[other] + 1 or taken[other] == there[other]


def test_random_per_sequence_draws_frames_and_sequences_by_chance() -> None:
    sequences = ["a"] * 2 + ["b"] * 4 + ["c"] * 6
    first = [int(select(None, None, 1, "random-per-sequence", seed=s, sequences=sequences)[0]) for s in range(3000)]
    by_sequence = Counter(sequences[pick] for pick in first)
    assert chi_square(np.array([by_sequence[name] for name in "abc"])) < 13.8  # p = 0.001 at 2 degrees of freedom
    of_c = np.bincount([pick - 6 for pick in first if pick >= 6], minlength=6)
    assert chi_square(of_c) < 20.5  # p = 0.001 at 5 degrees of freedom


def test_names_of_sequences_may_be_anything_that_sorts() -> None:
    numbers = select(None, None, 5, "random-per-sequence", sequences=[3, 3, 1, 1, 2])
    names = select(None, None, 5, "random-per-sequence", sequences=["c", "c", "a", "a", "b"])
    assert numbers.tolist() == names.tolist()


def test_scores_are_compared_in_full_precision() -> None:
    assert select([0.1, 0.1 + 1e-12], None, 1).tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_score_types(dtype: type) -> None:
    assert select(np.array([1, 3, 2], dtype), None, 2).tolist() == [1, 2]
