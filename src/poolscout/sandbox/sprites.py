"""A sprite: one picture with its size in metres, ready to be scaled to any size in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

PX_PER_M = 40
SUPERSAMPLING = 3
COVERED = 64
"""Alpha from which a pixel belongs to the object: a quarter covered."""

Colour = tuple[int, int, int]


class Scaled(NamedTuple):
    """A sprite in pixels: colours, soft alpha and the mask of the pixels that belong to the object."""

    colours: Image.Image
    """RGBX, the X being the alpha: the mode of the picture it is pasted into."""
    alpha: Image.Image
    mask: NDArray[np.bool_]


class Sprite:
    """One picture [rows, columns, RGBA] and the rectangle in metres that it covers, from the point it stands on."""

    def __init__(
        self, picture: NDArray[np.uint8], left_m: float, right_m: float, bottom_m: float, top_m: float
    ) -> None:
        self.left_m, self.right_m, self.bottom_m, self.top_m = left_m, right_m, bottom_m, top_m
        texels = picture.copy()
        clear = texels[..., 3] < COVERED
        # Where it is transparent it gets its mean colour, so that all four channels can be scaled alike.
        mean = np.zeros(4, np.uint8)
        mean[:3] = texels[~clear][::7, :3].mean(axis=0)
        texels.view("<u4")[..., 0][clear] = mean.view("<u4")[0]
        self._levels = [Image.frombuffer("RGBX", (picture.shape[1], picture.shape[0]), texels, "raw", "RGBX", 0, 1)]
        self.fill = 1.0 - float(clear.mean())
        """Share of the rectangle that belongs to the thing."""

    def scaled(self, width_px: int, height_px: int, box: tuple[float, float, float, float], mirrored: bool) -> Scaled:
        """The part `box` (left, top, right, bottom in 0–1) of the sprite, `width_px` × `height_px`."""
        shown_px = max(width_px / (box[2] - box[0]), height_px / (box[3] - box[1]))
        picture = self._level(int(math.log2(max(max(self._levels[0].size) / shown_px, 1.0))))
        width, height = picture.size
        left, right = (1.0 - box[2], 1.0 - box[0]) if mirrored else (box[0], box[2])
        source = left * width, box[1] * height, right * width, box[3] * height
        picture = picture.resize((width_px, height_px), Image.Resampling.BILINEAR, box=source)
        if mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alpha = picture.getchannel(3)
        return Scaled(picture, alpha, np.asarray(alpha) >= COVERED)

    def _level(self, wanted: int) -> Image.Image:
        """The picture halved `wanted` times: scaling a large one down to a few pixels costs the most."""
        while len(self._levels) <= wanted and min(self._levels[-1].size) >= 8:
            self._levels.append(self._levels[-1].reduce(2))
        return self._levels[min(wanted, len(self._levels) - 1)]


class Look(NamedTuple):
    """What the camera sees of a thing from one side."""

    sprite: Sprite
    width_factor: float = 1.0
    mirrored: bool = False
    labelled: bool = True


@runtime_checkable
class Thing(Protocol):
    def look(self, angle: float, time_s: float) -> Look:
        """Seen from `angle`: radians clockwise from where it faces, 0 = the camera sees its front."""
        ...


@dataclass(frozen=True, eq=False)
class Upright:
    """Looks the same from everywhere: a post, a bin, a tree."""

    sprite: Sprite

    def look(self, angle: float, time_s: float) -> Look:
        return Look(self.sprite)


@dataclass(frozen=True, eq=False)
class Plate:
    """A flat thing with a front and a back: narrower from the side; its back shows nothing to label."""

    front: Callable[[float], Sprite]
    back: Sprite
    depth_m: float = 0.06

    def look(self, angle: float, time_s: float) -> Look:
        width_m = self.back.right_m - self.back.left_m
        factor = max(abs(math.cos(angle)), self.depth_m / width_m)
        # Beyond 75° a plate shows its edge only: nobody could say what it is.
        seen = math.cos(angle) > 0.26
        return Look(self.front(time_s) if seen else self.back, factor, labelled=seen)


def draw_picture(
    left_m: float, right_m: float, bottom_m: float, top_m: float, paint: Callable[[Pen], None]
) -> NDArray[np.uint8]:
    """Let `paint` draw in metres (y up); returns the antialiased picture [rows, columns, RGBA]."""
    scale = PX_PER_M * SUPERSAMPLING
    width, height = (right_m - left_m) * scale, (top_m - bottom_m) * scale
    columns, rows = (max(round(length / SUPERSAMPLING), 2) * SUPERSAMPLING for length in (width, height))
    picture = Image.new("RGBA", (columns, rows))
    paint(Pen(ImageDraw.Draw(picture), left_m, top_m, columns / (right_m - left_m), rows / (top_m - bottom_m)))
    return np.array(picture.reduce(SUPERSAMPLING))


def drawn_sprite(left_m: float, right_m: float, bottom_m: float, top_m: float, paint: Callable[[Pen], None]) -> Sprite:
    """`draw_picture` as a sprite."""
    return Sprite(draw_picture(left_m, right_m, bottom_m, top_m, paint), left_m, right_m, bottom_m, top_m)


@dataclass(frozen=True)
class Pen:
    """Draws shapes given in metres."""

    draw: ImageDraw.ImageDraw
    left_m: float
    top_m: float
    scale_x: float
    scale_y: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.left_m) * self.scale_x, (self.top_m - y) * self.scale_y

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0.0) -> None:
        corners = [*self.at(x0, y1), *self.at(x1, y0)]
        self.draw.rounded_rectangle(corners, radius * self.scale_x, fill=(*colour, 255))

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: int = 255) -> None:
        self.draw.ellipse([*self.at(x - rx, y + ry), *self.at(x + rx, y - ry)], fill=(*colour, alpha))

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        corners = [*self.at(x - radius, y + radius), *self.at(x + radius, y - radius)]
        self.draw.ellipse(corners, outline=(*colour, 255), width=max(round(width * self.scale_x), 1))

    def line(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        pixels = [self.at(*point) for point in points]
        self.draw.line(pixels, fill=(*colour, 255), width=max(round(width * self.scale_x), 1), joint="curve")

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon([self.at(*point) for point in points], fill=(*colour, 255))


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour `factor` times as bright."""
    red, green, blue = (min(max(round(value * factor), 0), 255) for value in colour)
    return red, green, blue
