"""Training batches: random zoomed crops of the training images, flipped and re-coloured, with their boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
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
        counts = torch.tensor([len(one) for one in data.classes])
        self._object_image = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self._object_box = torch.cat([torch.arange(n) for n in counts.tolist()])
        classes = torch.cat(data.classes)
        self._object_odds = torch.zeros(0, dtype=torch.double)  # cumulative
        if len(classes):
            odds = data.weights[self._object_image].double()
            per_class = torch.zeros(int(classes.max()) + 1, dtype=torch.double).index_add_(0, classes, odds)
            self._object_odds = (odds * per_class[classes].pow(-config.balance)).cumsum(0)

    def draw(self) -> Batch:
        """One batch of `config.batch_size` crops."""
        config, data = self.config, self.data
        n, height, width = config.batch_size, config.crop_height, config.crop_width
        drawn = [self._window(chances) for chances in torch.rand((n, 7), generator=self.generator).tolist()]
        images = torch.empty((n, 3, height, width), dtype=torch.uint8)
        for slot, (image, window, flipped) in enumerate(drawn):
            pixels = resized_window(data.image(image), *window, height, width)
            images[slot] = pixels.flip(2) if flipped else pixels
        shown = [image for image, *_ in drawn]
        owners = torch.repeat_interleave(torch.arange(n), torch.tensor([len(data.classes[i]) for i in shown]))
        boxes, keep = window_boxes(
            torch.cat([data.boxes_xyxy_px[i] for i in shown]),
            torch.tensor([window for _, window, _ in drawn])[owners], height, width,
        )  # fmt: skip
        boxes, owners, classes = boxes[keep], owners[keep], torch.cat([data.classes[i] for i in shown])[keep]
        flip = torch.tensor([flipped for *_, flipped in drawn])[owners]
        boxes[flip] = torch.tensor([width, 0.0, width, 0.0]) + boxes[flip][:, [2, 1, 0, 3]] * torch.tensor(
            [-1, 1, -1, 1]
        )
        return Batch(images, boxes, classes, owners)

    def _window(self, chances: list[float]) -> tuple[int, tuple[int, int, int, int], bool]:
        """An image, what is cut out of it (left, top, width and height in px), and whether that is flipped.

        Args:
            chances: seven, uniform in 0…1.
        """
        config, data = self.config, self.data
        (low, high), (zoom, stretch, on_object, drawn, across, down, flip) = config.zoom, chances
        zoom, stretch = low * (high / low) ** zoom, 1.15 ** (2 * stretch - 1)
        height, width = config.crop_height / zoom * stretch, config.crop_width / zoom / stretch
        if len(self._object_odds) and on_object < config.on_objects:
            at = torch.searchsorted(self._object_odds, self._object_odds[-1] * drawn, right=True)
            at = at.clamp_max(len(self._object_odds) - 1)
            image = int(self._object_image[at])
            x1, y1, x2, y2 = data.boxes_xyxy_px[image][self._object_box[at]].tolist()
            left = (x1 + x2) / 2 - width * (0.1 + 0.8 * across)
            top = (y1 + y2) / 2 - height * (0.1 + 0.8 * down)
        else:
            image = self._next_image()
            left = across * (data.images.shape[3] - width)
            top = down * (data.images.shape[2] - height)
        return image, (round(left), round(top), max(round(width), 1), max(round(height), 1)), flip < config.flip

    def _next_image(self) -> int:
        """Images in shuffled passes; one of weight 2 comes twice a pass."""
        if not self._queue:
            weights = self.data.weights.double() / self.data.weights.min()
            whole = weights.floor()
            times = whole + (torch.rand(len(weights), generator=self.generator) < weights - whole)
            images = torch.repeat_interleave(torch.arange(len(weights)), times.long())
            self._queue = images[torch.randperm(len(images), generator=self.generator)].tolist()
        return self._queue.pop()


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
    boxes_xyxy_px: Float[Tensor, "n 4"], windows: Int[Tensor, "n 4"], to_height: int, to_width: int
) -> tuple[Float[Tensor, "n 4"], Bool[Tensor, " n"]]:
    """Boxes as their resized windows (left, top, width and height in px) show them; which can be learnt from.

    Those hardly visible or too small cannot.
    """
    limit = boxes_xyxy_px.new_tensor([to_width, to_height] * 2)
    moved = (boxes_xyxy_px - windows[:, :2].repeat(1, 2)) * (limit / windows[:, 2:].repeat(1, 2))
    cut = torch.minimum(moved.clamp_min(0), limit)
    visible = (cut[:, 2:] - cut[:, :2]).prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1).clamp_min(1e-6)
    return cut, (visible >= LEAST_VISIBLE) & ((cut[:, 2:] - cut[:, :2]).amin(1) >= LEAST_SIDE)


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
