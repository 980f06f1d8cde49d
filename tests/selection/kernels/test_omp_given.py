"""Candidates that are some rows of a table, and images that are labelled already."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from poolscout.selection.kernels.omp import omp
from poolscout.selection.kernels.omp_gaussian import omp_gaussian
from poolscout.selection.kernels.omp_gaussian_kernel import centred, sparse_kernel
from tests.oracles import omp as oracle
from tests.selection.kernels.test_omp import clips, similarities

KINDS = [np.float16, np.float32, np.float64]


def similarity_between(rows: np.ndarray, others: np.ndarray, similarity: str) -> np.ndarray:
    """[n, L] of eq. 6's D, with the Euclidean unit that of both together about the mean of `rows`."""
    if similarity == "cosine":
        return oracle.cosine_similarity(np.vstack([rows, others]))[: len(rows), len(rows) :]
    both = np.vstack([rows, others])
    unit = 4 * np.square(both - rows.mean(0)).sum(1).max()
    return 1 - np.square(rows[:, None] - others[None]).sum(2) / unit


@similarities
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [60, 150, 200])
def test_rows_are_as_good_as_a_copy(n: int, kind: type, similarity: str) -> None:
    """A short-list, most of the table, and all of it in another order."""
    embeddings, _ = clips(200, 8, seed=1)
    embeddings = embeddings.astype(kind)
    rows, scores = np.random.default_rng(0).permutation(200)[:n], clips(n, 8, seed=2)[1]
    left_out = np.setdiff1d(np.arange(200), rows)
    expected = omp(embeddings[rows].copy(), scores, 40, similarity=similarity)
    embeddings[left_out] = np.finfo(kind).max  # nobody looks at these
    result = omp(embeddings, scores, 40, similarity=similarity, rows=rows)
    assert result.positions.tolist() == expected.positions.tolist()
    np.testing.assert_allclose(result.weights, expected.weights, rtol=1e-12)
    assert result.objective == pytest.approx(expected.objective, rel=1e-12)


