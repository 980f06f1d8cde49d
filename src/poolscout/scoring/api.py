"""Scoring in memory: maps somebody has, or the few images a person looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poolscout.config import ScorerChoice, ScoringConfig
from poolscout.detector.decode import Detections
from poolscout.detector.gives import MAPS, MEMBERS, Gives, unet_gives
from poolscout.detector.member import Member
from poolscout.detector.stream import ImageBatch
from poolscout.errors import CapabilityError, DataError, NonFiniteError, some
from poolscout.scoring.ensemble import RunningMeans
from poolscout.scoring.glance import Ensemble, as_configured
from poolscout.scoring.maps import Maps, PerClass
from poolscout.scoring.plan import GIVES, Plan
from poolscout.scoring.registry import MEMBER_BOXES, scorers


def score_maps(
    maps: Tensor | np.ndarray, scorer: str = "mutual_information", aggregate: str = "max", k: int | None = None
) -> PerClass:
    """Informativeness of each image for each class, from the probability maps of an ensemble.

    Args:
        maps: [members, images, classes, height, width], p(an object of this class is centred here), 0…1; calculated
            in float32 whatever its type. For MC-dropout, give the passes as members.
        scorer: a registered scoring function that works on maps alone, e.g. "entropy", "mutual_information".
        aggregate: how positions become one figure: "max", "average", "sum" or "top_k".
        k: for "top_k": how many of the highest count.

    Returns:
        [images, classes]; higher = more informative, in the scorer's unit. The maximum over classes is the
        image's score.

    Raises:
        ConfigError: no such scorer or aggregate; names the nearest.
        CapabilityError: the scorer needs more than maps.
        DataError: another shape, no member, no position, or values outside 0…1.
        NonFiniteError: NaN in a map; names the images by position.

    Example:
        >>> import torch
        >>> maps = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)  # two members, certain of the opposite
        >>> score_maps(maps).item()  # ln 2
        0.6931471824645996
    """
    plan = Plan((ScorerChoice(scorer=scorer, aggregate=aggregate, k=k),))
    # One member is enough here: it agrees with itself, and scores 0 where members are compared.
    plan.check(Gives("maps alone", frozenset({MAPS, MEMBERS}), "as given"))
    maps = torch.as_tensor(maps)
    _check_maps(maps)
    running = RunningMeans(plan.statistics("members"))
    for p in maps:
        running.add(p.float())
    means = running.finish()
    n_valid = torch.full((maps.shape[1],), float(maps.shape[3] * maps.shape[4]), device=maps.device)
    given = {one: means[one.statistic] for one in plan.inputs}  # type: ignore[attr-defined]  # maps alone: all Means
    (per_class,) = plan.figures(given, n_valid).values()
    return per_class


@dataclass(frozen=True)
class View:
    """What an ensemble sees in a few images, for a person to look at.

    Attributes:
        maps: scorer → informativeness of each image, class and position, not aggregated.
        detections: of each member, in pixels of the upright images.
    """

    maps: dict[str, Maps]
    detections: list[Detections]


@torch.inference_mode()
def view(members: Sequence[Member], batch: ImageBatch, names: Sequence[str], config: ScoringConfig) -> View:
    """A batch's informativeness maps, as the pass computes and reduces them, and each member's boxes.

    Args:
        members: the ensemble.
        batch: the images.
        names: scorers that give a map; see `map_scorers`.
        config: which boxes are kept, how many dropout passes.

    Raises:
        ConfigError: no such scorer; names the nearest.
        CapabilityError: a scorer gives no map, or needs what the ensemble does not give.
        NonFiniteError: the detectors gave NaN or infinity.
    """
    for name in names:
        if scorers.get(name).gives != "map":
            raise CapabilityError(
                f"scorer {name!r} has no map to show", got=GIVES[scorers.get(name).gives],
                expected=some(map_scorers(), 9), fix="choose one of these",
            )  # fmt: skip
    plan = Plan(tuple(ScorerChoice(scorer=name) for name in names))
    plan.check(gives_of(members))
    members = as_configured(members, config)
    seen = Ensemble(plan, config, also=frozenset({MEMBER_BOXES}))
    prepared = members[0].prepare(batch.pixels)
    for member in members:
        seen.add(member, member.look(prepared), batch)
    given = seen.finish(batch)
    maps = {name: one.function(*[given[i] for i in one.inputs]) for name, one in plan.scorers.items()}
    return View(maps, given[MEMBER_BOXES])


def map_scorers() -> list[str]:
    """The registered scorers that give a map."""
    return [name for name in scorers.names() if scorers.get(name).gives == "map"]


def gives_of(members: Sequence[Member]) -> Gives:
    """What trained members give to scoring."""
    different = list(dict.fromkeys(member.provenance for member in members))
    return unet_gives(members[0].architecture, len(members), "; ".join(different))


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
