"""Scoring in memory: maps somebody has, or the few images a person looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from poolscout.config import ScorerChoice
from poolscout.detector.member import Member
from poolscout.errors import CapabilityError, DataError, NonFiniteError, some
from poolscout.scoring.ensemble import RunningMeans, score
from poolscout.scoring.maps import Maps, PerClass
from poolscout.scoring.registry import aggregates, scorers


def score_maps(maps: Tensor | np.ndarray, scorer: str = "mutual_information", aggregate: str = "max") -> PerClass:
    """Informativeness of each image for each class, from the probability maps of an ensemble.

    Args:
        maps: [members, images, classes, height, width], p(an object of this class is centred here), 0…1; calculated
            in float32 whatever its type.
        scorer: a registered scoring function.
        aggregate: how positions become one figure: "max" or "average".

    Returns:
        [images, classes]; higher = more informative, in the scorer's unit (nats). The maximum over classes is the
        image's score.

    Raises:
        ConfigError: no such scorer or aggregate; names the nearest.
        DataError: another shape, no member, no position, or values outside 0…1.
        NonFiniteError: NaN in a map; names the images by position.

    Example:
        >>> import torch
        >>> maps = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)  # two members, certain of the opposite
        >>> score_maps(maps).item()  # ln 2
        0.6931471824645996
    """
    chosen, reduce = scorers.get(scorer), aggregates.get(aggregate)
    maps = torch.as_tensor(maps)
    _check_maps(maps)
    running = RunningMeans([chosen])
    for p in maps:
        running.add(p.float())
    everywhere = torch.ones(maps.shape[1], *maps.shape[3:], dtype=torch.bool, device=maps.device)
    return reduce(score(chosen, running.finish()), everywhere)


@torch.inference_mode()
def informativeness_maps(
    members: Sequence[Member], pixels: UInt8[Tensor, "images 3 height_px width_px"], scorer: str
) -> Maps:
    """A scorer's map over each image and class, not aggregated: what the pass reduces and does not keep.

    Args:
        members: the ensemble.
        pixels: letterboxed RGB images; positions in the padding are scored as any other.
        scorer: a registered scoring function.

    Raises:
        ConfigError: no such scorer; names the nearest.
    """
    chosen = scorers.get(scorer)
    running = RunningMeans([chosen])
    for member in members:
        running.add(member(pixels).probabilities)
    return score(chosen, running.finish())


def check_scoring(choices: Sequence[ScorerChoice], n_members: int) -> None:
    """Refuse, before anything is trained or read, what could not be scored.

    Args:
        choices: scorers and aggregates of the config.
        n_members: detectors in the ensemble.

    Raises:
        ConfigError: no such scorer or aggregate; names the nearest.
        CapabilityError: a scorer needs what the ensemble cannot give.
    """
    given = {"maps"} | ({"members"} if n_members > 1 else set())
    for choice in choices:
        aggregates.get(choice.aggregate)
        missing = [need for need in scorers.get(choice.scorer).needs if need not in given]
        if missing:
            raise CapabilityError(
                f"scorer {choice.scorer!r} needs {some(missing)}",
                got=f"a detector that gives {some(sorted(given))}: {n_members} member",
                expected="an ensemble of at least 2 members" if missing == ["members"] else some(missing),
                fix="set training.members to 3 or more, or use the scorer 'entropy'",
            )


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 5 or 0 in (maps.shape[0], *maps.shape[2:]):
        raise DataError(
            "the maps have another shape",
            got=tuple(maps.shape),
            expected="[members, images, classes, height, width] with at least one member, class and position",
            fix="stack the members' maps along a new first axis",
        )
    flat = maps.transpose(0, 1).flatten(1)
    bad = torch.nonzero(~flat.isfinite().all(1)).flatten().tolist()
    if bad:
        raise NonFiniteError(
            f"the maps of {len(bad)} images hold NaN or infinity",
            got=f"images at positions {some(bad)}",
            expected="probabilities",
            fix="look at these images and at the model that made the maps",
        )
    if flat.numel() and (flat.min() < 0 or flat.max() > 1):
        raise DataError(
            "the maps are no probabilities",
            got=f"values from {flat.min():.4g} to {flat.max():.4g}",
            expected="values from 0 to 1",
            fix="apply the sigmoid, and calibrate, first",
        )
