"""Matching pursuit against the whole matrix and a generic solver, and its promises at sizes where that is too slow."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.selection.kernels.omp import BY_SCORE, OmpResult, omp
from tests.oracles import omp as oracle

SIMILARITIES = {"cosine": oracle.cosine_similarity, "euclidean": oracle.euclidean_similarity}
similarities = pytest.mark.parametrize("similarity", SIMILARITIES)


def clips(n: int, d: int, seed: int, *, length: int = 5, relu: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of near-duplicate frames, and skewed scores."""
    generator = np.random.default_rng(seed)
    embeddings = np.repeat(generator.normal(size=(-(-n // length), d)), length, axis=0)[:n]
    embeddings += 0.1 * generator.normal(size=(n, d))
    return (np.maximum(embeddings, 0) if relu else embeddings), generator.random(n) ** 4


def layer_0(result: OmpResult) -> np.ndarray:
    return result.positions[result.layer == 0]


def check_kkt(columns: np.ndarray, scores: np.ndarray, result: OmpResult, tolerance: float) -> None:
    """At the end of each layer its weights are the bounded minimum over its support."""
    norms = np.linalg.norm(columns, axis=0)
    for number in range(result.layer.max() + 1):
        support, x = result.positions[result.layer == number], result.weights[result.layer == number]
        correlation = columns[:, support].T @ (scores - columns[:, support] @ x) / norms[support]
        correlation /= np.linalg.norm(scores)
        assert (correlation[x < 1] <= tolerance).all()
        assert (correlation[x > 0] >= -tolerance).all()
        assert ((x >= 0) & (x <= 1)).all()


@similarities
@pytest.mark.parametrize(("n", "d", "relu", "largest"), [
    (60, 5, False, 1.0), (100, 8, True, 1.0), (30, 40, True, 1.0), (120, 12, False, 20.0), (60, 20, True, 40.0),
])  # fmt: skip
def test_same_picks_and_objective_as_the_dense_oracle(
    n: int, d: int, relu: bool, largest: float, similarity: str
) -> None:
    embeddings, scores = clips(n, d, seed=n + d, relu=relu)
    scores *= largest  # above D's row sums the bound x ≤ 1 binds
    matrix = SIMILARITIES[similarity](embeddings)
    result = omp(embeddings, scores, 20, similarity=similarity)
    assert result.positions.tolist() == oracle.omp(matrix, scores, 20)
    picks, weights, correlations = oracle.layer(matrix, scores, 20, np.ones(n, bool))
    assert layer_0(result).tolist() == picks
    error = matrix[:, picks] @ weights - scores
    assert result.objective == pytest.approx(error @ error, rel=1e-9)
    np.testing.assert_allclose(result.correlation[: len(picks)], correlations, rtol=1e-6, atol=1e-9)
    assert result.saturated_after == (None if len(picks) == 20 else len(picks))
    check_kkt(matrix, scores, result, 1e-9)


@similarities
def test_eager_and_swept_picks_are_the_same(similarity: str) -> None:
    embeddings, scores = clips(3000, 24, seed=1, length=50, relu=True)
    swept = omp(embeddings.astype(np.float32), scores, 120, similarity=similarity)
    eager = omp(embeddings.astype(np.float32), scores, 120, similarity=similarity, sweep=False)
    assert swept.positions.tolist() == eager.positions.tolist()
    assert swept.n_finalists < 0.02 * eager.n_finalists


def test_non_negative_embeddings_saturate_early() -> None:
    """As measured on embeddings after a ReLU: far fewer non-zeros than the 200 asked for and the 160 dimensions."""
    embeddings, scores = clips(2000, 160, seed=0, length=100)
    embeddings = np.maximum(embeddings + 0.5, 0).astype(np.float32)
    result = omp(embeddings, scores, 200)
    assert result.saturated_after is not None
    assert 12 <= result.saturated_after <= 20
    assert len(set(result.positions.tolist())) == 200
    assert np.count_nonzero(result.layer == 0) == result.saturated_after
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    support = layer_0(result)
    residual = scores - unit @ (unit[support].T @ result.weights[: len(support)])
    correlation = unit @ (unit.T @ residual) / np.linalg.norm(unit @ unit.T, axis=1)
    outside = np.delete(correlation, support)
    target = scores @ unit @ np.linalg.pinv(unit.T @ unit) @ unit.T @ scores
    assert outside.max() <= 1.0001e-6 * np.sqrt(target)


@similarities
@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_float_types_and_memory_maps(similarity: str, kind: type, tmp_path: Path) -> None:
    embeddings, scores = clips(500, 12, seed=2)
    embeddings = embeddings.astype(np.float16)  # exact in all of them
    expected = omp(embeddings.astype(np.float32), scores, 40, similarity=similarity)
    np.save(tmp_path / "embeddings.npy", embeddings.astype(kind))
    result = omp(np.load(tmp_path / "embeddings.npy", mmap_mode="r"), scores, 40, similarity=similarity)
    assert result.positions.tolist() == expected.positions.tolist()
    np.testing.assert_array_equal(result.weights, expected.weights)


def test_cosine_does_not_see_lengths() -> None:
    embeddings, scores = clips(200, 8, seed=3)
    lengths = np.random.default_rng(0).choice([1e-20, 0.5, 4.0, 1e30], size=(200, 1))
    scaled = omp(embeddings * lengths, scores, 30)
    assert scaled.positions.tolist() == omp(embeddings, scores, 30).positions.tolist()


def test_euclidean_does_not_see_origin_and_unit() -> None:
    embeddings, scores = clips(200, 8, seed=3)
    expected = omp(embeddings, scores, 30, similarity="euclidean")
    for moved in (embeddings + 1e4, 1e6 * embeddings, 1e-25 * embeddings):
        result = omp(moved, scores, 30, similarity="euclidean")
        assert result.positions.tolist() == expected.positions.tolist()
        assert result.objective == pytest.approx(expected.objective, rel=1e-9)


@similarities
def test_permutation_equivariance(similarity: str) -> None:
    embeddings, scores = clips(300, 10, seed=4)
    order = np.random.default_rng(0).permutation(300)
    result = omp(embeddings[order], scores[order], 50, similarity=similarity)
    expected = omp(embeddings, scores, 50, similarity=similarity)
    assert order[result.positions].tolist() == expected.positions.tolist()


@similarities
def test_deterministic(similarity: str) -> None:
    embeddings, scores = clips(300, 10, seed=5)
    first, second = (omp(embeddings, scores, 50, similarity=similarity) for _ in range(2))
    for name in ("positions", "weights", "layer", "correlation"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@similarities
def test_zero_scores_are_filled_by_position(similarity: str) -> None:
    result = omp(clips(20, 3, seed=6)[0], np.zeros(20), 5, similarity=similarity)
    assert result.positions.tolist() == [0, 1, 2, 3, 4]
    assert (result.layer == BY_SCORE).all()
    assert (result.saturated_after, result.objective) == (0, 0.0)


def test_negative_scores_are_filled_by_score() -> None:
    embeddings = np.abs(clips(20, 3, seed=6)[0])
    scores = -np.random.default_rng(0).random(20)
    assert omp(embeddings, scores, 6).positions.tolist() == np.argsort(-scores)[:6].tolist()


@similarities
@pytest.mark.parametrize("name", ["duplicates", "zero rows", "constant column", "all equal", "d > n", "one-hot"])
def test_rank_deficiency(similarity: str, name: str) -> None:
    embeddings, scores = clips(40, 6, seed=7)
    if name == "duplicates":
        embeddings[20:] = embeddings[:20]
    elif name == "zero rows":
        embeddings[::3] = 0
    elif name == "constant column":
        embeddings[:, 1], embeddings[:, 2] = 1.0, 0.0
    elif name == "all equal":
        embeddings[:] = embeddings[0]
    elif name == "d > n":
        embeddings = clips(40, 90, seed=7)[0]
    else:
        embeddings, scores = np.eye(40), np.full(40, 0.3)
    expected = oracle.omp(SIMILARITIES[similarity](embeddings), scores, 40)
    assert omp(embeddings, scores, 40, similarity=similarity).positions.tolist()[:10] == expected[:10]


@similarities
def test_all_rows_and_one_row(similarity: str) -> None:
    embeddings, scores = clips(50, 4, seed=8)
    everything = omp(embeddings, scores, 50, similarity=similarity)
    assert sorted(everything.positions.tolist()) == list(range(50))
    assert omp(embeddings[:1], scores[:1], 1, similarity=similarity).positions.tolist() == [0]


@similarities
def test_only_pickable_images_are_picked(similarity: str) -> None:
    embeddings, scores = clips(60, 5, seed=9)
    pickable = np.arange(60) % 3 == 1
    result = omp(embeddings, scores, 20, similarity=similarity, pickable=pickable)
    assert sorted(result.positions.tolist()) == np.flatnonzero(pickable).tolist()
    fewer = omp(embeddings, scores, 8, similarity=similarity, pickable=pickable)
    assert fewer.positions.tolist() == oracle.omp(SIMILARITIES[similarity](embeddings), scores, 8, pickable)


def test_nothing_of_size_images_by_picks_is_held() -> None:
    embeddings, scores = clips(20_000, 64, seed=10, length=100)
    embeddings = embeddings.astype(np.float32)
    tracemalloc.start()
    omp(embeddings, scores, 100, similarity="euclidean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * embeddings.nbytes  # 20 MB; an n × N matrix in float64 would add 16 MB, a copy in float64 10 MB
    # What grows with n alone: 10 numbers an image. The rest is blocks.
    assert peak < 20_000 * 10 * 8 + 12e6


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 25), st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from(list(SIMILARITIES)),
    st.floats(0.01, 50), st.data(),
)  # fmt: skip
def test_any_small_pool(n: int, d: int, seed: int, similarity: str, largest: float, data: st.DataObject) -> None:
    generator = np.random.default_rng(seed)
    embeddings = np.round(generator.normal(size=(n, d)), 1)  # with duplicates and zeros
    scores = largest * (generator.random(n) - 0.2)
    k = data.draw(st.integers(1, n))
    result = omp(embeddings, scores, k, similarity=similarity)
    assert len(set(result.positions.tolist())) == len(result.positions) == k
    assert (np.diff(np.where(result.layer == BY_SCORE, n, result.layer)) >= 0).all()
    matrix = SIMILARITIES[similarity](embeddings)
    check_kkt(matrix, scores, result, 1e-9)
    picks, weights, _ = oracle.layer(matrix, scores, k, np.ones(n, bool), least=1e-5)
    assert layer_0(result)[: len(picks)].tolist() == picks
    if len(picks) == len(layer_0(result)):
        assert result.objective == pytest.approx(np.square(matrix[:, picks] @ weights - scores).sum(), rel=1e-8)