def test_most_rows_of_a_table_are_not_copied() -> None:
    embeddings, scores = clips(30_000, 64, seed=3, length=100)
    embeddings, rows = embeddings.astype(np.float32), np.random.default_rng(0).permutation(30_000)[:20_000]
    tracemalloc.start()
    omp(embeddings, scores[rows], 10, rows=rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Three blocks of 4,096 in float64 and some numbers an image; a copy of the rows would add 5 MB.
    assert peak < 3 * 4096 * 64 * 8 + 20_000 * 6 * 8 + 3e6


@pytest.mark.parametrize("dense_up_to", [0, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_rows_are_as_good_as_a_copy(kind: type, dense_up_to: int) -> None:
    embeddings, scores = clips(200, 6, seed=4)
    embeddings, rows = embeddings.astype(kind), np.random.default_rng(0).permutation(200)[:120]
    expected = omp_gaussian(embeddings[rows], scores[:120], 40, neighbours=20, dense_up_to=dense_up_to)
    result = omp_gaussian(embeddings, scores[:120], 40, neighbours=20, rows=rows, dense_up_to=dense_up_to)
    assert result.positions.tolist() == expected.positions.tolist()


@similarities
@pytest.mark.parametrize(("n_given", "largest", "far"), [(1, 1.0, 1.0), (4, 10.0, 1.0), (60, 1.0, 1.0), (30, 5.0, 3.0)])
def test_labelled_images_explain_first(n_given: int, largest: float, far: float, similarity: str) -> None:
    embeddings, scores = clips(70, 6, seed=n_given)
    scores *= largest
    labelled = far * clips(n_given, 6, seed=100 + n_given, length=3)[0]
    matrix = similarity_between(embeddings, np.vstack([embeddings, labelled]), similarity)
    columns, of_labelled = matrix[:, :70], matrix[:, 70:]
    first, picks, weights = oracle.with_labelled(columns, of_labelled, scores, 20, most=8)
    result = omp(embeddings, scores, 20, similarity=similarity, given=labelled)
    assert result.n_given == len(first) > 0
    assert result.saturated_after == len(picks) < 20
    assert result.positions[result.layer == 0].tolist() == picks
    error = np.hstack([of_labelled[:, first], columns[:, picks]]) @ weights - scores
    assert result.objective == pytest.approx(error @ error, rel=1e-9)


@similarities
def test_swept_and_eager_picks_are_the_same_with_labelled_images(similarity: str) -> None:
    embeddings, scores = clips(3000, 24, seed=5, length=50)
    arguments = (embeddings[:2000].astype(np.float32), scores[:2000], 60)
    given = embeddings[1990:].astype(np.float32)
    swept, eager = (omp(*arguments, similarity=similarity, given=given, sweep=sweep) for sweep in (True, False))
    assert swept.positions.tolist() == eager.positions.tolist()
    assert swept.n_given == eager.n_given > 0


@similarities
def test_restarts_do_not_know_of_labelled_images(similarity: str) -> None:
    """Where the candidates themselves are labelled layer 0 is empty, and layer 1 is what layer 0 would have been."""
    embeddings, scores = clips(80, 5, seed=6)
    alone = omp(embeddings, scores, 30, similarity=similarity)
    result = omp(embeddings, scores, 30, similarity=similarity, given=embeddings)
    assert result.saturated_after == 0
    assert result.positions.tolist() == alone.positions.tolist()
    assert result.layer.tolist() == (alone.layer + 1).tolist()
    assert result.n_given == alone.saturated_after
    assert result.objective == pytest.approx(alone.objective)


@similarities
def test_no_labelled_image_is_none(similarity: str) -> None:
    embeddings, scores = clips(40, 5, seed=7)
    expected = omp(embeddings, scores, 10, similarity=similarity).positions.tolist()
    empty = np.empty((0, 5))
    assert omp(embeddings, scores, 10, similarity=similarity, given=empty).positions.tolist() == expected
    expected = omp_gaussian(embeddings, scores, 10).positions.tolist()
    assert omp_gaussian(embeddings, scores, 10, given=empty).positions.tolist() == expected
    assert omp_gaussian(embeddings, scores, 10, given=empty, dense_up_to=0).n_given == 0


@pytest.mark.parametrize("dense_up_to", [0, 1000])
@pytest.mark.parametrize("largest", [1.0, 8.0])
def test_gaussian_goes_on_from_what_labelled_images_leave(largest: float, dense_up_to: int) -> None:
    embeddings, scores = clips(120, 6, seed=8)
    embeddings, labelled, scores = embeddings[:90], embeddings[80:], largest * scores[:90]
    result = omp_gaussian(embeddings, scores, 80, bandwidth=0.5, neighbours=8, given=labelled, dense_up_to=dense_up_to)
    both = np.vstack([embeddings, labelled])
    matrix = oracle.gaussian_similarity(both, 0.5)
    if not dense_up_to:
        matrix = sparse_kernel(centred(both), 0.5, 8).dense()
    columns = matrix[:90, 90:]
    explained = columns @ oracle.fit(columns, scores, list(range(40)))
    residual = scores - explained
    scale = np.linalg.norm(scores) / np.linalg.norm(oracle.projected(matrix[:90, :90], residual))
    picks, weights, correlations = oracle.layer(matrix[:90, :90], residual, 80, np.ones(90, bool), least=1e-6 * scale)
    assert result.positions[: len(picks)].tolist() == picks
    assert (result.layer[: len(picks)] == 0).all()
    np.testing.assert_allclose(result.correlation[: len(picks)], np.array(correlations) / scale, atol=1e-6)
    error = matrix[:90, picks] @ weights - residual
    assert result.objective == pytest.approx(error @ error, rel=1e-6)
    assert 0 < result.n_given <= 40
    left = np.ones(90, bool)
    left[picks] = False
    restarted = oracle.layer(matrix[:90, :90], scores, 80 - len(picks), left)[0]
    assert result.positions[result.layer == 1].tolist() == restarted[: np.count_nonzero(result.layer == 1)] != []
