"""What the samplers "omp" and "omp-gaussian" make of candidates, and what they say of their picks."""

from __future__ import annotations

import numpy as np
import pytest

from poolscout.errors import CapabilityError
from poolscout.selection.kernels.omp import OmpResult, omp
from poolscout.selection.kernels.omp_gaussian import omp_gaussian
from poolscout.selection.kernels.omp_words import picked
from poolscout.selection.registry import Candidates, Picked, run_sampler, samplers
from tests.selection.kernels.test_omp import clips

both = pytest.mark.parametrize("name", ["omp", "omp-gaussian"])
GENERATOR = np.random.default_rng(0)  # of no use to either


def pick(name: str, candidates: Candidates, n: int) -> Picked:
    return run_sampler(samplers.get(name), candidates, n, GENERATOR)


def of_layers(*layers: int, saturated_after: int | None, **more: float | None) -> OmpResult:
    k = len(layers)
    numbers = np.zeros(k)
    return OmpResult(
        np.arange(k), numbers, np.array(layers, np.int32), numbers, saturated_after, 0.0, **more  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scores_to_their_power_are_the_target_and_the_metric_the_similarity(metric: str) -> None:
    embeddings, scores = clips(60, 5, seed=1)
    rows = np.arange(60)[::-1][:50].copy()
    candidates = Candidates(
        50, scores=scores[rows], embeddings=embeddings, rows=rows, metric=metric, score_power=2.0,
        labelled_embeddings=embeddings[:6],
    )  # fmt: skip
    expected = omp(embeddings[rows], scores[rows] ** 2, 20, similarity=metric, given=embeddings[:6])
    assert pick("omp", candidates, 20).positions.tolist() == expected.positions.tolist()
    if metric == "cosine":
        embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    gaussian = omp_gaussian(embeddings[rows], scores[rows] ** 2, 20, given=embeddings[:6])
    assert pick("omp-gaussian", candidates, 20).positions.tolist() == gaussian.positions.tolist()


@both
def test_power_0_needs_no_scores(name: str) -> None:
    embeddings = clips(40, 4, seed=2)[0]
    without = pick(name, Candidates(40, embeddings=embeddings, score_power=0.0), 10)
    with_ones = pick(name, Candidates(40, scores=np.ones(40), embeddings=embeddings), 10)
    assert without.positions.tolist() == with_ones.positions.tolist()
    with pytest.raises(CapabilityError, match="scores"):
        pick(name, Candidates(40, embeddings=embeddings), 10)


@both
def test_a_labelled_image_takes_the_place_of_its_like(name: str) -> None:
    """Two clips: the better one is picked from first, unless it is labelled."""
    embeddings = np.repeat(np.eye(2), 5, axis=0) + 0.01 * np.random.default_rng(0).random((10, 2))
    scores = np.repeat([0.9, 0.6], 5)
    candidates = Candidates(10, scores=scores, embeddings=embeddings, metric="cosine")
    assert pick(name, candidates, 1).positions[0] < 5
    assert pick(name, candidates.away_from(np.arange(5)).only(np.arange(10)), 1).positions[0] >= 5


def test_gaussian_leaves_rows_of_zeros_as_they_are() -> None:
    embeddings, scores = clips(30, 4, seed=3)
    embeddings[7] = 0
    candidates = Candidates(30, scores=scores, embeddings=embeddings, metric="cosine")
    assert sorted(pick("omp-gaussian", candidates, 30).positions.tolist()) == list(range(30))


def test_gaussian_refuses_what_is_too_much_and_says_what_to_do() -> None:
    embeddings = np.broadcast_to(np.float32(1), (500_001, 2))
    candidates = Candidates(500_001, scores=np.ones(500_001), embeddings=embeddings)
    with pytest.raises(CapabilityError, match=r"500,001[\s\S]*500,000[\s\S]*constraints\.prefilter"):
        pick("omp-gaussian", candidates, 1)
    labelled = Candidates(1, scores=np.ones(1), embeddings=embeddings[:1], labelled_embeddings=embeddings[:-1])
    with pytest.raises(CapabilityError, match="500,001"):
        pick("omp-gaussian", labelled, 1)


@pytest.mark.parametrize(
    ("result", "notes"),
    [
        (of_layers(0, 0, saturated_after=None), ()),
        (
            of_layers(0, 0, 1, saturated_after=2),
            ("eq. 6 was saturated after 2 images; the other 1 come from 1 restart over what was left",),
        ),
        (
            of_layers(*[0] * 104, *np.repeat(range(1, 10), 100)[:896], saturated_after=104),
            ("eq. 6 was saturated after 104 images; the other 896 come from 9 restarts over what was left",),
        ),
        (
            of_layers(0, 1, 2, -1, saturated_after=1, n_given=3),
            (
                "eq. 6 was saturated after 3 labelled images and 1 image; the other 3 come from 2 restarts over what "
                "was left, the last 1 by score",
            ),
        ),
        (of_layers(-1, -1, saturated_after=0), ("eq. 6 had nothing to improve; all 2 come by score",)),
        (
            of_layers(1, 1, saturated_after=0, n_given=8),
            ("eq. 6 was saturated after 8 labelled images; all 2 come from 1 restart over what was left",),
        ),
        (of_layers(0, saturated_after=None, bandwidth=0.5), ("Gaussian similarity of bandwidth 0.5",)),
        (
            of_layers(0, saturated_after=None, bandwidth=12.345, dropped_mass=0.0213),
            (
                "Gaussian similarity of bandwidth 12.3; similarities left out as too small or too many: 2.1% of their "
                "sum",
            ),
        ),
    ],
)
def test_notes_say_when_eq_6_was_saturated(result: OmpResult, notes: tuple[str, ...]) -> None:
    assert picked(result).notes == notes


def test_because_says_which_restart_found_a_pick() -> None:
    assert picked(of_layers(0, 1, 3, -1, saturated_after=1)).because == ["", "restart 1", "restart 3", "by score"]
