"""One batch through the whole ensemble, reduced where it was computed to what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from poolscout.config import ScoringConfig
from poolscout.detector.decode import Detections, decode
from poolscout.detector.member import Member, MemberOutput
from poolscout.detector.stream import ImageBatch
from poolscout.errors import NonFiniteError, some
from poolscout.scoring.ensemble import RunningMeans
from poolscout.scoring.maps import Maps, PerClass, bernoulli_entropy, probability
from poolscout.scoring.plan import N_CLASSES, Plan
from poolscout.scoring.registry import (
    ENSEMBLE_BOXES,
    FIRST_MAP,
    HIDDEN_OF_FIRST,
    MEMBER_BOXES,
    OF_FIRST,
    Input,
    Mean,
)

_LEAST_WEIGHT = 1e-12  # where no member sees anything the boxes are averaged evenly, not 0/0


@dataclass(frozen=True)
class Glance:
    """What an ensemble makes of a batch.

    Attributes:
        image_ids: the images, as in the batch.
        scores: score column → informativeness of each image and class.
        features: embedding of each image by the first member.
        detections: of the ensemble, in pixels of the upright image.
    """

    image_ids: list[str]
    scores: dict[str, PerClass]
    features: Float[Tensor, "images d"]
    detections: Detections


def as_configured(members: Sequence[Member], config: ScoringConfig) -> list[Member]:
    """The members, in the arithmetic that the config asks for."""
    blurred = config.float32 == "auto" and Plan(config.scorers).is_blurred_by_bf16
    return [member.in_float32() if config.float32 == "on" or blurred else member for member in members]


@torch.inference_mode()
def look(members: Sequence[Member], batch: ImageBatch, pixels: Tensor, plan: Plan, config: ScoringConfig) -> Glance:
    """Run every member over a batch and reduce; maps are not kept, however many members there are.

    Args:
        members: the ensemble.
        batch: the images.
        pixels: theirs, where the members are.
        plan: what to compute.
        config: which boxes are kept, how many dropout passes.

    Raises:
        NonFiniteError: NaN or infinity in a member's map, box or feature; names the images.
    """
    seen, scores = Ensemble(plan, config), dict[str, PerClass]()
    of_first, of_all = plan.halves
    prepared = members[0].prepare(pixels)
    for number, member in enumerate(members):
        seen.add(member, member.look(prepared), batch)
        if number == 0:
            n_valid = batch.n_valid(*seen.map_size).to(prepared.device)
            scores |= of_first.figures(seen.take_first(keep=of_all.inputs), n_valid)
    given = seen.finish(batch)
    scores |= of_all.figures(given, n_valid)
    return Glance(
        batch.image_ids,
        {column: per_class.cpu() for column, per_class in scores.items()},
        seen.features.cpu(),
        given[ENSEMBLE_BOXES],
    )


class Ensemble:
    """An ensemble's view of one batch, member by member: what the scorers of a plan are given.

    Padding is taken out at once: there every p is 0, and where every p is 0 a scorer gives 0.

    Args:
        plan: the scorers.
        config: which boxes are kept, how many dropout passes.
        also: what is wanted beside the scorers' inputs.
    """

    features: Tensor
    map_size: tuple[int, int]

    def __init__(self, plan: Plan, config: ScoringConfig, also: frozenset[Input] = frozenset()) -> None:
        self._plan, self._config, self._wanted = plan, config, plan.inputs | also
        self._means = RunningMeans([probability, *plan.statistics("members")])
        self._dropout = RunningMeans(plan.statistics("dropout"))
        self._boxes = _BoxMean()
        self._given: dict[Input, Any] = {}
        self._shown: Tensor | None = None

    def add(self, member: Member, output: MemberOutput, batch: ImageBatch) -> None:
        """Take in one member's output; the first one added is the first member."""
        if self._means.n == 0:
            self._meet_first(member, output, batch)
        p, entropies = self._without_padding(output.probabilities, output.entropies)
        if self._means.n == 0 and FIRST_MAP in self._wanted:
            self._given[FIRST_MAP] = p
        self._means.add(p, {bernoulli_entropy: entropies})
        self._boxes.add(p, output.box_parameters)
        if MEMBER_BOXES in self._wanted:
            self._given.setdefault(MEMBER_BOXES, []).append(self._decode(p, output.box_parameters, batch))

    def take_first(self, keep: frozenset[Input]) -> dict[Input, Any]:
        """What is known of the first member alone; its features are large, and let go of unless in `keep`."""
        return {one: self._given[one] if one in keep else self._given.pop(one) for one in OF_FIRST & self._wanted}

    def _meet_first(self, member: Member, output: MemberOutput, batch: ImageBatch) -> None:
        self.features = output.features.float()
        self.map_size = (output.probabilities.shape[2], output.probabilities.shape[3])
        self._architecture = member.architecture
        if batch.is_padded(*self.map_size):
            self._shown = batch.valid(*self.map_size)[:, None].to(output.probabilities)
        if HIDDEN_OF_FIRST in self._wanted:
            self._given[HIDDEN_OF_FIRST] = output.hidden
        if self._plan.statistics("dropout"):
            for maps in member.dropout_maps(output.encoding, self._config.dropout_passes):
                p, entropies = self._without_padding(*maps)
                self._dropout.add(p, {bernoulli_entropy: entropies})

    def _without_padding(self, p: Maps, entropies: Maps | None) -> tuple[Maps, Maps | None]:
        if self._shown is None:
            return p, entropies
        return p.mul_(self._shown), None if entropies is None else entropies.mul_(self._shown)

    def finish(self, batch: ImageBatch) -> dict[Input, Any]:
        """The inputs of the plan's scorers, and the ensemble's boxes; boxes in pixels of the upright images.

        Raises:
            NonFiniteError: NaN or infinity in a map, box or feature; names the images.
        """
        means, boxes = self._means.finish(), self._boxes.finish()
        passes = self._dropout.finish() if self._dropout.n else {}
        _check_finite(batch.image_ids, means[probability], boxes, self.features, *passes.values())
        for one in self._plan.inputs:
            if isinstance(one, Mean):
                self._given[one] = (means if one.over == "members" else passes)[one.statistic]
        self._given[ENSEMBLE_BOXES] = self._decode(means[probability], boxes, batch)
        self._given[N_CLASSES] = means[probability].shape[1]
        return self._given

    def _decode(self, p: Maps, parameters: Tensor, batch: ImageBatch) -> Detections:
        found = decode(
            p, parameters, self._architecture.stride, min_probability=self._config.min_probability,
            max_boxes=self._config.max_boxes, nms_iou=self._architecture.nms_iou,
        )  # fmt: skip
        return batch.upright(found)


