"""Statistics against hand-computed values, brute force, published figures and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolscout.errors import DataError
from poolscout.experiments.statistics import (
    area_under,
    corrected,
    cost_to_reach,
    detectable_difference,
    gain_ratio,
    holm,
    mean_interval,
    paired,
    relative_gain,
)

FIGURES = st.lists(st.integers(-100, 100).map(float), min_size=2, max_size=9)


def test_holm_as_in_a_worked_example() -> None:
    # Four tests: 0.01 · 4, 0.02 · 3, 0.03 · 2 (raised to the one before), 0.04 · 1 (likewise).
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_none_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, after in zip(p_values, adjusted, strict=True):
        assert raw <= after <= min(1, raw * len(p_values)) + 1e-12
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [after for _, after in pairs] == sorted(adjusted)


@given(FIGURES)
def test_the_paired_test_is_the_share_of_sign_patterns_as_extreme(values: list[float]) -> None:
    d = np.asarray(values)
    if not d.any():
        assert paired(d, 0 * d).p == 1
        return
    means = [np.mean(np.array(signs) * d) for signs in itertools.product((1, -1), repeat=len(d))]
    upper = np.mean([m >= d.mean() - 1e-9 for m in means])
    lower = np.mean([m <= d.mean() + 1e-9 for m in means])
    assert paired(d, 0 * d).p == pytest.approx(min(1, 2 * min(upper, lower)), abs=2 / len(means))


def test_no_win_is_called_with_five_seeds_and_one_is_with_six() -> None:
    five, six = paired([1.0] * 5, [0.0] * 5), paired([1.0] * 6, [0.0] * 6)
    assert (five.p, five.verdict) == (2 / 32, "no difference shown")
    assert (six.p, six.verdict) == (2 / 64, "better")
    assert paired([0.0] * 6, [1.0] * 6).verdict == "worse"
    assert corrected({"a": six, "b": six})["a"].verdict == "no difference shown"


def test_an_interval_holds_the_mean_and_shrinks_with_seeds() -> None:
    rng = np.random.default_rng(0)
    few, many = mean_interval(rng.normal(5, 1, 10)), mean_interval(rng.normal(5, 1, 160))
    for one in (few, many):
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.mean < one.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert mean_interval([3.0]).low is None
    assert (mean_interval([3.0, 3.0]).low, mean_interval([3.0, 3.0]).high) == (3.0, 3.0)
    assert mean_interval([1.0, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0])


def test_figures_that_differ_by_rounding_have_an_interval() -> None:
    figures = [float(np.nextafter(0.7, 1))] * 3 + [0.7] * 7  # the bootstrap's own interval is NaN
    found = mean_interval(figures)
    assert [found.low, found.high] == pytest.approx([0.7, 0.7])


def test_intervals_cover_the_true_mean_about_as_often_as_they_say() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        found = mean_interval(rng.normal(0, 1, 10))
        hits += found.low <= 0 <= found.high
    # Bootstrap intervals of 10 values are known to be a little short: 90 % and more, not 95.
    assert 170 <= hits <= 198


def test_the_detectable_difference_is_that_of_tables_of_power() -> None:
    # A paired t-test with 34 pairs finds half a standard deviation with 80 % (G*Power: n = 34 for d = 0.5).
    assert detectable_difference(1.0, 34) == pytest.approx(0.5, abs=0.01)
    assert detectable_difference(2.0, 34) == pytest.approx(2 * 0.5, abs=0.02)
    assert detectable_difference(0.0, 10) == 0


@pytest.mark.parametrize(("n", "tests"), [(10, 1), (9, 7), (12, 7), (6, 1)])
def test_a_difference_of_that_size_is_found_in_four_of_five_experiments(n: int, tests: int) -> None:
    size, rng = detectable_difference(1.0, n, tests), np.random.default_rng(2)
    signs = np.array(list(itertools.product((1, -1), repeat=n)))
    found = 0
    for _ in range(1000):
        means = signs @ rng.normal(size, 1, n)
        found += (np.abs(means) >= abs(means[0]) - 1e-9).mean() < 0.05 / tests
    assert 760 <= found <= 840


def test_seeds_too_few_to_show_anything_detect_nothing() -> None:
    assert detectable_difference(1.0, 5) is None
    assert detectable_difference(1.0, 6) is not None
    assert detectable_difference(1.0, 6, tests=2) is None
    # where the test is exact no more, it is nearly the t-test's
    assert 1 < detectable_difference(1.0, 13, 7) / detectable_difference(1.0, 14, 7) < 1.15


def test_corrected_it_is_what_the_strictest_step_finds() -> None:
    ours = np.random.default_rng(3).normal(0, 1, 12)
    of = corrected({i: paired(ours + i, np.zeros(12)) for i in range(7)})[0]
    assert of.tests == 7
    assert of.detectable_corrected == detectable_difference(of.sd, 12, tests=7) > of.detectable


def test_area_and_cost_by_hand() -> None:
    cost, figure = [0.0, 10.0, 30.0], [0.0, 1.0, 2.0]
    assert area_under(cost, figure, 0, 30) == pytest.approx((5 + 30) / 30)
    assert area_under(cost, figure, 5, 20) == pytest.approx((0.75 * 5 + 1.25 * 10) / 15)
    assert cost_to_reach(cost, figure, 1.5) == 20
    assert cost_to_reach(cost, figure, 0.0) == 0
    assert cost_to_reach(cost, figure, 2.1) is None


@given(st.lists(st.floats(0.1, 50), min_size=2, max_size=6), st.data())
def test_the_area_is_that_of_a_fine_sum(steps: list[float], data: st.DataObject) -> None:
    cost = np.cumsum(steps)
    figure = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(cost), max_size=len(cost))))
    grid = np.linspace(cost[0], cost[-1], 20_001)
    assert area_under(cost, figure, cost[0], cost[-1]) == pytest.approx(np.interp(grid, cost, figure).mean(), abs=1e-2)


def test_the_ratio_of_gains_by_hand() -> None:
    reference = [0.2, 0.3, 0.4, 0.2]
    manual, al = [value + 0.1 for value in reference], [value + 0.3 for value in reference]
    found = gain_ratio(al, manual, reference)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((3.0, 3.0, 3.0, 4))
    # manual's gains 0.2, 0, 0.2, 0 may be nothing; of 9,999 resamples of four the upper 2.5 % have all four of 0.2
    open_end = gain_ratio(al, [0.4, 0.3, 0.6, 0.2], reference)
    assert (open_end.mean, open_end.high) == (pytest.approx(3.0), None)
    assert open_end.low == pytest.approx(0.3 / 0.2, abs=0.01)
    assert gain_ratio([0.1, 0.4, 0.5, 0.3], [0.4, 0.3, 0.6, 0.2], reference) is None, "both may be nothing"
    assert gain_ratio(al, [value - 0.1 for value in reference], reference) is None
    assert gain_ratio([0.5], [0.3], [0.2]) is None, "of a single seed nothing is known"
    worse = gain_ratio([0.1, 0.2, 0.3, 0.1], manual, reference)
    assert worse.mean == pytest.approx(-1.0)


@given(st.integers(0, 10_000))
def test_a_multiple_has_an_upper_end_where_the_told_interval_of_the_gain_is_above_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.1, 0.4, 8)
    theirs, ours = base + rng.normal(0.02, 0.04, 8), base + rng.normal(0.1, 0.04, 8)
    gain, found = relative_gain(theirs.clip(0), base), gain_ratio(ours, theirs.clip(0), base)
    assert (found is not None and found.high is not None) == (gain.low > 0)
    assert found is None or found.low <= found.mean


def test_the_interval_of_a_ratio_covers_it_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(3), 0
    for seed in range(100):
        base = rng.normal(0.3, 0.05, 12)
        found = gain_ratio(base + rng.normal(0.3, 0.06, 12), base + rng.normal(0.1, 0.03, 12), base, seed)
        hits += found.low <= 3.0 <= found.high
    assert 84 <= hits <= 99


def test_a_multiple_without_an_upper_end_is_seldom_too_high() -> None:
    rng, told, wrong = np.random.default_rng(4), 0, 0
    for seed in range(150):
        base = rng.normal(0.3, 0.05, 12)
        found = gain_ratio(base + rng.normal(0.09, 0.06, 12), base + rng.normal(0.03, 0.06, 12), base, seed)
        if found is not None and found.high is None:
            told, wrong = told + 1, wrong + (found.low > 3.0)
    assert told > 60
    assert wrong <= 0.06 * told


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="same seeds"):
        paired([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="finite"):
        mean_interval([1.0, float("nan")])
    with pytest.raises(DataError, match="must rise"):
        area_under([1, 1], [0, 1], 1, 1)
    with pytest.raises(DataError, match="has not been"):
        area_under([1, 2], [0, 1], 0, 2)
