"""What a handful of paired seeds can and cannot say: intervals, paired tests with Holm's correction, curves, power.

A figure is measured once for each seed. Strategies that are compared share the seed's initial labels and its members'
initial weights, so their figures are compared seed by seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

from poolscout.errors import DataError

CONFIDENCE = 0.95
RESAMPLES = 9_999  # of the bootstrap; and of sign patterns where there are more than these
EXACT_SEEDS = int(math.log2(RESAMPLES))  # with more, sign patterns are drawn
POWER, DRAWS = 0.8, 2000  # of what is called detectable; and experiments that are simulated to find it
Figures = Sequence[float] | Float[np.ndarray, " seeds"]
LOW = 0.01  # AP below which a detector has learnt next to nothing
Key = TypeVar("Key")


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds and its 95 % bootstrap interval; with a single seed the interval is not known (None).

    Of a multiple, `high` alone may be None: there is no upper end.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def at_least(self) -> float | None:
        """The low end, where there is no upper one; in tenths, and a bound is rounded down."""
        return math.floor(10 * self.low) / 10 if self.low is not None and self.high is None else None


@dataclass(frozen=True)
class Paired:
    """One strategy against another over the same seeds.

    Attributes:
        difference: of the figures, seed by seed.
        sd: standard deviation of these differences; None with one seed.
        p: two-sided, of the paired permutation test.
        p_corrected: after Holm's correction over the comparisons it is one of; None before.
        detectable: true difference that so many seeds find in 4 of 5 such experiments by one test; None where they can
            find none.
        detectable_corrected: the same at the correction's strictest step; None before, too.
        tests: that the correction is over.
    """

    difference: Interval
    sd: float | None
    p: float
    p_corrected: float | None
    detectable: float | None
    detectable_corrected: float | None = None
    tests: int = 1

    @property
    def p_told(self) -> float:
        """Corrected, where it has been."""
        return self.p if self.p_corrected is None else self.p_corrected

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the corrected p is below 0.05, else `no difference shown`."""
        if self.p_told >= 1 - CONFIDENCE:
            return "no difference shown"
        return "better" if self.difference.mean > 0 else "worse"


