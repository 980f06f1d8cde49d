"""One batch through the whole ensemble, reduced where it was computed to what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from poolscout.boxes import box_area, clip_boxes
from poolscout.config import ScoringConfig
from poolscout.detector.decode import Detections, decode
from poolscout.detector.member import Member, MemberOutput
from poolscout.detector.stream import ImageBatch
from poolscout.errors import NonFiniteError, some
from poolscout.scoring.ensemble import RunningMeans, score
from poolscout.scoring.maps import Maps, PerClass, probability
from poolscout.scoring.registry import aggregates, scorers

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
    detections: list[Detections]


@torch.inference_mode()
def look(members: Sequence[Member], batch: ImageBatch, config: ScoringConfig) -> Glance:
    """Run every member over a batch and reduce; memory does not grow with the number of members.

    Raises:
        NonFiniteError: NaN or infinity in a member's map, box or feature; names the images.
    """
    pixels = _to_device(batch.pixels, members[0].device)
    wanted = {choice.scorer: scorers.get(choice.scorer) for choice in config.scorers}
    means, boxes = RunningMeans(wanted.values()), _BoxMean()
    for number, member in enumerate(members):
        output = member(pixels)
        if number == 0:
            features = output.features.float()
        means.add(output.probabilities)
        boxes.add(output)
    finished = means.finish()
    mean_p, mean_boxes = finished[probability], boxes.finish()
    _check_finite(batch.image_ids, mean_p, mean_boxes, features)
    valid = batch.valid(*mean_p.shape[2:]).to(mean_p.device)
    maps = {name: score(scorer, finished) for name, scorer in wanted.items()}
    return Glance(
        batch.image_ids,
        {c.column: aggregates.get(c.aggregate)(maps[c.scorer], valid).cpu() for c in config.scorers},
        features.cpu(),
        _detections(mean_p * valid[:, None], mean_boxes, batch, config, members[0].architecture.nms_iou),
    )


class _BoxMean:
    """Each position's box, averaged over members by how probable each holds any object to be there."""

    def __init__(self) -> None:
        self._boxes: Tensor | float = 0.0
        self._weights: Tensor | float = 0.0

    def add(self, output: MemberOutput) -> None:
        weights = output.probabilities.amax(1, keepdim=True).clamp_min(_LEAST_WEIGHT)
        self._boxes = self._boxes + output.boxes_xyxy_px * weights
        self._weights = self._weights + weights

    def finish(self) -> Float[Tensor, "images 4 height width"]:
        return torch.as_tensor(self._boxes / self._weights)


def _detections(
    mean_p: Maps,
    boxes: Float[Tensor, "images 4 height width"],
    batch: ImageBatch,
    config: ScoringConfig,
    nms_iou: float,
) -> list[Detections]:
    """Boxes of the mean map, moved from input pixels to pixels of the upright image and cut at its border."""
    found = decode(mean_p, boxes, config.min_probability, config.max_boxes, nms_iou)
    upright = []
    for one, scale, (height, width) in zip(found, batch.scales, batch.sizes, strict=True):
        boxes_xyxy_px = clip_boxes(one.boxes_xyxy_px / scale, width, height)
        inside = box_area(boxes_xyxy_px) > 0
        upright.append(Detections(boxes_xyxy_px[inside], one.classes[inside], one.probabilities[inside]))
    return upright


def _to_device(pixels: Tensor, device: torch.device) -> Tensor:
    # from pinned memory the copy runs beside the computation of the batch before
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels


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
