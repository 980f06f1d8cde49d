"""What people need to label the picked images: a list, the images, the ensemble's guesses, and what to do next."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import DataError, some
from poolscout.formats.coco import write_coco
from poolscout.formats.content import AnnotatedImage
from poolscout.formats.image_files import IMAGE_SUFFIXES
from poolscout.tables.atomic import storage_errors, write_text
from poolscout.tables.declared import BOXES, ENSEMBLE
from poolscout.tables.manifest import fingerprint

_MOST_BYTES = 200  # of a name: file systems take 255, and temporary files have longer ones
CORNERS = ("x1_px", "y1_px", "x2_px", "y2_px")

_README = """These {n} images were picked to be labelled next.

  images/               the images, or links to them; give this folder to your label tool
  list.txt              their image ids, in pick order
  list.csv              the same with the name in images/, the size and where the image is
{guesses}
Classes: {classes}

What to do:

  1. Label the images with these classes. An image that shows none of them is labelled too: leave it without boxes.
  2. Export the FINISHED images as COCO json, YOLO or Pascal VOC (images named as in images/ or in list.txt).
     Every image listed there counts as labelled, so leave unfinished ones out and deliver them later.
  3. Add the file (or folder); as often as you like, corrected labels replace earlier ones:

       poolscout labels add LABELS.json --run {run}

  4. Start the same `poolscout run` command again: it goes on when enough labels are there.
"""
_GUESSES = "  preannotations.json   COCO with the ensemble's boxes and scores, to start from; not labels\n"


def request_labels(
    folder: Path,
    pool: pa.Table,
    image_ids: Sequence[str],
    detections: pa.Table | None,
    classes: Sequence[str],
    *,
    run: Path,
    fetch: Callable[[Mapping[str, Path]], Collection[str]] = lambda places: (),
) -> None:
    """Write list.txt, list.csv, images/, README.txt and, where there are guesses, preannotations.json into `folder`.

    Args:
        folder: made when missing; written again, it is the same.
        pool: POOL table; rows of other images are ignored.
        image_ids: the picked images in pick order.
        detections: DETECTIONS table; only boxes of the ensemble (member −1) are used. None = no guesses yet.
        classes: the run's classes.
        run: the run's folder, for the command in README.txt.
        fetch: is told where each image belongs, by image_id; writes those that no link can lead to, because they are
            no files of their own on this machine, and returns their ids.

    Raises:
        DataError: a picked image is not in `pool`.
        StorageError: the disk is full or refuses.
    """
    picked = pool.filter(pc.is_in(pool["image_id"], pa.array(list(image_ids), pa.string())))
    rows = {row["image_id"]: row for row in picked.select(["image_id", "uri", "width", "height"]).to_pylist()}
    unknown = [image_id for image_id in image_ids if image_id not in rows]
    if unknown:
        raise DataError(
            "picked images are not in the pool", got=some(unknown), expected="image ids of the pool",
            fix="run the selection again on this pool",
        )  # fmt: skip
    links = {image_id: link_name(image_id, rows[image_id]["uri"]) for image_id in image_ids}
    _tidy(folder / "images", links.values())
    fetched = set(fetch({image_id: folder / "images" / name for image_id, name in links.items()}))
    _link(folder / "images", {links[i]: rows[i]["uri"] for i in image_ids if i not in fetched})
    write_text(folder / "list.txt", "".join(f"{image_id}\n" for image_id in image_ids))
    listed = [(i, links[i], rows[i]["width"], rows[i]["height"], rows[i]["uri"]) for i in image_ids]
    write_text(folder / "list.csv", _csv([("image_id", "link", "width", "height", "uri"), *listed]))
    if detections is not None:
        boxes, scores = _guesses(image_ids, rows, links, detections)
        images = [AnnotatedImage(links[i], rows[i]["width"], rows[i]["height"]) for i in image_ids]
        info = {"description": "the ensemble's guesses, not labels", "poolscout_guesses": guesses_digest(boxes)}
        write_coco(folder / "preannotations.json", images, boxes, classes, scores=scores, info=info)
    words = {"classes": ", ".join(classes), "run": shlex.quote(str(run))}
    guesses = "" if detections is None else _GUESSES
    write_text(folder / "README.txt", _README.format(n=len(image_ids), guesses=guesses, **words))


def link_name(image_id: str, uri: str = "") -> str:
    """A file name for an image, the same in every run: ids in folders are flattened, and a hash keeps them apart.

    It ends as an image's: as the id does, else as the URI; else, as a video's frame, in .png.
    """
    suffixes = [PurePosixPath(name).suffix for name in (image_id, uri)]
    suffix = next((suffix for suffix in suffixes if suffix.lower() in IMAGE_SUFFIXES), ".png")
    if "/" not in image_id and image_id.endswith(suffix) and len(image_id.encode()) <= _MOST_BYTES:
        return image_id
    flat = image_id.removesuffix(suffix).strip("/").replace("/", "__")
    # Signs that mean something in URLs or on other systems; label tools stumble over them.
    flat = re.sub(r'[#?%:*"<>|\\]+', "-", flat).encode()[-_MOST_BYTES:].decode(errors="ignore")
    return f"{flat}-{hashlib.sha256(image_id.encode()).hexdigest()[:8]}{suffix}"


def guesses_digest(boxes: pa.Table) -> str:
    """Tells the pre-annotations as written from what a person made of them."""
    return fingerprint(boxes.to_pylist())


def _guesses(
    image_ids: Sequence[str], rows: dict[str, dict], links: dict[str, str], detections: pa.Table
) -> tuple[pa.Table, list[float]]:
    """Boxes (image_id = link name) in pick order, the strongest of an image first, and their probabilities."""
    picked = pc.is_in(detections["image_id"], pa.array(list(image_ids), pa.string()))
    table = detections.filter(pc.and_(pc.equal(detections["member"], ENSEMBLE), picked))
    sizes = [(rows[i]["width"], rows[i]["height"]) for i in table["image_id"].to_pylist()]
    limits = np.array(sizes, np.float32).reshape(-1, 2)
    corners = np.stack([table[name].to_numpy() for name in CORNERS], axis=1).clip(0, np.tile(limits, 2))
    place_of = {image_id: number for number, image_id in enumerate(image_ids)}
    place = np.array([place_of[i] for i in table["image_id"].to_pylist()], np.int64)
    probabilities = table["probability"].to_numpy()
    order = np.lexsort((-probabilities, place))
    order = order[(corners[order, 2] > corners[order, 0]) & (corners[order, 3] > corners[order, 1])]
    boxes = {
        "image_id": [links[image_ids[number]] for number in place[order]],
        "class": table["class"].take(order),
        **{name: corners[order, column] for column, name in enumerate(CORNERS)},
    }
    return BOXES.check(pa.table(boxes), "pre-annotations"), probabilities[order].tolist()


def _tidy(folder: Path, names: Collection[str]) -> None:
    """The folder, with nothing in it but these names."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for stale in {path.name for path in folder.iterdir()} - set(names):
            (folder / stale).unlink()


def _link(folder: Path, targets: dict[str, str]) -> None:
    with storage_errors(folder):
        for name, target in targets.items():
            link = folder / name
            if os.path.lexists(link):
                link.unlink()
            try:
                link.symlink_to(Path(target).absolute())
            except (OSError, NotImplementedError):  # file systems without links
                shutil.copyfile(target, link)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
