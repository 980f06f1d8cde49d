"""The Gaussian kernel: near images found, truncation told, picks as the dense oracle's on the same kernel."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.selection.kernels.omp_gaussian import omp_gaussian
from poolscout.selection.kernels.omp_gaussian_kernel import (
    CUT,
    centred,
    default_bandwidth,
    dense_kernel,
    dropped_mass,
    sparse_kernel,
)
from poolscout.selection.kernels.omp_neighbours import nearest
from tests.oracles import omp as oracle
from tests.selection.kernels.test_omp import check_kkt, clips

CASES = [(60, 5, 1.0), (100, 8, 3.0), (40, 3, 1.0), (90, 12, 20.0)]


@pytest.mark.parametrize(("n", "d", "largest"), CASES)
def test_dense_mode_is_the_oracle(n: int, d: int, largest: float) -> None:
    embeddings, scores = clips(n, d, seed=n)
    scores *= largest
    result = omp_gaussian(embeddings, scores, 25)
    matrix = oracle.gaussian_similarity(embeddings, result.bandwidth)
    assert result.positions.tolist() == oracle.omp(matrix, scores, 25)
    picks, weights, _ = oracle.layer(matrix, scores, 25, np.ones(n, bool))
    assert result.objective == pytest.approx(np.square(matrix[:, picks] @ weights - scores).sum(), rel=1e-9)
    assert result.dropped_mass == 0
    check_kkt(matrix, scores, result, 1e-9)


@pytest.mark.parametrize(("n", "d", "largest"), CASES)
@pytest.mark.parametrize("bandwidth", [None, 0.8])
def test_sparse_mode_is_the_oracle_on_the_kernel_it_states(
    n: int, d: int, largest: float, bandwidth: float | None
) -> None:
    embeddings, scores = clips(n, d, seed=n)
    scores *= largest
    result = omp_gaussian(embeddings, scores, 25, neighbours=6, bandwidth=bandwidth, dense_up_to=0)
    matrix = sparse_kernel(centred(embeddings), result.bandwidth, 6).dense()
    assert result.positions.tolist() == oracle.omp(matrix, scores, 25)
    picks, weights, _ = oracle.layer(matrix, scores, 25, np.ones(n, bool))
    assert result.objective == pytest.approx(np.square(matrix[:, picks] @ weights - scores).sum(), rel=1e-9)
    assert 0 < result.dropped_mass < 1
    check_kkt(matrix, scores, result, 1.1e-9)


def test_sparse_mode_solves_blocks_that_overlap() -> None:
    """More atoms than a block holds, all of them neighbours of neighbours: 600 images along a line."""
    generator = np.random.default_rng(0)
    embeddings, scores = np.sort(generator.random((600, 1)) * 100, axis=0), generator.random(600)
    kernel = sparse_kernel(centred(embeddings), 1.0, 60)
    result = omp_gaussian(embeddings, scores, 300, bandwidth=1.0, neighbours=60, dense_up_to=0)
    first = np.count_nonzero(result.layer == 0)
    assert first > 60
    check_kkt(kernel.dense(), scores, result, 1.1e-9)
    if result.saturated_after is not None:
        matrix = kernel.dense()
        x = np.zeros(600)
        x[result.positions[:first]] = result.weights[:first]
        correlation = matrix @ (scores - matrix @ x) / np.linalg.norm(matrix, axis=0) / np.linalg.norm(scores)
        assert np.delete(correlation, result.positions[:first]).max() <= 1.001e-6


def test_with_all_neighbours_the_sparse_kernel_is_the_whole_one() -> None:
    embeddings = clips(80, 4, seed=1)[0]
    features = centred(embeddings)
    kernel = sparse_kernel(features, 2.0, 1000)
    expected = oracle.gaussian_similarity(embeddings, 2.0)
    np.testing.assert_allclose(dense_kernel(features, 2.0), expected, rtol=1e-12)
    np.testing.assert_allclose(kernel.dense(), np.where(expected >= CUT, expected, 0), rtol=1e-12)
    lost = 1 - kernel.dense().sum() / expected.sum()
    assert dropped_mass(features, 2.0, kernel) == pytest.approx(lost, abs=1e-12)  # all 80 rows are in the sample


@pytest.mark.parametrize("radius", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("length", [1, 40])
def test_nearest_are_those_of_brute_force(radius: float, length: int) -> None:
    features = clips(900, 6, seed=2, length=length)[0]
    found = nearest(features, 12, radius)
    for i in range(0, 900, 37):
        distances = np.linalg.norm(features - features[i], axis=1)
        distances[i] = np.inf
        expected = [int(j) for j in np.argsort(distances)[:12] if distances[j] <= radius]
        assert sorted(found[i][found[i] >= 0].tolist()) == sorted(expected)


def test_nearest_among_many_chunks() -> None:
    """Few neighbours of many rows: only the chunks with the smallest minima are looked through."""
    features = np.random.default_rng(0).normal(size=(3001, 5))
    found = nearest(features, 3, np.inf)
    distances = np.linalg.norm(features[:, None] - features[None, :40], axis=2)
    distances[np.arange(40), np.arange(40)] = np.inf
    np.testing.assert_array_equal(np.sort(found[:40]), np.sort(np.argsort(distances, axis=0)[:3].T))


def test_default_bandwidth_is_the_median_distance_to_the_8th_neighbour() -> None:
    embeddings = clips(100, 5, seed=3)[0]
    apart = np.sort(np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2), axis=1)
    assert default_bandwidth(centred(embeddings)) == pytest.approx(np.median(apart[:, 8]))
    assert default_bandwidth(centred(np.repeat(embeddings, 20, axis=0)[:200])) > 0.1  # duplicates are no neighbours
    assert default_bandwidth(np.zeros((5, 3))) == default_bandwidth(np.zeros((1, 3))) == 1.0


def test_origin_does_not_matter() -> None:
    embeddings, scores = clips(300, 6, seed=4)
    for dense_up_to in (0, 1000):
        expected = omp_gaussian(embeddings, scores, 40, neighbours=20, dense_up_to=dense_up_to)
        moved = omp_gaussian(embeddings + 1e4, scores, 40, neighbours=20, dense_up_to=dense_up_to)
        assert moved.positions.tolist() == expected.positions.tolist()


def test_order_of_the_rows_does_not_matter() -> None:
    embeddings, scores = clips(300, 6, seed=4)
    order = np.random.default_rng(0).permutation(300)
    expected = omp_gaussian(embeddings, scores, 60, bandwidth=1.0, neighbours=20, dense_up_to=0)
    result = omp_gaussian(embeddings[order], scores[order], 60, bandwidth=1.0, neighbours=20, dense_up_to=0)
    assert order[result.positions].tolist() == expected.positions.tolist()


def test_goes_on_where_the_low_rank_similarity_saturates() -> None:
    embeddings, scores = clips(1000, 3, seed=5, length=2)
    assert omp_gaussian(embeddings, scores, 100, bandwidth=0.2).saturated_after is None


def test_sparse_memory_grows_with_neighbours_and_not_with_picks() -> None:
    embeddings, scores = clips(6000, 16, seed=6, length=100)
    tracemalloc.start()
    omp_gaussian(embeddings.astype(np.float32), scores, 2000, neighbours=32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 2000 * 4


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 25), st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.3, 3), st.data()
)
def test_any_small_pool(n: int, d: int, seed: int, neighbours: int, bandwidth: float, data: st.DataObject) -> None:
    generator = np.random.default_rng(seed)
    embeddings = np.round(generator.normal(size=(n, d)), 1)  # with duplicates
    scores = generator.random(n) - 0.2
    k = data.draw(st.integers(1, n))
    result = omp_gaussian(embeddings, scores, k, neighbours=neighbours, bandwidth=bandwidth, dense_up_to=0)
    assert len(set(result.positions.tolist())) == len(result.positions) == k
    matrix = sparse_kernel(centred(embeddings), bandwidth, neighbours).dense()
    np.testing.assert_array_equal(matrix, matrix.T)
    check_kkt(matrix, scores, result, 1.1e-9)
