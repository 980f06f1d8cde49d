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
from poolscout.pool import ImageReader, RejectedImage
from poolscout.report.heat import heat_maps, overlay_uri
from poolscout.report.rundata import Round, RunData
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import iter_parts

# (longest side in px, JPEG quality), tried until a picture fits its share of the page.
SIZES = ((520, 76), (440, 70), (360, 62), (280, 55), (200, 50))
PAGE_PICTURE_BYTES = 5_000_000
MAX_BOXES = 20  # drawn an image, the most probable
# Okabe and Ito's colours without black and the reference grey: they stay apart for every kind of colour vision.
CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#FFFFFF")


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


@dataclass(frozen=True)
class Gallery:
    """The pictures of a round.

    Attributes:
        cards: the first picks, in pick order.
        n_picked: how many were picked in all.
        highest_nats: top of the round's shared colour scale; None without heat maps.
        note: why there are no heat maps; empty when there are.
    """

    cards: list[Card]
    n_picked: int
    highest_nats: float | None
    note: str


def gallery(run: RunData, shown: Round, colour_of: dict[str, str], max_bytes: int) -> Gallery:
    """Pictures of a round's first `report.images_per_round` picks, at most `max_bytes` each as text."""
    assert shown.selection is not None
    picks = shown.selection.slice(0, run.config.report.images_per_round).to_pylist()
    ids = [pick["image_id"] for pick in picks]
    rows, boxes = run.pool_rows(ids), _boxes(run, shown, ids, colour_of)
    reader = ImageReader({i: row["uri"] for i, row in rows.items()}, run.config.pool.max_pixels)
    images: dict[str, UInt8[np.ndarray, "_ _ 3"]] = {}
    missing: dict[str, str] = {}
    for image_id in ids:
        try:
            images[image_id] = reader.read(image_id)
        except RejectedImage as error:
            missing[image_id] = f"{error.reason}: {error.detail}"
        except PoolscoutError as error:
            missing[image_id] = error.problem
    maps, note = {}, ""
    if images:
        try:
            maps = dict(zip(images, heat_maps(run, shown, list(images.values())), strict=True))
        except PoolscoutError as error:
            note = str(error).splitlines()[0]
    highest = max((float(heat.nats.max()) for heat in maps.values()), default=0.0)
    cards = []
    for pick in picks:
        image_id = pick["image_id"]
        image = images.get(image_id)
        height, width = image.shape[:2] if image is not None else (3, 4)
        heat = maps.get(image_id)
        overlay = (overlay_uri(heat, highest), heat.width_share, heat.height_share) if heat is not None else ()
        cards.append(Card(
            pick,
            str(rows.get(image_id, {}).get("sequence", "")),
            None if image is None else jpeg_uri(image, max_bytes - sum(len(uri) for uri in overlay[:1])),
            width,
            height,
            boxes.get(image_id, []),
            missing.get(image_id, ""),
            *overlay,
        ))  # fmt: skip
    return Gallery(cards, shown.selection.num_rows, highest if maps else None, note)


def jpeg_uri(image: UInt8[np.ndarray, "_ _ 3"], max_bytes: int) -> str:
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
