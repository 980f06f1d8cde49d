"""Images on their way to a detector: decoded and fitted ahead in threads, a bounded number at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from poolscout.engine import ThreadExecutor
from poolscout.pool import FittedImage, ImageReader, RejectedImage, fit_image


@dataclass(frozen=True)
class ImageBatch:
    """Some images as a detector takes them, and those that could not be read.

    Attributes:
        image_ids: one per row of `pixels`; may be empty when all were rejected.
        pixels: letterboxed RGB, content at the top left.
        scales: input pixels an image pixel, per image: input_px = image_px · scale.
        valid_px: (height, width) of the content in `pixels`; the rest is padding.
        sizes: (height, width) of the upright image, in image pixels.
        rejected: rows of the quarantine table.
    """

    image_ids: list[str]
    pixels: UInt8[Tensor, "images 3 height width"]
    scales: list[float]
    valid_px: list[tuple[int, int]]
    sizes: list[tuple[int, int]]
    rejected: list[dict[str, str]]

    def valid(self, map_height: int, map_width: int) -> Bool[Tensor, "images map_height map_width"]:
        """Which positions of a map over `pixels` show any of the image, and not only padding."""
        height, width = self.pixels.shape[-2:]
        valid = torch.zeros(len(self.image_ids), map_height, map_width, dtype=torch.bool)
        for mask, (valid_height, valid_width) in zip(valid, self.valid_px, strict=True):
            mask[: math.ceil(valid_height * map_height / height), : math.ceil(valid_width * map_width / width)] = True
        return valid


def stream_images(
    image_ids: Iterable[str],
    reader: ImageReader,
    *,
    height: int,
    width: int,
    batch_size: int,
    stage: str,
    workers: int | None = None,
) -> Generator[ImageBatch, None, None]:
    """Read, decode and fit images in batches, in order; see `stream_batches`.

    Args:
        image_ids: what to read.
        reader: reads and decodes one image.
        height, width: the detector's input, px.
        batch_size: images a batch; a batch with rejected images is that much smaller.
        stage: what the quarantine table says found a bad image.
        workers: decoding threads; default: one for each core this process may use.
    """
    ids = iter(image_ids)
    batches = iter(lambda: list(islice(ids, batch_size)), [])
    yield from stream_batches(batches, reader, height=height, width=width, stage=stage, workers=workers)


def stream_batches(
    batches: Iterable[Sequence[str]],
    reader: ImageReader,
    *,
    height: int,
    width: int,
    stage: str,
    workers: int | None = None,
) -> Generator[ImageBatch, None, None]:
    """One `ImageBatch` for each list of image ids, in order; each image is in its `image_ids` or its `rejected`.

    A thread prepares a whole batch, and at most two batches a thread are held ahead of the reader.
    """

    def prepare(ids: Sequence[str]) -> ImageBatch:
        return _read_batch(ids, reader, height, width, stage)

    yield from ThreadExecutor(workers or available_cores()).map(prepare, batches)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_batch(ids: Sequence[str], reader: ImageReader, height: int, width: int, stage: str) -> ImageBatch:
    kept: list[str] = []
    fitted: list[FittedImage] = []
    sizes: list[tuple[int, int]] = []
    rejected = []
    for image_id in ids:
        try:
            image = reader.read(image_id)
        except RejectedImage as error:
            row = {"image_id": image_id, "uri": reader.uris[image_id], "stage": stage}
            rejected.append(row | {"reason": error.reason, "detail": error.detail})
            continue
        kept.append(image_id)
        fitted.append(fit_image(image, height, width))
        sizes.append((image.shape[0], image.shape[1]))
    pixels = np.stack([image.pixels for image in fitted]) if fitted else np.empty((0, 3, height, width), np.uint8)
    return ImageBatch(
        kept,
        torch.from_numpy(pixels),
        [image.scale for image in fitted],
        [(image.valid_height, image.valid_width) for image in fitted],
        sizes,
        rejected,
    )
