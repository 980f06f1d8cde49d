"""What every registered scorer and aggregate promises; a new one is tested unasked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from poolscout.errors import DataError, NonFiniteError
from poolscout.scoring import score_maps
from poolscout.scoring.registry import aggregates, scorers
from tests.oracles import scoring as oracle

SCORERS, AGGREGATES = scorers.names(), aggregates.names()
every = pytest.mark.parametrize(("scorer", "aggregate"), [(s, a) for s in SCORERS for a in AGGREGATES])
probabilities = st.one_of(
    st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.5, 2.0**-149, 1.1754944e-38, 1e-7, 1 - 2.0**-24])
)


def some_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    """Mostly small probabilities with exact zeros and ones between, as maps are."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(shape, generator=generator) ** 3
    dice = torch.rand(shape, generator=generator)
    return torch.where(dice < 0.05, 0.0, torch.where(dice > 0.95, 1.0, p))


def test_every_scorer_and_aggregate_has_an_oracle() -> None:
    assert set(SCORERS) == set(oracle.SCORERS)
    assert set(AGGREGATES) == set(oracle.AGGREGATES)


@every
@settings(max_examples=40, deadline=None)
@given(maps=npst.arrays(np.float32, npst.array_shapes(min_dims=5, max_dims=5, max_side=3), elements=probabilities))
def test_agrees_with_the_oracle_in_float64(scorer: str, aggregate: str, maps: np.ndarray) -> None:
    scores = score_maps(torch.from_numpy(maps), scorer, aggregate)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    np.testing.assert_allclose(scores, oracle.score_maps(maps.astype(np.float64), scorer, aggregate), atol=5e-7)


@every
def test_lies_between_0_and_ln_2(scorer: str, aggregate: str) -> None:
    scores = score_maps(some_maps(4, 6, 3, 9, 7), scorer, aggregate)
    assert scores.min() >= 0
    assert scores.max() <= math.log(2) + 1e-6


@every
def test_order_of_members_does_not_matter(scorer: str, aggregate: str) -> None:
    maps = some_maps(5, 4, 3, 6, 5)
    shuffled = score_maps(maps[[3, 0, 4, 2, 1]], scorer, aggregate)
    torch.testing.assert_close(shuffled, score_maps(maps, scorer, aggregate), atol=5e-7, rtol=0)


@every
def test_an_image_scores_the_same_in_any_company(scorer: str, aggregate: str) -> None:
    maps = some_maps(3, 6, 2, 11, 13)
    together = score_maps(maps, scorer, aggregate)
    one_by_one = torch.cat([score_maps(maps[:, [image]], scorer, aggregate) for image in (4, 1, 5, 0, 3, 2)])
    torch.testing.assert_close(one_by_one, together[[4, 1, 5, 0, 3, 2]], atol=1e-7, rtol=0)


@every
def test_half_precision_is_raised_before_it_is_scored(scorer: str, aggregate: str) -> None:
    maps = some_maps(3, 2, 2, 8, 8).half()
    torch.testing.assert_close(
        score_maps(maps, scorer, aggregate), score_maps(maps.float(), scorer, aggregate), atol=0, rtol=0
    )


@every
def test_the_given_maps_are_left_alone(scorer: str, aggregate: str) -> None:
    maps = some_maps(3, 2, 2, 4, 4)
    before = maps.clone()
    score_maps(maps, scorer, aggregate)
    assert torch.equal(maps, before)


@every
def test_no_images_give_no_scores(scorer: str, aggregate: str) -> None:
    assert score_maps(torch.empty(3, 0, 2, 4, 4), scorer, aggregate).shape == (0, 2)


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused_and_the_image_named(scorer: str, aggregate: str, bad: float) -> None:
    maps = some_maps(3, 5, 2, 4, 4)
    maps[2, 3, 1, 0, 2] = bad
    with pytest.raises(NonFiniteError, match="positions 3"):
        score_maps(maps, scorer, aggregate)


@every
def test_logits_are_refused(scorer: str, aggregate: str) -> None:
    with pytest.raises(DataError, match=r"values from -3 to 2[\s\S]*sigmoid"):
        score_maps(torch.tensor([-3.0, 2.0]).reshape(1, 1, 1, 1, 2), scorer, aggregate)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_an_aggregate_does_not_look_at_padding(aggregate: str) -> None:
    reduce = aggregates.get(aggregate)
    content = some_maps(2, 3, 4, 5)
    padded = torch.full((2, 3, 8, 9), 0.9)
    padded[:, :, :4, :5] = content
    valid = torch.zeros(2, 8, 9, dtype=torch.bool)
    valid[:, :4, :5] = True
    torch.testing.assert_close(reduce(padded, valid), reduce(content, torch.ones(2, 4, 5, dtype=torch.bool)))
    assert not torch.allclose(reduce(padded, valid), reduce(padded, torch.ones_like(valid)))