def mean_interval(figures: Figures, seed: int = 0) -> Interval:
    """Mean over seeds and its bias-corrected, accelerated bootstrap interval (Efron 1987).

    Args:
        figures: [seeds], finite.
        seed: of the resamples.

    Raises:
        DataError: no figures, or NaN among them.
    """
    values = _checked(figures)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, None, None, 1)
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean, len(values))
    found = stats.bootstrap(
        (values,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=np.random.default_rng(seed)
    ).confidence_interval
    if not np.isfinite([found.low, found.high]).all():  # figures that differ by rounding alone
        return Interval(mean, mean, mean, len(values))
    return Interval(mean, float(found.low), float(found.high), len(values))


def relative_gain(ours: Figures, reference: Figures, seed: int = 0) -> Interval | None:
    """Mean of ours over the mean of the reference, less 1, and its bootstrap interval over pairs.

    Args:
        ours, reference: [seeds], of the same seeds in the same order, not below 0.
        seed: of the resamples.

    Returns:
        0.5 means half as much again; None where the reference's mean is below LOW: multiples of nothing say nothing.

    Raises:
        DataError: different numbers of seeds, or NaN.
    """
    a, b = _checked(ours), _checked(reference)
    _check_pairs(a, b)
    if b.mean() < LOW:
        return None
    ratio = _ratio_of_means(a, b, seed)
    low, high = (None if end is None else end - 1 for end in (ratio.low, ratio.high))
    return Interval(ratio.mean - 1, low, high, ratio.n)


def gain_ratio(ours: Figures, theirs: Figures, reference: Figures, seed: int = 0) -> Interval | None:
    """How many times their gain over the reference ours is, and the bootstrap interval over seeds.

    Args:
        ours, theirs, reference: [seeds], of the same seeds in the same order.
        seed: of the resamples.

    Returns:
        3.0 means three times the gain. Where the interval of their gain holds 0, the multiple has no upper end (None);
        its lower one is the largest k for which the interval of our gain less k times theirs stays above 0 (Fieller
        1954). None where they gained nothing, where not even our gain stays above 0, and of a single seed.

    Raises:
        DataError: different numbers of seeds, or NaN.
    """
    a, b, base = _checked(ours), _checked(theirs), _checked(reference)
    _check_pairs(a, b)
    _check_pairs(a, base)
    n, ours_gain, their_gain = len(a), a - base, b - base
    if n == 1 or their_gain.mean() <= 0:
        return None
    over, under = _resampled(n, seed, ours_gain, their_gain)
    tail, ratio = (1 - CONFIDENCE) / 2, float(ours_gain.mean() / their_gain.mean())
    if np.quantile(under, tail) > 0:  # as the lower end that `relative_gain` tells
        return Interval(ratio, *_ratio_ends(over, under), n)

    def lower(k: float) -> float:
        """Falls from where nothing is taken off to a mean of 0."""
        return float(np.quantile(over - k * under, tail))

    if ratio <= 0 or lower(0) <= 0:
        return None
    return Interval(ratio, float(optimize.bisect(lower, 0, ratio, xtol=1e-3)), None, n)


def _ratio_of_means(tops: Float[np.ndarray, " n"], bottoms: Float[np.ndarray, " n"], seed: int) -> Interval:
    """Mean over mean, and its interval over resampled pairs."""
    ratio, n = float(tops.mean() / bottoms.mean()), len(tops)
    if n == 1:
        return Interval(ratio, None, None, 1)
    return Interval(ratio, *_ratio_ends(*_resampled(n, seed, tops, bottoms)), n)


def _ratio_ends(over: Float[np.ndarray, " resamples"], under: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Percentiles of the ratio of resampled means; those whose lower mean is not above 0 are left out."""
    low, high = np.quantile(over[under > 0] / under[under > 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return low, high


def _resampled(n: int, seed: int, *figures: Float[np.ndarray, " n"]) -> list[Float[np.ndarray, " resamples"]]:
    """Means of the same resamples of each."""
    rows = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    return [of[rows].mean(1) for of in figures]


def paired(ours: Figures, theirs: Figures, seed: int = 0) -> Paired:
    """Compare two strategies seed by seed.

    The test flips the signs of the differences: exact up to 13 seeds, else over 9,999 random patterns. The smallest p
    that n seeds can give is 2^(1 − n): with fewer than 6 seeds nothing can be shown.

    Args:
        ours, theirs: [seeds], of the same seeds in the same order.
        seed: of random flips and resamples.

    Raises:
        DataError: different numbers of seeds, or NaN.
    """
    a, b = _checked(ours), _checked(theirs)
    _check_pairs(a, b)
    differences = a - b
    sd = float(differences.std(ddof=1)) if len(a) > 1 else None
    return Paired(
        mean_interval(differences, seed),
        sd,
        _sign_flip_p(differences, seed),
        None,
        _detectable(sd, len(a)),
    )


def corrected(comparisons: Mapping[Key, Paired]) -> dict[Key, Paired]:
    """The same comparisons with Holm's correction for their number (Holm 1979)."""
    adjusted = holm([one.p for one in comparisons.values()])
    return {
        name: replace(
            one, p_corrected=p, detectable_corrected=_detectable(one.sd, one.difference.n, len(adjusted)),
            tests=len(adjusted),
        )
        for (name, one), p in zip(comparisons.items(), adjusted, strict=True)
    }  # fmt: skip


def _detectable(sd: float | None, n: int, tests: int = 1) -> float | None:
    return None if sd is None else detectable_difference(sd, n, tests)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m is multiplied by m − i + 1, and none is below one before."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def smallest_p(n_seeds: int) -> float:
    """That a paired permutation test can give."""
    return min(1.0, 2.0 ** (1 - n_seeds))


def detectable_difference(sd: float, n: int, tests: int = 1) -> float | None:
    """Smallest true difference that the paired test of n seeds finds with a power of 0.8, if seeds differ as normally.

    Args:
        sd: standard deviation of the differences.
        n: seeds, at least 2.
        tests: as many share the level of 0.05 evenly (Bonferroni), which is the first and strictest step of Holm's.

    Returns:
        in units of sd; None where so few seeds cannot show any. Up to 13 seeds the test that flips signs is simulated;
        for more, of a paired t-test, which it comes to equal (the non-central t distribution, Cohen 1988).
    """
    level = (1 - CONFIDENCE) / tests
    if smallest_p(n) >= level:
        return None
    return sd * (_flipped_effect(n, level) if n <= EXACT_SEEDS else _t_effect(n, level))


@cache
def _flipped_effect(n: int, level: float) -> float:
    """In units of sd; the same draws for every effect."""
    draws = np.random.default_rng(0).standard_normal((DRAWS, n))
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=n - 1)))
    signs = np.concatenate([np.ones((len(signs), 1)), signs], axis=1)  # the other half are these with all signs turned
    flipped, sums = draws @ signs.T, signs.sum(1)

    def missing(effect: float) -> float:
        means = np.abs(flipped + effect * sums)
        p = (means >= means[:, :1] - 1e-9).mean(1)  # the first pattern is what was seen
        return float((p < level).mean()) - POWER

    return _smallest(missing)


