"""One picked image through the eyes of several scorers, class by class (the paper's Figure 2), for the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from poolscout.report.heat import overlay_uri, widened
from poolscout.report.seen import Seen, in_unit
from poolscout.scoring.registry import scorers

FIRST_PICKS = 2  # of a round have a grid
MAX_CLASSES = 6  # have a row of pictures; the others are named


@dataclass(frozen=True)
class Cell:
    """A scorer's map of one class; `is_highest` in its column."""

    uri: str
    most: str
    is_highest: bool


@dataclass(frozen=True)
class Grid:
    """Scorers × classes over one photo, which the page holds once.

    Attributes:
        image_id: the image.
        photo: data URI.
        aspect: width over height.
        columns: (scorer, top of its colour scale with the unit).
        rows: (class, a cell for each scorer).
        quiet: classes without a row: next to nothing is seen there.
        width_share, height_share: extent of the maps relative to the photo.
    """

    image_id: str
    photo: str
    aspect: float
    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]
    quiet: list[str]
    width_share: float
    height_share: float


def grid(image_id: str, photo: str, image: UInt8[np.ndarray, "_ _ 3"], seen: Seen, max_bytes: int) -> Grid:
    """The grid of one image, of at most `max_bytes` as text where its maps can be made that coarse."""
    loudest = sorted(seen.loud(), key=lambda c: -max(_share(seen, name, c) for name in seen.maps))[:MAX_CLASSES]
    shown = sorted(loudest)
    each = (max_bytes - len(photo)) // max(1, len(shown) * len(seen.maps))
    units = {name: scorers.get(name).unit for name in seen.maps}
    rows = [
        (seen.classes[c], [
            Cell(
                overlay_uri(widened(maps[c]), seen.highest(name), each),
                in_unit(float(maps[c].max()), units[name]),
                float(maps[c].max()) == seen.highest(name) > 0,
            )
            for name, maps in seen.maps.items()
        ])
        for c in shown
    ]  # fmt: skip
    return Grid(
        image_id, photo, image.shape[1] / image.shape[0],
        [(name.replace("_", " "), in_unit(seen.highest(name), units[name])) for name in seen.maps], rows,
        [name for c, name in enumerate(seen.classes) if c not in shown], seen.width_share, seen.height_share,
    )  # fmt: skip


def _share(seen: Seen, name: str, c: int) -> float:
    highest = seen.highest(name)
    return float(seen.maps[name][c].max()) / highest if highest > 0 else 0.0
