"""Scores by hand, and the messages of bad input."""

from __future__ import annotations

import math

import pytest
import torch

import poolscout
from poolscout.config import DetectorConfig, ScorerChoice
from poolscout.detector.gives import Gives, unet_gives
from poolscout.errors import CapabilityError, ConfigError, DataError
from poolscout.scoring import check_scoring, score_maps
from poolscout.scoring.ensemble import RunningMeans
from poolscout.scoring.maps import bernoulli_entropy
from poolscout.scoring.plan import Plan


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
    plan = Plan((ScorerChoice(scorer="mutual_information"), ScorerChoice(scorer="entropy")))
    running, p = RunningMeans(plan.statistics("members")), torch.full((1, 1, 2, 2), 0.25)
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
        ("BALD", "max", r"did you mean 'mutual_information'"),
        ("entropy", "mean", r"did you mean 'average'"),
        ("entropy", "topk", r"did you mean 'top_k'"),
        ("entropy", "maximum", r"no aggregate[\s\S]*average, max, sum, top_k, whole[\s\S]*did you mean 'max'"),
    ],
)
def test_unknown_names(scorer: str, aggregate: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_maps(one_position(0.5), scorer, aggregate)
    with pytest.raises(ConfigError, match=message):
        check_scoring([ScorerChoice(scorer=scorer, aggregate=aggregate)], unet_gives(DetectorConfig(), 3))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 1, 1, 2, 2), (2, 1, 1, 0, 2), (2, 1, 0, 2, 2)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"members, images, classes, height, width"):
        score_maps(torch.zeros(shape))


@pytest.mark.parametrize(
    ("scorer", "aggregate", "k", "message"),
    [
        ("entropy", "top_k", None, r"'top_k' needs a number[\s\S]*k: 10"),
        ("entropy", "max", 3, r"'max' takes no number[\s\S]*remove k"),
        ("entropy", "whole", None, r"'entropy' does not go with aggregate 'whole'[\s\S]*aggregate: average or max"),
        ("gradient_total", "max", None, r"'gradient_total' does not go with aggregate 'max'[\s\S]*aggregate: whole"),
    ],
)
def test_scorers_and_aggregates_that_do_not_go_together(
    scorer: str, aggregate: str, k: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_scoring([ScorerChoice(scorer=scorer, aggregate=aggregate, k=k)], unet_gives(DetectorConfig(), 3))


@pytest.mark.parametrize("scorer", ["gradient", "mc_dropout", "detection_entropy"])
def test_maps_alone_are_not_enough_for_every_scorer(scorer: str) -> None:
    with pytest.raises(CapabilityError, match=rf"'{scorer}' needs [\s\S]*maps alone"):
        score_maps(one_position(0.5), scorer)


UNETS, ONE_UNET = unet_gives(DetectorConfig(), 2), unet_gives(DetectorConfig(), 1)
NO_DROPOUT = unet_gives(DetectorConfig(dropout=0), 2)
BOXES_ONLY = Gives("the detections in a.json", frozenset({"boxes"}), "top score only")


@pytest.mark.parametrize(
    ("scorer", "gives", "message"),
    [
        ("mutual_information", ONE_UNET, r"'mutual_information' needs several members[\s\S]*a single U-Net, which"),
        ("gradient_variance", ONE_UNET, r"'gradient_variance' needs several members[\s\S]*training.members"),
        ("mc_dropout", NO_DROPOUT, r"'mc_dropout' needs dropout[\s\S]*an ensemble of 2 U-Nets[\s\S]*detector.dropout"),
        (
            "entropy",
            BOXES_ONLY,
            r"'entropy' needs maps[\s\S]*detections in a.json, which gives boxes \(top score only\)",
        ),
        ("margin", BOXES_ONLY, r"'margin' needs class probabilities[\s\S]*class_probabilities"),
        ("box_disagreement", BOXES_ONLY, r"'box_disagreement' needs several members"),
    ],
)
def test_what_a_detector_does_not_give_stops_at_start_up(scorer: str, gives: Gives, message: str) -> None:
    with pytest.raises(CapabilityError, match=message):
        check_scoring([ScorerChoice(scorer=scorer)], gives)


@pytest.mark.parametrize(
    ("scorer", "gives"),
    [
        ("entropy", ONE_UNET), ("mc_dropout", ONE_UNET), ("gradient", ONE_UNET), ("mutual_information", UNETS),
        ("detection_entropy", BOXES_ONLY), ("least_confidence", BOXES_ONLY), ("margin", ONE_UNET),
    ],
)  # fmt: skip
def test_what_a_detector_gives_is_enough(scorer: str, gives: Gives) -> None:
    check_scoring([ScorerChoice(scorer=scorer)], gives)


@pytest.mark.parametrize("k", [1, 7, 20, 5000])
@pytest.mark.parametrize("size", [(64, 48), (64, 47)])
def test_top_k_of_a_large_map_is_that_of_all_positions_sorted(k: int, size: tuple[int, int]) -> None:
    p = torch.rand(2, 3, 4, *size, generator=torch.Generator().manual_seed(2)) ** 4
    p[:, 1] = (p[:, 1] * 10).round() / 10  # ties
    scores = score_maps(p, "entropy", "top_k", k=k)
    every = bernoulli_entropy(p.mean(0)).flatten(2).sort(descending=True).values
    torch.testing.assert_close(scores, every[:, :, :k].mean(2), atol=1e-6, rtol=1e-5)