@cache
def _t_effect(n: int, level: float) -> float:
    limit = stats.t.ppf(1 - level / 2, n - 1)

    def missing(effect: float) -> float:
        shift = effect * np.sqrt(n)
        # The other tail is so small for large shifts that scipy gives NaN for it.
        other = np.nan_to_num(stats.nct.cdf(-limit, n - 1, shift))
        return float(stats.nct.sf(limit, n - 1, shift) + other) - POWER

    return _smallest(missing)


def _smallest(missing: Callable[[float], float]) -> float:
    """Effect at which nothing is missing any more."""
    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-3))


def area_under(cost: Figures, figure: Figures, low: float, high: float) -> float:
    """Mean height of a piecewise linear curve between two costs: its area there over their distance.

    Args:
        cost: rising strictly; what was spent at each point, e.g. boxes.
        figure: what was reached.
        low, high: between these costs; inside the curve's own, as strategies are compared where all have been.

    Raises:
        DataError: costs that do not rise, or limits outside them.
    """
    x, y = _checked(cost), _checked(figure)
    if len(x) != len(y) or not (np.diff(x) > 0).all():
        raise DataError(
            "a curve's costs must rise", got=f"costs {x.tolist()}, {len(y)} figures", expected="rising costs"
        )
    if not x[0] <= low < high <= x[-1]:
        raise DataError(
            "the area is asked for where the curve has not been", got=f"{low:g} to {high:g}",
            expected=f"within {x[0]:g} to {x[-1]:g}",
        )  # fmt: skip
    inside = (x > low) & (x < high)
    at = np.concatenate([[low], x[inside], [high]])
    return float(np.trapezoid(np.interp(at, x, y), at) / (high - low))


def cost_to_reach(cost: Figures, figure: Figures, target: float) -> float | None:
    """Least cost at which a piecewise linear curve reaches a target; None when it never does."""
    x, y = _checked(cost), _checked(figure)
    if y[0] >= target:
        return float(x[0])
    for i in range(1, len(x)):
        if y[i] >= target:
            return float(x[i - 1] + (x[i] - x[i - 1]) * (target - y[i - 1]) / (y[i] - y[i - 1]))
    return None


def _sign_flip_p(differences: Float[np.ndarray, " seeds"], seed: int) -> float:
    if len(differences) < 2 or not differences.any():
        return 1.0
    return float(
        stats.permutation_test(
            (differences, np.zeros_like(differences)), _mean_difference, vectorized=True, permutation_type="samples",
            n_resamples=RESAMPLES, rng=np.random.default_rng(seed),
        ).pvalue
    )  # fmt: skip


def _mean_difference(a: np.ndarray, b: np.ndarray, axis: int) -> Any:
    return np.mean(a - b, axis=axis)


def _check_pairs(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> None:
    if len(a) != len(b):
        raise DataError(
            "strategies are compared over the same seeds", got=f"{len(a)} and {len(b)} figures",
            expected="one figure of each for each seed", fix="let the missing cells run",
        )  # fmt: skip


def _checked(figures: Figures) -> Float[np.ndarray, " n"]:
    values = np.asarray(figures, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise DataError(
            "figures over seeds must be finite numbers", got=str(values.tolist())[:200],
            expected="one number for each seed",
        )  # fmt: skip
    return values
