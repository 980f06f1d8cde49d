"""Cars as small solid models, drawn once per side they are seen from and then painted in any colour."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.sprites import Colour, Look, Pen, Sprite, draw_picture, shaded

VIEWS = 40
"""Pictures for a full turn: 9° apart, less than what shows at these sizes."""
VIEW_DISTANCE_M = 12.0
EYE_M = 1.4

Point = tuple[float, float, float]
"""forward, right, up in metres, from the middle of the car on the ground."""


@dataclass(frozen=True)
class Body:
    """A side profile (forward, up), drawn out over the width; windows are insets of it."""

    width_m: float
    wheel_at_m: tuple[float, float]
    wheel_m: float
    lower: tuple[tuple[float, float], ...]
    """Up to the waist, from the rear bumper over the top to the front bumper."""
    cabin: tuple[tuple[float, float], ...]
    """Rear foot, rear roof, front roof, front foot."""
    rear_windows: bool = True
    """A van has none behind the driver."""

    @property
    def half_length_m(self) -> float:
        return max(point[0] for point in self.lower)


SEDAN = Body(1.8, (-1.4, 1.4), 0.33,
             ((-2.3, 0.3), (-2.32, 0.95), (-1.6, 1.0), (0.9, 0.98), (2.15, 0.8), (2.3, 0.55), (2.28, 0.28)),
             ((-1.75, 0.98), (-1.05, 1.42), (0.2, 1.44), (1.0, 0.97)))  # fmt: skip
HATCHBACK = Body(1.75, (-1.25, 1.25), 0.32,
                 ((-1.95, 0.3), (-2.0, 0.9), (-1.9, 1.02), (0.9, 1.0), (1.85, 0.82), (2.0, 0.55), (1.98, 0.28)),
                 ((-1.92, 1.0), (-1.5, 1.46), (0.15, 1.5), (1.0, 0.98)))  # fmt: skip
SUV = Body(1.9, (-1.4, 1.4), 0.38,
           ((-2.25, 0.4), (-2.3, 1.0), (-2.2, 1.12), (1.0, 1.1), (2.1, 1.0), (2.28, 0.7), (2.25, 0.38)),
           ((-2.22, 1.1), (-2.0, 1.68), (0.2, 1.72), (1.05, 1.08)))  # fmt: skip
VAN = Body(1.98, (-1.6, 1.75), 0.36,
           ((-2.55, 0.4), (-2.58, 1.1), (-2.56, 1.25), (1.5, 1.25), (2.35, 1.05), (2.5, 0.7), (2.48, 0.38)),
           ((-2.56, 1.24), (-2.52, 2.15), (1.0, 2.18), (1.75, 1.2)), rear_windows=False)  # fmt: skip
ESTATE = Body(1.82, (-1.45, 1.4), 0.33,
              ((-2.4, 0.3), (-2.42, 0.92), (-2.35, 1.0), (0.9, 0.98), (2.15, 0.8), (2.3, 0.55), (2.28, 0.28)),
              ((-2.38, 0.98), (-2.0, 1.42), (0.2, 1.48), (1.0, 0.97)))  # fmt: skip
BODIES = (SEDAN, HATCHBACK, SUV, VAN, ESTATE)
BODIES_UP_TO = (0.28, 0.56, 0.80, 0.88)
"""Shares added up: 28 % saloons, 28 % hatchbacks, 24 % off-roaders, 8 % vans, 12 % estates."""

# White, black, grey, silver, blue, red, then the rest: about what is sold.
PAINTS: tuple[Colour, ...] = (
    (225, 225, 222), (28, 29, 32), (92, 95, 99), (165, 169, 173), (38, 62, 110),
    (140, 28, 30), (70, 62, 50), (36, 70, 52), (196, 160, 60),
)  # fmt: skip
PAINTS_UP_TO = (0.30, 0.50, 0.67, 0.78, 0.88, 0.94, 0.97, 0.99)
"""Shares added up."""

GLASS: Colour = (48, 56, 64)
RUBBER: Colour = (22, 22, 24)
WINDSCREEN: Colour = (60, 70, 80)
SIDE, TOP, END = 0.82, 1.0, 0.72
"""Shade of faces that point sideways, up, and along the car: the sky is brighter than the street."""


@dataclass(eq=False)
class Car:
    """A car of one body and colour; pictures are made when first asked for."""

    body: Body
    paint: Colour
    _looks: dict[int, Sprite] = field(default_factory=dict)

    @staticmethod
    def drawn(rng: np.random.Generator) -> Car:
        """A car as common as it is on the road."""
        body = BODIES[bisect_right(BODIES_UP_TO, rng.random())]
        paint = PAINTS[bisect_right(PAINTS_UP_TO, rng.random())]
        red, green, blue = (int(v) for v in np.clip(np.array(paint) + rng.integers(-10, 11, 3), 8, 235))
        return Car(body, (red, green, blue))

    def look(self, angle: float, time_s: float) -> Look:
        view = round(abs(angle) / (2 * math.pi) * VIEWS)
        if view not in self._looks:
            self._looks[view] = _painted(self.body, view, self.paint)
        return Look(self._looks[view], mirrored=angle < 0)


def _painted(body: Body, view: int, paint: Colour) -> Sprite:
    """Between the car in black and the car in white lies the car in any colour."""
    black, gain, extent = _drawn(body, view)
    mixed = gain * np.array([*paint, 0], np.uint16)
    mixed >>= 8
    mixed += black
    return Sprite(mixed.astype(np.uint8), *extent)


@cache
def _drawn(body: Body, view: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16], tuple[float, float, float, float]]:
    """The body in black, what white adds to it, and its extent in metres; `view` steps clockwise of its front."""
    angle = view * 2 * math.pi / VIEWS
    solid = _Solid(body, math.cos(angle), math.sin(angle))
    extent = solid.extent()
    black = draw_picture(*extent, lambda pen: solid.draw(pen, (0, 0, 0)))
    white = draw_picture(*extent, lambda pen: solid.draw(pen, (255, 255, 255)))
    return black, (white - black).astype(np.uint16), extent


@dataclass(frozen=True)
class _Solid:
    """A body seen in perspective from 12 m away and eye height; `cos` and `sin` of the angle from its front."""

    body: Body
    cos: float
    sin: float

    def extent(self) -> tuple[float, float, float, float]:
        """left, right, bottom, top in metres."""
        half = self.body.width_m / 2
        outline = [(f, side, u) for f, u in (*self.body.lower, *self.body.cabin) for side in (-half, half)]
        wheels = [(f, side, 0.0) for f in self.body.wheel_at_m for side in (-half, half)]
        xs, ys = zip(*self._seen([*outline, *wheels]), strict=True)
        return min(xs) - 0.03, max(xs) + 0.03, min(ys), max(ys) + 0.03

    def draw(self, pen: Pen, paint: Colour) -> None:
        """Far things first; hidden faces are left out."""
        half, reach = self.body.width_m / 2, self.body.half_length_m * 0.9
        near = math.copysign(half, self.sin)
        self._draw_wheels(pen, -near)
        under = [(-reach, -half, 0.22), (-reach, half, 0.22), (reach, half, 0.22), (reach, -half, 0.22)]
        pen.polygon(self._seen(under), RUBBER)
        self._draw_strips(pen, paint)
        if abs(self.sin) > 0.02:
            pen.polygon(self._seen([(f, near, u) for f, u in self.body.lower]), shaded(paint, SIDE))
        if abs(self.cos) > 0.12:
            self._draw_end(pen)
        self._draw_cabin(pen, paint, near)
        self._draw_wheels(pen, near)

    def _seen(self, points: list[Point]) -> list[tuple[float, float]]:
        """Points as the camera sees them: metres to the right and up, at the distance of the car's middle."""
        seen = []
        for forward, right, up in points:
            scale = VIEW_DISTANCE_M / (VIEW_DISTANCE_M - forward * self.cos - right * self.sin)
            seen.append(((forward * self.sin - right * self.cos) * scale, EYE_M + (up - EYE_M) * scale))
        return seen

    def _draw_strips(self, pen: Pen, paint: Colour) -> None:
        """The faces between neighbouring points of the profile that look towards the camera, far ones first."""
        half = self.body.width_m / 2
        strips = list(itertools.pairwise(self.body.lower))
        for (f0, u0), (f1, u1) in strips if self.cos >= 0 else reversed(strips):
            length, fall = f1 - f0, u0 - u1
            if fall * self.cos + length * (EYE_M - (u0 + u1) / 2) / VIEW_DISTANCE_M > 0:
                quad = [(f0, -half, u0), (f0, half, u0), (f1, half, u1), (f1, -half, u1)]
                pen.polygon(self._seen(quad), shaded(paint, TOP if abs(length) > abs(fall) else END))

    def _draw_end(self, pen: Pen) -> None:
        """Lamps, grille, bumper and number plate of the front or the rear."""
        front, half = self.cos > 0, self.body.width_m / 2
        at = math.copysign(self.body.half_length_m, self.cos)
        heights = [u for _, u in self.body.lower]
        top = min(u for u in heights if u > 0.6) if front else 0.92 * max(heights)
        lamp: Colour = (235, 235, 225) if front else (150, 18, 20)
        panels: list[tuple[float, float, float, float, Colour]] = [
            (-half * 0.97, -half * 0.62, top - 0.2, top - 0.04, lamp),
            (half * 0.62, half * 0.97, top - 0.2, top - 0.04, lamp),
            (-half * 0.95, half * 0.95, 0.3, 0.42, (38, 38, 40)),
        ]
        if front:
            panels.append((-half * 0.5, half * 0.5, top - 0.26, top - 0.08, (30, 30, 33)))
        panels.append((-0.26, 0.26, 0.46, 0.57, (214, 214, 205)))
        for left, right, low, high, colour in panels:
            pen.polygon(self._seen([(at, left, low), (at, right, low), (at, right, high), (at, left, high)]), colour)

    def _draw_cabin(self, pen: Pen, paint: Colour, near: float) -> None:
        """Roof, pillars and windows; the roof is narrower than the waist."""
        (f0, u0), (f1, u1), (f2, u2), (f3, u3) = self.body.cabin
        low, high = near * 0.94, near * 0.8
        side = [(f0, low, u0), (f1, high, u1), (f2, high, u2), (f3, low, u3)]
        pen.polygon(self._seen(side), shaded(paint, SIDE * 0.95))
        if self.cos:
            foot, roof = ((f3, u3), (f2, u2)) if self.cos > 0 else ((f0, u0), (f1, u1))
            end = [
                (foot[0], -low, foot[1]),
                (foot[0], low, foot[1]),
                (roof[0], high, roof[1]),
                (roof[0], -high, roof[1]),
            ]
            pen.polygon(self._seen(end), shaded(paint, END))
            glazed = self.cos > 0 or self.body.rear_windows
            pen.polygon(self._seen(_inset(end)), WINDSCREEN if glazed else shaded(paint, 0.7))
        if abs(self.sin) > 0.12:
            for start, stop in ((0.06, 0.48), (0.52, 0.95)) if self.body.rear_windows else ((0.72, 0.95),):
                pen.polygon(self._seen(_side_window(side, start, stop)), GLASS)
        if u1 < EYE_M:
            top = [(f1, -high, u1), (f1, high, u1), (f2, high, u2), (f2, -high, u2)]
            pen.polygon(self._seen(top), shaded(paint, TOP))

    def _draw_wheels(self, pen: Pen, side_m: float) -> None:
        """Both wheels of one side: an ellipse from the side, a block of rubber end-on."""
        for at in self.body.wheel_at_m:
            (x, y), (_, foot) = self._seen([(at, side_m * 0.97, self.body.wheel_m), (at, side_m * 0.97, 0.0)])
            radius_y = y - foot
            radius_x = max(radius_y * abs(self.sin), 0.1)
            pen.disc(x, y, radius_x, radius_y, RUBBER)
            pen.disc(x, y, radius_x * 0.55, radius_y * 0.55, (120, 122, 126))


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def _inset(quad: list[Point]) -> list[Point]:
    """The quad, a fifth smaller about its middle."""
    middle = _between(_between(quad[0], quad[2], 0.5), _between(quad[1], quad[3], 0.5), 0.5)
    return [_between(point, middle, 0.2) for point in quad]


def _side_window(side: list[Point], start: float, stop: float) -> list[Point]:
    """The part of the side between two shares of its length, a little above the waist and below the roof."""
    foot_rear, roof_rear, roof_front, foot_front = side
    lows = [_between(foot_rear, foot_front, share) for share in (start, stop)]
    highs = [_between(roof_rear, roof_front, share) for share in (start, stop)]
    corners = [(lows[0], highs[0], 0.1), (lows[0], highs[0], 0.86), (lows[1], highs[1], 0.86), (lows[1], highs[1], 0.1)]
    return [_between(low, high, share) for low, high, share in corners]
