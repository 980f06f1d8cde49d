"""Training batches: random zoomed crops of the training images, flipped and re-coloured, with their boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor
from torch.nn import functional as F

from poolscout.config import TrainingConfig
from poolscout.training.dataset import TrainingSet

GREY = 114  # fills what lies outside the image, as the letterbox does
LEAST_VISIBLE = 0.35  # of an object's area: with less in the crop it is no object of the crop
LEAST_SIDE = 2.0  # px: smaller than that after zooming, an object is no longer learnt


class Batch(NamedTuple):
    """Crops with the boxes of all of them."""

    images: UInt8[Tensor, "images 3 height width"]
    boxes_xyxy_px: Float[Tensor, "n 4"]  # crop pixels
    classes: Int[Tensor, " n"]
    owners: Int[Tensor, " n"]  # position in the batch of each box's image


class Crops:
    """Draws batches from a training set; all randomness from one generator.

    Args:
        data: images and boxes.
        config: crop size, zoom, shares.
        generator: the only source of randomness.
    """

    def __init__(self, data: TrainingSet, config: TrainingConfig, generator: Generator) -> None:
        self.data, self.config, self.generator = data, config, generator
        self._queue: list[int] = []
        self._object_image = torch.cat(
            [torch.full((len(c),), i) for i, c in enumerate(data.classes)] or [torch.zeros(0)]
        ).long()
        self._object_box = torch.cat([torch.arange(len(c)) for c in data.classes]).long()
        classes = torch.cat(data.classes)
        self._object_odds = torch.zeros(0)
        if len(classes):
            odds = data.weights[self._object_image].double()
            per_class = torch.zeros(int(classes.max()) + 1, dtype=torch.double).index_add_(0, classes, odds)
            self._object_odds = odds * per_class[classes].pow(-config.balance)

    def draw(self) -> Batch:
        """One batch of `config.batch_size` crops."""
        config = self.config
        size = (config.batch_size, 3, config.crop_height, config.crop_width)
        images = torch.empty(size, dtype=torch.uint8, memory_format=torch.channels_last)
        boxes, classes, owners = [], [], []
        for slot in range(config.batch_size):
            crop, crop_boxes, crop_classes = self._crop()
            images[slot] = crop
            boxes.append(crop_boxes)
            classes.append(crop_classes)
            owners.append(torch.full((len(crop_classes),), slot))
        return Batch(images, torch.cat(boxes), torch.cat(classes), torch.cat(owners))

    def _uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def _next_image(self) -> int:
        """Images in shuffled passes; one of weight 2 comes twice a pass."""
        if not self._queue:
            weights = self.data.weights.double() / self.data.weights.min()
            whole = weights.floor()
            times = whole + (torch.rand(len(weights), generator=self.generator) < weights - whole)
            images = torch.repeat_interleave(torch.arange(len(weights)), times.long())
            self._queue = images[torch.randperm(len(images), generator=self.generator)].tolist()
        return self._queue.pop()

    def _crop(self) -> tuple[Tensor, Tensor, Tensor]:
        config, data = self.config, self.data
        low, high = config.zoom
        zoom = low * (high / low) ** self._uniform()
        stretch = 1.15 ** self._uniform(-1.0, 1.0)
        height, width = config.crop_height / zoom * stretch, config.crop_width / zoom / stretch
        if len(self._object_odds) and self._uniform() < config.on_objects:
            drawn = int(torch.multinomial(self._object_odds, 1, generator=self.generator))
            image = int(self._object_image[drawn])
            x1, y1, x2, y2 = data.boxes_xyxy_px[image][self._object_box[drawn]].tolist()
            left = (x1 + x2) / 2 - width * self._uniform(0.1, 0.9)
            top = (y1 + y2) / 2 - height * self._uniform(0.1, 0.9)
        else:
            image = self._next_image()
            left = self._uniform() * (data.images.shape[3] - width)
            top = self._uniform() * (data.images.shape[2] - height)
        window = (round(left), round(top), max(round(width), 1), max(round(height), 1))
        pixels = resized_window(data.image(image), *window, config.crop_height, config.crop_width)
        boxes, classes = window_boxes(
            data.boxes_xyxy_px[image], data.classes[image], *window, config.crop_height, config.crop_width
        )
        if self._uniform() < config.flip:
            pixels = pixels.flip(2)
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = torch.stack([config.crop_width - x2, y1, config.crop_width - x1, y2], dim=1)
        return pixels, boxes, classes


def resized_window(
    image: UInt8[Tensor, "3 height width"], left: int, top: int, width: int, height: int, to_height: int, to_width: int
) -> UInt8[Tensor, "3 to_height to_width"]:
    """A window of an image, grey where it lies outside, resized with antialiasing."""
    h, w = image.shape[1:]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, w), min(top + height, h)
    if x1 >= x2 or y1 >= y2:
        return torch.full((3, to_height, to_width), GREY, dtype=torch.uint8)
    scale_y, scale_x = to_height / height, to_width / width
    into = [round((x1 - left) * scale_x), round((y1 - top) * scale_y),
            round((x2 - left) * scale_x), round((y2 - top) * scale_y)]  # fmt: skip
    out_h, out_w = max(into[3] - into[1], 1), max(into[2] - into[0], 1)
    inside = F.interpolate(image[None, :, y1:y2, x1:x2], (out_h, out_w), mode="bilinear", antialias=True)[0]
    if (out_h, out_w) == (to_height, to_width):
        return inside
    canvas = torch.full((3, to_height, to_width), GREY, dtype=torch.uint8)
    top_i, left_i = min(into[1], to_height - out_h), min(into[0], to_width - out_w)
    canvas[:, top_i : top_i + out_h, left_i : left_i + out_w] = inside
    return canvas


def window_boxes(
    boxes_xyxy_px: Float[Tensor, "n 4"],
    classes: Int[Tensor, " n"],
    left: int, top: int, width: int, height: int, to_height: int, to_width: int,
) -> tuple[Float[Tensor, "k 4"], Int[Tensor, " k"]]:  # fmt: skip
    """Boxes as the resized window shows them; those hardly visible or too small are left out."""
    origin = boxes_xyxy_px.new_tensor([left, top, left, top])
    scale = boxes_xyxy_px.new_tensor([to_width / width, to_height / height] * 2)
    moved = (boxes_xyxy_px - origin) * scale
    limit = moved.new_tensor([to_width, to_height] * 2)
    cut = torch.minimum(moved.clamp_min(0), limit)
    visible = (cut[:, 2:] - cut[:, :2]).prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1).clamp_min(1e-6)
    keep = (visible >= LEAST_VISIBLE) & ((cut[:, 2:] - cut[:, :2]).amin(1) >= LEAST_SIDE)
    return cut[keep], classes[keep]


def to_input(
    images: UInt8[Tensor, "images 3 height width"], strength: float, generator: Generator
) -> Float[Tensor, "images 3 height width"]:
    """Images in 0…1 with a random gain and offset for each image, and a weaker gain for each channel."""
    n = len(images)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    gain = torch.exp(strength * draw(n, 1, 1, 1) + strength / 4 * draw(n, 3, 1, 1))
    offset = strength / 3 * draw(n, 1, 1, 1)
    pixels = images.to(torch.float32, memory_format=torch.channels_last)
    return torch.addcmul((offset - gain / 2 + 0.5).to(pixels), pixels, (gain / 255).to(pixels))
