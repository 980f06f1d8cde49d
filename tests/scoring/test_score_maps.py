"""Scores by hand, and the messages of bad input."""

from __future__ import annotations

import math

import pytest
import torch

import poolscout
from poolscout.config import ScorerChoice
from poolscout.errors import CapabilityError, ConfigError, DataError
from poolscout.scoring import check_scoring, score_maps
from poolscout.scoring.ensemble import RunningMeans
from poolscout.scoring.maps import bernoulli_entropy
from poolscout.scoring.registry import scorers


def one_position(*p_of_members: float) -> torch.Tensor:
    return torch.tensor(p_of_members).reshape(-1, 1, 1, 1, 1)


def test_entropy_by_hand() -> None:
    assert score_maps(one_position(0.5), "entropy").item() == pytest.approx(math.log(2))
    # p̄ = 0.25: ¼ ln 4 + ¾ ln 4/3
    assert score_maps(one_position(0.1, 0.4), "entropy").item() == pytest.approx(0.5623351, abs=1e-6)
    assert score_maps(one_position(0.0, 0.0), "entropy").item() == 0
    assert score_maps(one_position(1.0, 1.0), "entropy").item() == 0


def test_mutual_information_by_hand() -> None:
    # certain of the opposite: nothing but disagreement
    assert score_maps(one_position(0.0, 1.0)).item() == pytest.approx(math.log(2))
    # H(0.25) − ½ (H(0) + H(0.5)) = 0.5623351 − 0.3465736
    assert score_maps(one_position(0.0, 0.5)).item() == pytest.approx(0.2157616, abs=1e-6)


def test_undecided_alike_is_not_disagreement() -> None:
    assert score_maps(one_position(0.5, 0.5, 0.5)).item() == 0


def test_identical_members_have_no_mutual_information() -> None:
    p = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    assert score_maps(p.expand(7, -1, -1, -1, -1)).max() <= 5e-7


def test_max_and_average_by_hand() -> None:
    maps = torch.tensor([0.5, 0.0, 1.0, 0.0]).reshape(1, 1, 1, 2, 2)
    assert score_maps(maps, "entropy", "max").item() == pytest.approx(math.log(2))
    assert score_maps(maps, "entropy", "average").item() == pytest.approx(math.log(2) / 4)


def test_the_public_name_and_its_defaults() -> None:
    maps = torch.tensor([[0.1, 0.9], [0.3, 0.2]]).reshape(2, 1, 2, 1, 1)
    torch.testing.assert_close(poolscout.score_maps(maps), score_maps(maps, "mutual_information", "max"))
    torch.testing.assert_close(poolscout.score_maps(maps.numpy()), poolscout.score_maps(maps))


def test_entropy_keeps_nan() -> None:
    assert bernoulli_entropy(torch.full((1, 1, 1, 1), math.nan)).isnan().all()


def test_what_is_kept_does_not_grow_with_members() -> None:
    wanted = [scorers.get("mutual_information"), scorers.get("entropy")]
    running, p = RunningMeans(wanted), torch.full((1, 1, 2, 2), 0.25)
    for _ in range(9):
        running.add(p)
    means = running.finish()
    assert len(means) == 2  # probability is taken once for both
    assert all(mean.shape == p.shape for mean in means.values())
    assert torch.equal(p, torch.full((1, 1, 2, 2), 0.25))


@pytest.mark.parametrize(
    ("scorer", "aggregate", "message"),
    [
        ("mutual_infromation", "max", r"no scorer[\s\S]*did you mean 'mutual_information'"),
        ("entropy", "maximum", r"no aggregate[\s\S]*average, max[\s\S]*did you mean 'max'"),
    ],
)
def test_unknown_names(scorer: str, aggregate: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_maps(one_position(0.5), scorer, aggregate)
    with pytest.raises(ConfigError, match=message):
        check_scoring([ScorerChoice(scorer=scorer, aggregate=aggregate)], n_members=3)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 1, 1, 2, 2), (2, 1, 1, 0, 2), (2, 1, 0, 2, 2)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"members, images, classes, height, width"):
        score_maps(torch.zeros(shape))


def test_a_single_member_cannot_disagree() -> None:
    check_scoring([ScorerChoice(scorer="entropy")], n_members=1)
    check_scoring([ScorerChoice(scorer="mutual_information")], n_members=2)
    with pytest.raises(CapabilityError, match=r"'mutual_information' needs members[\s\S]*at least 2"):
        check_scoring([ScorerChoice(scorer="entropy"), ScorerChoice(scorer="mutual_information")], n_members=1)


def test_every_scorer_documents_equation_source_and_range() -> None:
    for name in scorers.names():
        text = scorers.get(name).function.__doc__ or ""
        assert "Range" in text
        assert "Source" in text
        assert scorers.get(name).unit == "nats"