class _BoxMean:
    """Each position's box, averaged over members by how probable each holds any object to be there."""

    def __init__(self) -> None:
        self._boxes: Tensor | None = None
        self._weights: Tensor | None = None

    def add(self, p: Maps, parameters: Float[Tensor, "images 4 height width"]) -> None:
        weights = p.amax(1, keepdim=True).clamp_min_(_LEAST_WEIGHT)
        if self._boxes is None or self._weights is None:
            self._boxes, self._weights = parameters * weights, weights
        else:
            self._boxes.addcmul_(parameters, weights)
            self._weights.add_(weights)

    def finish(self) -> Float[Tensor, "images 4 height width"]:
        assert self._boxes is not None
        assert self._weights is not None
        return self._boxes.div_(self._weights)


def _check_finite(image_ids: Sequence[str], *outputs: Tensor) -> None:
    # a sum is finite only if all it adds up is: one number an image tells of every member and position
    bad = ~torch.stack([output.flatten(1).sum(1).isfinite() for output in outputs]).all(0)
    if bad.any():
        names = [image_id for image_id, is_bad in zip(image_ids, bad.tolist(), strict=True) if is_bad]
        raise NonFiniteError(
            f"the detectors gave NaN or infinity for {len(names)} images",
            got=some(names),
            expected="finite probabilities, boxes and features",
            fix="look at these images and at the members' training",
        )
