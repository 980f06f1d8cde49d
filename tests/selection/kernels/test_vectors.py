"""The one distance, its screening in float32, and groups."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.selection.kernels.compiled import exact_pairs, exact_squared
from poolscout.selection.kernels.groups import find_groups
from poolscout.selection.kernels.tensor_shard import _exact
from poolscout.selection.kernels.vectors import Vectors
from tests.selection.kernels.pools import clips


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), d=st.integers(1, 40), exponent=st.integers(-20, 20), is_wide=st.booleans())
def test_one_distance_everywhere(seed: int, d: int, exponent: int, is_wide: bool) -> None:
    generator = np.random.default_rng(seed)
    a, b = (generator.standard_normal((4, d)) * 10.0**exponent for _ in range(2))
    a, b = (a, b) if is_wide else (a.astype(np.float32), b.astype(np.float32))
    scales = generator.random((2, 4))
    one = [exact_squared(a[i], scales[0, i], b[i], scales[1, i]) for i in range(4)]
    assert one == exact_pairs(a, scales[0], b, scales[1]).tolist()
    assert one == _exact(*map(torch.from_numpy, (a, scales[0].copy(), b, scales[1].copy()))).tolist()
    assert exact_squared(a[0], scales[0, 0], a[0], scales[0, 0]) == 0
    true = sum((Fraction(float(x)) - Fraction(float(y))) ** 2 for x, y in zip(a[0], b[0], strict=True))
    assert exact_squared(a[0], 1.0, b[0], 1.0) == pytest.approx(float(true), rel=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32), d=st.integers(1, 200), offset=st.sampled_from([0.0, 1.0, 100.0]),
    metric=st.sampled_from(["euclidean", "cosine"]), dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)  # fmt: skip
def test_screening_is_never_off_by_more_than_its_bound(
    seed: int, d: int, offset: float, metric: str, dtype: type
) -> None:
    rows = (np.random.default_rng(seed).standard_normal((30, d)) + offset).astype(dtype)
    vectors = Vectors.of(rows, metric)
    raw = vectors.raw(np.arange(30))
    y, q = vectors.screened(raw, vectors.scales)
    screened = q[:, None] + q[None] - 2 * (y @ y.T)
    exact = np.array([exact_pairs(raw[i : i + 1], vectors.scales[i : i + 1], raw, vectors.scales) for i in range(30)])
    room = vectors.error * (q[:, None].astype(np.float64) + q[None])
    assert (np.abs(screened - exact * vectors.unit**2) <= room / 2).all()  # the other half is for rounding limits


@pytest.mark.parametrize("shuffle", [False, True])
def test_groups_are_found_whatever_the_order_of_the_rows(shuffle: bool) -> None:
    vectors = Vectors.of(clips(6000, 40, per=50, shuffle=shuffle), "euclidean")
    with ThreadPoolExecutor(2) as pool:
        groups = find_groups(vectors, pool)
    assert groups is not None
    n_groups = len(groups.centres)
    assert 120 <= n_groups <= 1000  # 120 clips
    rows = np.arange(6000) if groups.rows is None else groups.rows
    assert sorted(rows.tolist()) == list(range(6000))
    assert groups.starts[0] == 0
    assert groups.starts[-1] == 6000
    group = np.repeat(np.arange(n_groups), np.diff(groups.starts))
    y = (vectors.source[rows].astype(np.float64) - vectors.mean) * vectors.unit
    distance = np.linalg.norm(y - groups.centres[group], axis=1)
    assert (distance <= groups.radius).all()
    assert (groups.radius <= groups.reach[group]).all()
    assert np.median(groups.radius) / vectors.unit < 2.0  # strangers are 9 apart


def test_strangers_are_not_grouped() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert find_groups(Vectors.of(clips(5000, 40, per=1), "euclidean"), pool) is None


def test_rows_of_a_table_in_another_order() -> None:
    source = clips(50, 7)
    rows = np.random.default_rng(0).permutation(50)[:20]
    vectors, copied = Vectors.of(source, "cosine", rows), Vectors.of(source[rows], "cosine")
    np.testing.assert_array_equal(vectors.raw(np.array([3, 1])), copied.raw(np.array([3, 1])))
    np.testing.assert_array_equal(vectors.scales, copied.scales)
