"""Labelled images, decoded and fitted once: in memory, or in a memory map when a cache path is given."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from poolscout.engine import ThreadExecutor, available_cores
from poolscout.errors import DataError, some
from poolscout.tables.atomic import storage_errors


@runtime_checkable
class Fitted(Protocol):
    """An image fitted into the detector's input: input_px = image_px · scale."""

    @property
    def pixels(self) -> np.ndarray: ...  # uint8 [3, height, width]
    @property
    def scale(self) -> float: ...


@dataclass(frozen=True)
class TrainingSet:
    """Labelled images of one size with their boxes in input pixels."""

    images: UInt8[Tensor, "_ 3 height width"]
    boxes_xyxy_px: list[Float[Tensor, "_ 4"]]
    classes: list[Int[Tensor, " _"]]  # class indices
    weights: Float[Tensor, " n"]  # how often an image is drawn, relative to the others
    sequences: list[str]  # frames of one sequence are held back together
    rows: list[int] | None = None  # where in `images` each image lies; None = all of them, in order
    cache: Path | None = None  # the file that `images` are mapped from

    def __len__(self) -> int:
        return len(self.classes)

    def image(self, position: int) -> UInt8[Tensor, "3 height width"]:
        """The pixels of one image."""
        return self.images[position if self.rows is None else self.rows[position]]

    def subset(self, positions: Sequence[int]) -> TrainingSet:
        """The images at `positions`, in that order; the pixels are shared, not copied."""
        return TrainingSet(
            self.images,
            [self.boxes_xyxy_px[i] for i in positions],
            [self.classes[i] for i in positions],
            self.weights[torch.as_tensor(positions, dtype=torch.long)],
            [self.sequences[i] for i in positions],
            [i if self.rows is None else self.rows[i] for i in positions],
            self.cache,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Mapped pixels are not sent to another process, which can map them too."""
        images = self.images.numpy() if self.cache is None else tuple(self.images.shape)
        rest = (self.boxes_xyxy_px, self.classes, self.weights, self.sequences, self.rows, self.cache)
        return _arrived, (images, *rest)


def _arrived(images: np.ndarray | tuple[int, ...], *rest: Any) -> TrainingSet:
    cache = rest[-1]
    if not isinstance(images, tuple):
        # Read-only in Ray's shared memory; training only reads, and says so to no one.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return TrainingSet(torch.from_numpy(images), *rest)
    if not cache.is_file():
        raise DataError(
            f"{cache}: the training images are not there", got="no such file on this worker's machine",
            expected="a run's folder on storage that all machines share", fix="see docs/cluster.md",
        )  # fmt: skip
    return TrainingSet(_mapped(cache, images), *rest)


def build_training_set(
    image_ids: Sequence[str],
    weights: Sequence[float],
    labels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    sequences: Sequence[str | None],
    read: Callable[[str], Fitted | None],
    height: int,
    width: int,
    cache_path: Path | None = None,
) -> TrainingSet:
    """Decode and fit every image once, in threads.

    Args:
        image_ids: labelled images, each once.
        weights: how often each is drawn, relative to the others; above 0.
        labels: for each image its boxes [k, 4] (xyxy, image pixels) and class indices [k].
        sequences: recording of each image; None = an image on its own.
        read: image_id → pixels [3, height, width] and the scale from image to input pixels; None = the image is
            unusable and left out.
        height, width: the detector's input, px.
        cache_path: file of the memory map that holds the pixels; None = they are held in memory.

    Raises:
        DataError: no images or no usable ones, an image without an entry in `labels`, or weights that are not above 0.
    """
    _check(image_ids, weights, labels, sequences)
    pixels = _pixels(len(image_ids), height, width, cache_path)

    kept, boxes, classes = list[int](), [], []
    for i, fitted in enumerate(ThreadExecutor(available_cores()).map(read, image_ids)):
        if fitted is None:
            continue
        pixels[len(kept)] = torch.from_numpy(np.ascontiguousarray(fitted.pixels))
        kept.append(i)
        image_boxes, image_classes = labels[image_ids[i]]
        boxes.append(torch.as_tensor(np.array(image_boxes, np.float32).reshape(-1, 4)) * fitted.scale)
        classes.append(torch.as_tensor(np.array(image_classes, np.int64).reshape(-1)))
    if not kept:
        raise DataError(
            "no labelled image can be read", got=f"{len(image_ids)} unusable images", expected="at least 1 usable one",
            fix="see the quarantine table for the reasons",
        )  # fmt: skip
    groups = [f"image {image_ids[i]}" if sequences[i] is None else str(sequences[i]) for i in kept]
    kept_weights = torch.tensor([weights[i] for i in kept], dtype=torch.float32)
    return TrainingSet(pixels[: len(kept)], boxes, classes, kept_weights, groups, None, cache_path)


def _pixels(n: int, height: int, width: int, cache_path: Path | None) -> UInt8[Tensor, "n 3 height width"]:
    shape = (n, 3, height, width)
    if cache_path is None:
        return torch.empty(shape, dtype=torch.uint8)
    cache_path.parent.mkdir(parents=True, exist_ok=True)
    size = n * 3 * height * width
    # Mapped files are sparse: on a full disk, writing to one would kill the process instead of raising.
    with storage_errors(cache_path), cache_path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return _mapped(cache_path, shape)


def _mapped(path: Path, shape: tuple[int, ...]) -> UInt8[Tensor, "n 3 height width"]:
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=torch.uint8).view(shape)


def _check(
    image_ids: Sequence[str], weights: Sequence[float], labels: Mapping[str, object], sequences: Sequence[str | None]
) -> None:
    if not image_ids:
        raise DataError(
            "there is nothing to train on", got="0 labelled images", expected="at least 1", fix="label some first"
        )
    missing = [image_id for image_id in image_ids if image_id not in labels]
    if missing:
        raise DataError(
            "images to train on have no entry in the labels", got=some(missing), expected="boxes, or an empty list",
            fix="label them, or leave them out",
        )  # fmt: skip
    if not len(image_ids) == len(weights) == len(sequences):
        raise DataError(
            "image_ids, weights and sequences differ in length",
            got=f"{len(image_ids)}, {len(weights)} and {len(sequences)}", expected="one of each for each image",
        )  # fmt: skip
    wrong = [f"{i}: {w}" for i, w in zip(image_ids, weights, strict=True) if not 0 < w < float("inf")]
    if wrong:
        raise DataError("training weights must be finite and above 0", got=some(wrong), expected="e.g. 1.0")
