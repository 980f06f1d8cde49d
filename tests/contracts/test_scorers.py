"""What every registered scorer and aggregate promises; a new one is tested unasked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.config import ScorerChoice
from poolscout.detector.gives import MEMBERS
from poolscout.errors import DataError, NonFiniteError
from poolscout.scoring import score_maps
from poolscout.scoring.registry import OF_FIRST, Mean, aggregates, scorers
from tests.oracles import scoring as oracle
from tests.scoring.given import CHOICES, Given, make_given

every = pytest.mark.parametrize("choice", CHOICES, ids=[choice.column for choice in CHOICES])
on_maps_alone = pytest.mark.parametrize(
    "choice",
    [c for c in CHOICES if all(isinstance(i, Mean) and i.over == "members" for i in scorers.get(c.scorer).inputs)],
    ids=lambda choice: choice.column,
)


def test_every_scorer_and_aggregate_has_an_oracle() -> None:
    known = {*oracle.MAPS, *oracle.IMAGES, *oracle.ONE_BOX, *oracle.OBJECTS}
    assert set(scorers.names()) == known
    assert set(aggregates.names()) == set(oracle.AGGREGATES)
    assert {choice.scorer for choice in CHOICES} == known


@every
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6), members=st.integers(1, 4), images=st.integers(1, 3), classes=st.integers(1, 3),
    height=st.integers(1, 4),
)  # fmt: skip
def test_agrees_with_the_oracle_in_float64(
    choice: ScorerChoice, seed: int, members: int, images: int, classes: int, height: int
) -> None:
    shown = make_given(seed, members, images, classes, height)
    scores = shown.scores(choice)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    np.testing.assert_allclose(scores, shown.expected(choice), atol=2e-6, rtol=1e-5)


@every
def test_is_never_negative_and_keeps_its_bound(choice: ScorerChoice) -> None:
    scores = make_given(images=30).scores(choice)
    assert scores.min() >= 0
    assert scores.max() > 0
    if choice.aggregate != "sum":
        assert scores.max() <= scorers.get(choice.scorer).most + 1e-6


@every
def test_where_nothing_is_seen_there_is_nothing_to_learn(choice: ScorerChoice) -> None:
    shown = make_given()
    blank = Given(torch.zeros_like(shown.maps), shown.hidden, [[[] for _ in range(4)] for _ in range(3)])
    assert (blank.scores(choice) == 0).all()


@every
def test_order_of_members_does_not_matter(choice: ScorerChoice) -> None:
    shown = make_given(members=5)
    order = [3, 0, 4, 2, 1]
    if not OF_FIRST.isdisjoint(scorers.get(choice.scorer).inputs) or choice.scorer in oracle.ONE_BOX:
        order = [0, 3, 4, 2, 1]  # it looks at the first member alone, or at the ensemble's boxes
    torch.testing.assert_close(shown.with_members(order).scores(choice), shown.scores(choice), atol=1e-6, rtol=1e-5)


@every
def test_an_image_scores_the_same_in_any_company(choice: ScorerChoice) -> None:
    shown = make_given(images=6)
    together = shown.scores(choice)
    order = [4, 1, 5, 0, 3, 2]
    one_by_one = torch.cat([shown.with_images([image]).scores(choice) for image in order])
    torch.testing.assert_close(one_by_one, together[order], atol=1e-6, rtol=1e-5)


@every
def test_no_images_give_no_scores(choice: ScorerChoice) -> None:
    assert make_given(images=3).with_images([]).scores(choice).shape == (0, 2)


@pytest.mark.parametrize(
    "choice", [c for c in CHOICES if MEMBERS in scorers.get(c.scorer).needs], ids=lambda choice: choice.column
)
def test_members_that_are_alike_do_not_disagree(choice: ScorerChoice) -> None:
    alike = make_given().with_members([1] * 7)
    limit = 1e-5 if choice.aggregate == "sum" else 2e-6 if scorers.get(choice.scorer).gives == "boxes" else 5e-7
    assert alike.scores(choice).max() <= limit


@every
def test_the_given_inputs_are_left_alone(choice: ScorerChoice) -> None:
    shown = make_given()
    before = shown.maps.clone(), shown.hidden.clone()
    shown.scores(choice)
    assert torch.equal(shown.maps, before[0])
    assert torch.equal(shown.hidden, before[1])


@pytest.mark.parametrize("name", scorers.names())
def test_every_scorer_documents_source_unit_and_range(name: str) -> None:
    one = scorers.get(name)
    text = one.function.__doc__ or ""
    for word in ("Range", "Source:", "nats" if one.unit == "nats" else "without a\n    unit"):
        assert " ".join(word.split()) in " ".join(text.split()), word
    assert one.unit in ("nats", "1")


@on_maps_alone
def test_half_precision_is_raised_before_it_is_scored(choice: ScorerChoice) -> None:
    maps = make_given().maps.half()
    scores = [score_maps(m, choice.scorer, choice.aggregate, choice.k) for m in (maps, maps.float())]
    torch.testing.assert_close(*scores, atol=0, rtol=0)


@on_maps_alone
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused_and_the_image_named(choice: ScorerChoice, bad: float) -> None:
    maps = make_given().maps.clone()
    maps[2, 3, 1, 0, 2] = bad
    with pytest.raises(NonFiniteError, match="positions 3"):
        score_maps(maps, choice.scorer, choice.aggregate, choice.k)


@on_maps_alone
def test_logits_are_refused(choice: ScorerChoice) -> None:
    with pytest.raises(DataError, match=r"values from -3 to 2[\s\S]*sigmoid"):
        score_maps(torch.tensor([-3.0, 2.0]).reshape(1, 1, 1, 1, 2), choice.scorer, choice.aggregate, choice.k)
