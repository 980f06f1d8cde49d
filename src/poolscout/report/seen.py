"""What an ensemble sees in the few images a person looks at: every member's boxes, and scorers' maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from poolscout.config import DetectorConfig, ScoringConfig
from poolscout.detector.member import Member
from poolscout.detector.stream import ImageBatch, read_batch
from poolscout.pool import ImageReader
from poolscout.scoring import View, gives_of, map_scorers, view
from poolscout.scoring.registry import Scorer, scorers

# The maps of the paper's Figure 2; those that an ensemble cannot give are left out.
FIGURE_SCORERS = ("entropy", "mutual_information", "gradient", "gradient_variance", "mc_dropout")
BATCH = 4  # images a forward pass: looking must not need more memory than the run did
MAX_BOXES = 50  # shown of a member in an image, the most probable
LEAST_SHOWN = 0.3  # probability: below it a member's boxes are mostly noise that hides the others
LOUD = 0.2  # share of a scorer's highest value that makes a class worth a large picture

MapsOfImage = Float[np.ndarray, "classes h w"]


@dataclass(frozen=True)
class MemberBox:
    """A detection of one member, px of the upright image."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    probability: float


@dataclass(frozen=True)
class Seen:
    """What an ensemble sees in one image.

    Attributes:
        maps: scorer → informativeness, float32 [classes, h, w], cut to the positions that show the image.
        width_share, height_share: extent of the maps relative to the image; the last cells may reach over its border.
        members: the boxes of each member, the most probable first.
        classes: names, in the order of the maps.
    """

    maps: dict[str, MapsOfImage]
    width_share: float
    height_share: float
    members: list[list[MemberBox]]
    classes: tuple[str, ...]

    def highest(self, scorer: str) -> float:
        """The top of a scorer's colour scale; 0 where nothing is seen."""
        return float(self.maps[scorer].max())

    def loud(self) -> list[int]:
        """Classes in which some scorer sees something; in the order of the maps."""
        shares = [maps.max((1, 2)) / maps.max() for maps in self.maps.values() if maps.max() > 0]
        return [c for c in range(len(self.classes)) if any(share[c] >= LOUD for share in shares)]


def fitting(members: Sequence[Member], names: Iterable[str] = FIGURE_SCORERS) -> list[str]:
    """Those of `names` that give a map from what the ensemble gives."""
    kinds, able = gives_of(members).kinds, map_scorers()
    return [name for name in names if name in able and set(scorers.get(name).needs) <= kinds]


def look(
    members: Sequence[Member],
    reader: ImageReader,
    image_ids: Sequence[str],
    names: Sequence[str],
    scoring: ScoringConfig,
    shape: DetectorConfig,
) -> dict[str, Seen]:
    """Show images to an ensemble, with the pixels that scoring gives it; those that cannot be read are left out.

    Args:
        members: the ensemble.
        reader: reads the images.
        image_ids: which.
        names: scorers that give a map.
        scoring: which boxes are kept, how many dropout passes.
        shape: the detectors' input size.

    Raises:
        ConfigError, CapabilityError, NonFiniteError: as `scoring.view`.
    """
    seen: dict[str, Seen] = {}
    for start in range(0, len(image_ids), BATCH):
        batch = read_batch(image_ids[start : start + BATCH], reader, shape.height, shape.width, "report")
        if batch.image_ids:
            viewed = view(members, batch, names, scoring)
            for position, image_id in enumerate(batch.image_ids):
                seen[image_id] = _seen(viewed, batch, position, members[0].classes)
    return seen


def in_unit(value: float, unit: str) -> str:
    """Three significant digits with the unit; a unit of "1" is none."""
    return f"{value:.3g}" if unit == "1" else f"{value:.3g} {unit}"


def scorer_called(name: str) -> Scorer | None:
    """The scorer, or None where a run used one that is not registered here."""
    return scorers.get(name) if name in scorers.names() else None


def _seen(viewed: View, batch: ImageBatch, position: int, classes: tuple[str, ...]) -> Seen:
    height, width = batch.pixels.shape[-2:]
    valid_height, valid_width = batch.valid_px[position]
    maps, width_share, height_share = {}, 1.0, 1.0
    for name, every in viewed.maps.items():
        rows, columns = batch.shown_cells(every.shape[2], every.shape[3])[position]
        maps[name] = every[position, :, :rows, :columns].float().cpu().numpy()
        height_share = rows * height / every.shape[2] / valid_height
        width_share = columns * width / every.shape[3] / valid_width
    return Seen(maps, width_share, height_share, _member_boxes(viewed, position, classes), classes)


def _member_boxes(viewed: View, position: int, classes: tuple[str, ...]) -> list[list[MemberBox]]:
    members = []
    for found in viewed.detections:
        own = found.take((found.images == position) & (found.probabilities >= LEAST_SHOWN))
        rows = zip(own.boxes_xyxy_px.tolist(), own.classes.tolist(), own.probabilities.tolist(), strict=True)
        members.append([MemberBox(x1, y1, x2, y2, classes[c], p) for (x1, y1, x2, y2), c, p in rows][:MAX_BOXES])
    return members
