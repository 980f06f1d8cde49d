"""What each member finds on the test images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from poolscout.detector.decode import decode
from poolscout.detector.member import Member
from poolscout.detector.stream import ImageBatch, stream_images
from poolscout.pool import ImageReader
from poolscout.tables.declared import DETECTIONS, QUARANTINE

MIN_PROBABILITY = 0.001  # AP wants the whole precision-recall curve, so nearly everything counts
MAX_BOXES = 100  # an image, as COCO does


def detect(
    members: Sequence[Member],
    images: pa.Table,
    reader: ImageReader,
    *,
    height: int,
    width: int,
    batch_size: int = 16,
    progress: Callable[[int], object] = lambda done: None,
) -> tuple[pa.Table, pa.Table]:
    """Detections of every single member, in one streaming pass: each image is decoded once.

    Args:
        members: the ensemble; `member` in the result is the position in it.
        images: a table with `image_id`, e.g. POOL.
        reader: reads and decodes one image.
        height, width: the detectors' input, px.
        batch_size: images a forward pass.
        progress: called with the number of images done.

    Returns:
        DETECTIONS table, boxes in px of the upright image; QUARANTINE table of the images that could not be read.
    """
    columns: dict[str, list[Any]] = {column.name: [] for column in DETECTIONS.columns}
    rejected: list[dict[str, str]] = []
    done = 0
    ids = images.column("image_id").to_pylist()
    for batch in stream_images(ids, reader, height=height, width=width, batch_size=batch_size, stage="evaluation"):
        rejected += batch.rejected
        if batch.image_ids:
            for number, member in enumerate(members):
                _append(columns, batch, number, member)
        done += len(batch.image_ids) + len(batch.rejected)
        progress(done)
    detections = DETECTIONS.check(pa.table(columns, schema=DETECTIONS.schema), "detections")
    return detections, QUARANTINE.from_rows(rejected)


def _append(columns: dict[str, list[Any]], batch: ImageBatch, number: int, member: Member) -> None:
    output = member(batch.pixels)
    valid = batch.valid(*output.probabilities.shape[-2:]).to(output.probabilities.device)
    found = batch.upright(decode(
        output.probabilities * valid[:, None],  # nothing is found in the padding
        output.box_parameters, member.architecture.stride, min_probability=MIN_PROBABILITY, max_boxes=MAX_BOXES,
        nms_iou=member.architecture.nms_iou,
    ))  # fmt: skip
    columns["image_id"] += [batch.image_ids[i] for i in found.images.tolist()]
    columns["member"] += [number] * len(found.images)
    columns["class"] += [member.classes[c] for c in found.classes.tolist()]
    columns["probability"] += found.probabilities.tolist()
    for name, values in zip(("x1_px", "y1_px", "x2_px", "y2_px"), found.boxes_xyxy_px.T.tolist(), strict=True):
        columns[name] += values
