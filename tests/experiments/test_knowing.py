from itertools import combinations

import numpy as np
import pytest

from poolscout.experiments.knowing import greedy


def worth(counts: np.ndarray, rows: list[int]) -> float:
    return float(np.sqrt(counts[rows].sum(0)).sum())


def test_by_hand() -> None:
    # A car adds √1 to nothing, a second one √2 − 1; a bicycle after that √1.
    counts = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float64)
    assert greedy(counts, np.zeros(4, bool), 3) == [0, 2, 1]


def test_what_is_labelled_counts_and_is_not_picked() -> None:
    counts = np.array([[9, 0], [4, 0], [0, 1]], np.float64)
    assert greedy(counts, np.array([True, False, False]), 2) == [2, 1]


def test_no_more_than_there_are() -> None:
    assert len(greedy(np.ones((3, 2)), np.array([True, False, False]), 10)) == 2


@pytest.mark.parametrize("seed", range(20))
def test_within_the_bound_of_the_best(seed: int) -> None:
    counts = np.random.default_rng(seed).poisson(0.8, (10, 4)).astype(np.float64)
    best = max(worth(counts, list(rows)) for rows in combinations(range(10), 3))
    assert worth(counts, greedy(counts, np.zeros(10, bool), 3)) >= (1 - 1 / np.e) * best
