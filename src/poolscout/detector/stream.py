"""Images on their way to a detector: decoded and fitted ahead in threads, a bounded number at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from poolscout.boxes import box_area, clip_boxes
from poolscout.detector.decode import Detections
from poolscout.engine import ThreadExecutor, available_cores
from poolscout.pool import FittedImage, ImageReader, RejectedImage


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
        valid = torch.zeros(len(self.image_ids), map_height, map_width, dtype=torch.bool)
        for mask, (rows, columns) in zip(valid, self.shown_cells(map_height, map_width), strict=True):
            mask[:rows, :columns] = True
        return valid

    def is_padded(self, map_height: int, map_width: int) -> bool:
        """Whether any position of such a map shows padding only."""
        return any(cells != (map_height, map_width) for cells in self.shown_cells(map_height, map_width))

    def n_valid(self, map_height: int, map_width: int) -> Float[Tensor, " images"]:
        """How many positions of such a map show any of each image."""
        return torch.tensor([float(h * w) for h, w in self.shown_cells(map_height, map_width)])

    def shown_cells(self, map_height: int, map_width: int) -> list[tuple[int, int]]:
        """(rows, columns) of such a map that show any of each image; the rest is padding."""
        height, width = self.pixels.shape[-2:]
        return [
            (math.ceil(valid_height * map_height / height), math.ceil(valid_width * map_width / width))
            for valid_height, valid_width in self.valid_px
        ]

    def upright(self, found: Detections) -> Detections:
        """Detections in input pixels, moved to pixels of the upright images and cut at their borders.

        Boxes that lie outside are left out.
        """
        at = found.images.cpu()
        scales = torch.tensor(self.scales, dtype=torch.float32)[at]
        height_px, width_px = torch.tensor(self.sizes, dtype=torch.float32).view(-1, 2)[at].unbind(1)
        boxes = clip_boxes(found.boxes_xyxy_px.cpu() / scales[:, None], width_px, height_px)
        inside = box_area(boxes) > 0
        moved = Detections._make(None if part is None else part.cpu() for part in found)
        return moved._replace(boxes_xyxy_px=boxes).take(inside)


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
        return read_batch(ids, reader, height, width, stage)

    yield from ThreadExecutor(workers or available_cores()).map(prepare, batches)


def on_device(
    batches: Iterable[tuple[Sequence[str], ImageBatch]], device: torch.device
) -> Iterator[tuple[Sequence[str], ImageBatch, Tensor]]:
    """Batches, after the ids they were read by, with their pixels on a CUDA device.

    The next batch is copied from pinned memory on a stream of its own while the one before is computed.
    """
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    ahead: deque[tuple[Sequence[str], ImageBatch, Tensor, torch.cuda.Event]] = deque()

    def ready() -> tuple[Sequence[str], ImageBatch, Tensor]:
        ids, batch, pixels, copied = ahead.popleft()
        computing.wait_event(copied)
        pixels.record_stream(computing)  # its memory is not given away before the computation is through
        return ids, batch, pixels

    for ids, batch in batches:
        with torch.cuda.stream(copying):
            pixels = batch.pixels.pin_memory().to(device, non_blocking=True)
        ahead.append((ids, batch, pixels, copying.record_event()))
        if len(ahead) == 2:
            yield ready()
    while ahead:
        yield ready()


def read_batch(ids: Sequence[str], reader: ImageReader, height: int, width: int, stage: str) -> ImageBatch:
    """Read, decode and fit some images in the calling thread; see `stream_batches`."""
    kept: list[str] = []
    fitted: list[FittedImage] = []
    sizes: list[tuple[int, int]] = []
    rejected = []
    for image_id in ids:
        try:
            image = reader.read_fitted(image_id, height, width)
        except RejectedImage as error:
            row = {"image_id": image_id, "uri": reader.uris[image_id], "stage": stage}
            rejected.append(row | {"reason": error.reason, "detail": error.detail})
            continue
        kept.append(image_id)
        fitted.append(image)
        sizes.append((image.image_height, image.image_width))
    pixels = np.stack([image.pixels for image in fitted]) if fitted else np.empty((0, 3, height, width), np.uint8)
    return ImageBatch(
        kept,
        torch.from_numpy(pixels),
        [image.scale for image in fitted],
        [(image.valid_height, image.valid_width) for image in fitted],
        sizes,
        rejected,
    )
