"""What strategies, or arms, picked: small pictures with what was labelled in them; a picture is on the page once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import RunConfig
from poolscout.errors import PoolscoutError
from poolscout.labelling import picks_of
from poolscout.labels import LabelStore
from poolscout.pool import ImageReader, RejectedImage, Storage
from poolscout.report.pictures import PAGE_PICTURE_BYTES, class_colours, jpeg_uri
from poolscout.tables.declared import POOL
from poolscout.tables.parquet import iter_parts
from poolscout.tables.runfolder import RunFolder

PICTURES = 12  # of each strategy
MAX_PICTURE_BYTES = 60_000


@dataclass(frozen=True)
class Pick:
    """A picked image; the score it was picked by, if any."""

    image_id: str
    score: float | None = None


@dataclass(frozen=True)
class Card:
    """A pick as the page shows it.

    Attributes:
        picture: its number on the page; None when the image cannot be read (`missing` says why).
        width, height: px of the upright image.
        boxes: what was labelled: x, y, width, height in px, class, colour.
    """

    pick: Pick
    picture: int | None
    sequence: str
    width: int
    height: int
    boxes: list[dict[str, Any]]
    missing: str = ""


@dataclass(frozen=True)
class Strip:
    """The first picks of a strategy, and from how many sequences they come."""

    title: str
    cards: list[Card]

    @property
    def sequences(self) -> int:
        return len({card.sequence for card in self.cards})


@dataclass(frozen=True)
class Galleries:
    """All strips; `pictures` are JPEG data URIs by their number, `colours` those of the classes."""

    strips: list[Strip]
    pictures: dict[int, str]
    colours: dict[str, str]


def first_picks(folder: Path) -> list[Pick]:
    """The first picks of a round's selection; none where it picked nothing."""
    if not (folder / "selection.parquet").exists():
        return []
    rows = picks_of(folder).slice(0, PICTURES).select(["image_id", "score"]).to_pylist()
    return [Pick(row["image_id"], row["score"]) for row in rows]


def galleries(
    out: Path,
    config: RunConfig,
    picks: Mapping[str, Sequence[Pick]],
    labels: Mapping[str, Path],
    classes: Sequence[str],
) -> Galleries:
    """Pictures of what was picked.

    Args:
        out: the experiment's folder, with the table of its pool.
        config: of its runs.
        picks: title → picks.
        labels: title → folder of the labels that were bought.
        classes: those that are learnt.
    """
    wanted = list(dict.fromkeys(pick.image_id for of in picks.values() for pick in of))
    rows = _pool_rows(RunFolder(out).pool, wanted)
    reader = ImageReader({i: row["uri"] for i, row in rows.items()}, config.pool.max_pixels, Storage.of(config.pool))
    most = min(MAX_PICTURE_BYTES, PAGE_PICTURE_BYTES // max(len(wanted), 1))
    pictures, missing, colour_of = dict[int, str](), dict[str, str](), class_colours(list(classes))
    for number, image_id in enumerate(wanted):
        try:
            pictures[number] = jpeg_uri(reader.read(image_id), most)
        except RejectedImage as error:
            missing[image_id] = f"{error.reason}: {error.detail}"
        except PoolscoutError as error:
            missing[image_id] = error.problem
    numbers = {image_id: number for number, image_id in enumerate(wanted) if number in pictures}
    strips = []
    for title, of in picks.items():
        boxes = _boxes(labels[title], [pick.image_id for pick in of], colour_of)
        cards = []
        for pick in of:
            row = rows.get(pick.image_id, {"sequence": "", "width": 4, "height": 3})
            cards.append(Card(
                pick, numbers.get(pick.image_id), str(row["sequence"]), row["width"], row["height"],
                boxes.get(pick.image_id, []), missing.get(pick.image_id, ""),
            ))  # fmt: skip
        strips.append(Strip(title, cards))
    return Galleries(strips, pictures, colour_of)


def _pool_rows(pool: Path, image_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    wanted = pa.array(image_ids, pa.string())
    found = [part.filter(pc.is_in(part["image_id"], wanted)).to_pylist() for part in iter_parts(pool, POOL)]
    return {row["image_id"]: row for rows in found for row in rows}


def _boxes(labels: Path, image_ids: Sequence[str], colour_of: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What was labelled in these images, of the classes that are learnt."""
    store, wanted = LabelStore(labels), pa.array(image_ids, pa.string())
    if not store.version:
        return {}
    known = store.current().boxes
    found: dict[str, list[dict[str, Any]]] = {}
    for row in known.filter(pc.is_in(known["image_id"], wanted)).to_pylist():
        if row["class"] in colour_of:
            found.setdefault(row["image_id"], []).append({
                "x": round(row["x1_px"]), "y": round(row["y1_px"]), "width": round(row["x2_px"] - row["x1_px"]),
                "height": round(row["y2_px"] - row["y1_px"]), "class": row["class"], "colour": colour_of[row["class"]],
            })  # fmt: skip
    return found
