"""The picked images of a round as small pictures with what the ensemble saw in them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8
from PIL import Image

from poolscout.errors import PoolscoutError
from poolscout.pool import ImageReader, RejectedImage, Storage
from poolscout.report.grid import FIRST_PICKS, Grid, grid
from poolscout.report.heat import overlay_uri
from poolscout.report.rundata import Round, RunData, ensemble
from poolscout.report.seen import FIGURE_SCORERS, MemberBox, Seen, fitting, look, scorer_called
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import iter_parts

# (longest side in px, JPEG quality), tried until a picture fits its share of the page.
SIZES = ((520, 76), (440, 70), (360, 62), (280, 55), (200, 50))
PAGE_PICTURE_BYTES = 5_000_000
MAX_BOXES = 20  # drawn an image, the most probable
# Okabe and Ito's colours without black and the reference grey: they stay apart for every kind of colour vision.
CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF")

Photo = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Box:
    """A detection as the page draws it, px of the upright image."""

    x: float
    y: float
    width: float
    height: float
    label: str
    probability: float
    colour: str


@dataclass(frozen=True)
class Card:
    """One picked image; `jpeg` is None when it can no longer be read (`missing` says why)."""

    pick: dict[str, Any]
    sequence: str
    jpeg: str | None
    width: int
    height: int
    boxes: list[Box]
    missing: str = ""
    heat: str | None = None
    heat_width: float = 1.0
    heat_height: float = 1.0
    members: tuple[str, ...] = ()  # each member's boxes as one SVG path


@dataclass(frozen=True)
class Gallery:
    """The pictures of a round.

    Attributes:
        cards: the first picks, in pick order.
        n_picked: how many were picked in all.
        scorer: whose maps the cards show.
        unit: of its values; "1" is none.
        highest: top of the cards' shared colour scale; None without heat maps.
        note: why there are no heat maps; empty when there are.
        grids: the first picks as several scorers see them, class by class.
    """

    cards: list[Card]
    n_picked: int
    scorer: str
    unit: str
    highest: float | None
    note: str
    grids: list[Grid]


def gallery(run: RunData, shown: Round, colour_of: dict[str, str], max_bytes: int, max_grid_bytes: int) -> Gallery:
    """Pictures of a round's first `report.images_per_round` picks.

    Args:
        run, shown: the run and its round.
        colour_of: colours of the classes.
        max_bytes: of each card as text.
        max_grid_bytes: of each grid as text; 0: no grids.
    """
    assert shown.selection is not None
    picks = shown.selection.slice(0, run.config.report.images_per_round).to_pylist()
    ids = [pick["image_id"] for pick in picks]
    rows, boxes = run.pool_rows(ids), _boxes(run, shown, ids, colour_of)
    config = run.config.pool
    reader = ImageReader({i: row["uri"] for i, row in rows.items()}, config.max_pixels, Storage.of(config))
    images, missing = _read(reader, ids)
    seen, scorer, note = dict[str, Seen](), "", ""
    if images:
        try:
            seen, scorer = _look(run, shown, reader, list(images), n_grids=FIRST_PICKS if max_grid_bytes else 0)
        except PoolscoutError as error:
            note = str(error).splitlines()[0]
    with_maps = {image_id: one for image_id, one in seen.items() if scorer in one.maps}
    highest = max((one.highest(scorer) for one in with_maps.values()), default=0.0)
    cards = []
    for pick in picks:
        image_id = pick["image_id"]
        image, one = images.get(image_id), with_maps.get(image_id)
        height, width = image.shape[:2] if image is not None else (3, 4)
        heat = overlay_uri(one.maps[scorer].max(0), highest) if one is not None else None
        cards.append(Card(
            pick,
            str(rows.get(image_id, {}).get("sequence", "")),
            None if image is None else jpeg_uri(image, max_bytes - len(heat or "")),
            width,
            height,
            boxes.get(image_id, []),
            missing.get(image_id, ""),
            heat,
            one.width_share if one else 1.0,
            one.height_share if one else 1.0,
            tuple(_path(found) for found in seen[image_id].members) if image_id in seen else (),
        ))  # fmt: skip
    called = scorer_called(scorer)
    unit = called.unit if called else "1"
    grids = _grids(images, seen, max_grid_bytes) if max_grid_bytes else []
    return Gallery(cards, shown.selection.num_rows, scorer, unit, highest if with_maps else None, note, grids)


def _read(reader: ImageReader, ids: list[str]) -> tuple[dict[str, Photo], dict[str, str]]:
    """The images, and why others cannot be shown, by image id."""
    images: dict[str, Photo] = {}
    missing: dict[str, str] = {}
    for image_id in ids:
        try:
            images[image_id] = reader.read(image_id)
        except RejectedImage as error:
            missing[image_id] = f"{error.reason}: {error.detail}"
        except PoolscoutError as error:
            missing[image_id] = error.problem
    return images, missing


def _grids(images: dict[str, Photo], seen: dict[str, Seen], max_bytes: int) -> list[Grid]:
    first = [image_id for image_id in list(seen)[:FIRST_PICKS] if seen[image_id].maps]
    return [grid(i, jpeg_uri(images[i], max_bytes // 3), images[i], seen[i], max_bytes) for i in first]


def _look(run: RunData, shown: Round, reader: ImageReader, ids: list[str], n_grids: int) -> tuple[dict[str, Seen], str]:
    """What the ensemble that picked the images sees in them, and the scorer shown on the cards.

    That is the one the run ranks by, where it gives a map.
    """
    members = ensemble(shown)
    scoring, shape = run.config.scoring, run.config.detector
    able = fitting(members, (scoring.scorers[0].scorer, "mutual_information", "entropy"))
    many = list(dict.fromkeys([*able[:1], *fitting(members, FIGURE_SCORERS)]))
    seen = look(members, reader, ids[:n_grids], many, scoring, shape)
    seen |= look(members, reader, ids[n_grids:], able[:1], scoring, shape)
    return seen, able[0] if able else ""


def _path(boxes: list[MemberBox]) -> str:
    """All boxes of a member as one SVG path: a fifth of the bytes of as many elements."""
    return "".join(f"M{round(b.x1)} {round(b.y1)}H{round(b.x2)}V{round(b.y2)}H{round(b.x1)}z" for b in boxes)


def jpeg_uri(image: Photo, max_bytes: int) -> str:
    """The image as a JPEG data URI, in the best of `SIZES` that keeps to `max_bytes`, or the smallest."""
    text = ""
    for side, quality in SIZES:
        small = Image.fromarray(image)
        small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality, optimize=True)
        text = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
        if len(text) <= max_bytes:
            break
    return text


def class_colours(classes: list[str]) -> dict[str, str]:
    """A colour for each class, in the given order; they repeat after eight."""
    return {name: CLASS_COLOURS[i % len(CLASS_COLOURS)] for i, name in enumerate(classes)}


def _boxes(run: RunData, shown: Round, ids: list[str], colour_of: dict[str, str]) -> dict[str, list[Box]]:
    folder, wanted = shown.path / "detections", pa.array(ids, pa.string())
    if not folder.is_dir():
        return {}

    def read() -> list[dict[str, Any]]:
        parts = iter_parts(folder, DETECTIONS)
        return [row for part in parts for row in part.filter(pc.is_in(part["image_id"], wanted)).to_pylist()]

    found: dict[str, list[Box]] = {}
    for row in sorted(run.attempt(read) or [], key=lambda row: -row["probability"]):
        boxes = found.setdefault(row["image_id"], [])
        if len(boxes) < MAX_BOXES:
            boxes.append(Box(
                row["x1_px"], row["y1_px"], row["x2_px"] - row["x1_px"], row["y2_px"] - row["y1_px"],
                row["class"], row["probability"], colour_of.get(row["class"], CLASS_COLOURS[-1]),
            ))  # fmt: skip
    return found
