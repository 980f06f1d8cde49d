"""People and bicycles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from poolscout.sandbox.sprites import Colour, Look, Pen, Sprite, draw_picture, drawn_sprite, shaded

STEPS = 6
"""Pictures of one double step."""
STEP_S = 1.0
STANDS = -1
SIDEWAYS = 0.5
"""Sine of the angle from which a bicycle shows its side."""
SKINS: tuple[Colour, ...] = ((224, 178, 150), (198, 146, 112), (150, 102, 74), (92, 62, 46))
HAIR: tuple[Colour, ...] = ((34, 26, 22), (72, 48, 30), (150, 118, 70), (120, 118, 116))
# Mostly dark or muted: people in the street do not dress to be seen.
CLOTHES: tuple[Colour, ...] = (
    (34, 36, 44), (52, 58, 78), (70, 66, 62), (110, 104, 96), (38, 60, 48),
    (120, 40, 40), (60, 84, 128), (178, 172, 160), (206, 170, 60), (214, 214, 214),
)  # fmt: skip


@dataclass(frozen=True)
class Dress:
    """How one person looks."""

    height_m: float
    top: Colour
    legs: Colour
    skin: Colour
    hair: Colour
    bag: bool

    @staticmethod
    def drawn(rng: np.random.Generator) -> Dress:
        child = rng.random() < 0.12
        height = rng.uniform(1.1, 1.4) if child else rng.normal(1.71, 0.08)
        top, legs = (CLOTHES[int(i)] for i in rng.integers(len(CLOTHES), size=2))
        skin, hair = SKINS[int(rng.integers(len(SKINS)))], HAIR[int(rng.integers(len(HAIR)))]
        return Dress(float(height), top, shaded(legs, 0.8), skin, hair, bool(rng.random() < 0.35))


@dataclass(eq=False)
class Walker:
    """A person on foot, who walks between two times and stands before and after."""

    dress: Dress
    walks_from_s: float
    walks_until_s: float
    offset_s: float
    _looks: dict[tuple[str, int], Sprite] = field(default_factory=dict)

    def look(self, angle: float, time_s: float) -> Look:
        side = abs(math.sin(angle)) > 0.6
        view = "side" if side else ("front" if math.cos(angle) > 0 else "back")
        walks = self.walks_from_s < time_s < self.walks_until_s
        step = int((time_s + self.offset_s) / STEP_S * STEPS) % STEPS if walks else STANDS
        key = (view, step)
        if key not in self._looks:
            swing = math.sin((step + 0.5) / STEPS * 2 * math.pi) if walks else 0.15
            self._looks[key] = _person(self.dress, view, swing)
        return Look(self._looks[key], mirrored=side and angle < 0)


def _person(dress: Dress, view: str, swing: float) -> Sprite:
    """Drawn 1.7 m tall, facing right when seen from the side, then stretched to the person's height."""
    stretch = dress.height_m / 1.7
    half = 0.42 if view == "side" else 0.33

    def paint(pen: Pen) -> None:
        if view == "side":
            _side_person(pen, dress, swing)
        else:
            _front_person(pen, dress, view, swing)

    picture = draw_picture(-half, half, 0.0, 1.72, paint)
    return Sprite(picture, -half * stretch, half * stretch, 0.0, 1.72 * stretch)


def _side_person(pen: Pen, dress: Dress, swing: float) -> None:
    hip, reach = (0.0, 0.86), 0.3 * swing
    dark = shaded(dress.legs, 0.75)
    for direction, colour in ((-1.0, dark), (1.0, dress.legs)):
        foot = direction * reach
        knee = (foot * 0.45 + 0.06 * abs(swing), 0.47)
        ankle = (foot, 0.07 + (0.05 * abs(swing) if foot < 0 else 0.0))
        pen.line([hip, knee, ankle], 0.15, colour)
        pen.box(ankle[0] - 0.06, ankle[1] - 0.06, ankle[0] + 0.17, ankle[1] + 0.04, (30, 26, 24), 0.03)
    pen.line([(0.02, 1.36), (-0.2 * swing, 0.95)], 0.1, shaded(dress.top, 0.7))
    pen.box(-0.13, 0.8, 0.13, 1.45, dress.top, 0.1)
    pen.line([(0.0, 1.36), (0.1 * swing, 1.12), (0.24 * swing + 0.06, 0.92)], 0.1, shaded(dress.top, 0.88))
    if dress.bag:
        pen.box(-0.3, 1.0, -0.1, 1.4, shaded(dress.legs, 1.4), 0.05)
    pen.disc(0.02, 1.58, 0.1, 0.12, dress.skin)
    pen.disc(-0.02, 1.62, 0.1, 0.1, dress.hair)


def _front_person(pen: Pen, dress: Dress, view: str, swing: float) -> None:
    for side in (-1.0, 1.0):
        lift = 0.06 * max(side * swing, 0.0)
        pen.line([(side * 0.09, 0.86), (side * 0.1, 0.08 + lift)], 0.15, shaded(dress.legs, 0.9 + 0.1 * side))
        pen.box(side * 0.1 - 0.06, lift, side * 0.1 + 0.06, lift + 0.1, (30, 26, 24), 0.02)
        pen.line([(side * 0.22, 1.36), (side * 0.27, 0.9 + 0.03 * side * swing)], 0.1, shaded(dress.top, 0.82))
        pen.disc(side * 0.27, 0.86, 0.05, 0.05, dress.skin)
    pen.box(-0.22, 0.8, 0.22, 1.46, dress.top, 0.1)
    if dress.bag and view == "back":
        pen.box(-0.16, 0.95, 0.16, 1.38, shaded(dress.legs, 1.4), 0.05)
    pen.disc(0.0, 1.62, 0.105, 0.1, dress.hair)
    if view == "front":
        pen.disc(0.0, 1.56, 0.09, 0.115, dress.skin)


FRAMES: tuple[Colour, ...] = ((30, 30, 34), (140, 30, 32), (40, 70, 120), (180, 184, 188), (40, 90, 60))


@dataclass(frozen=True)
class Bicycle:
    """Two wheels: wide from the side, a narrow upright shape end-on."""

    frame: Colour

    def look(self, angle: float, time_s: float) -> Look:
        sine = abs(math.sin(angle))
        if sine > SIDEWAYS:
            return Look(_bicycle_side(self.frame), sine, mirrored=angle < 0)
        return Look(_bicycle_end(self.frame))


@dataclass(frozen=True)
class Rider:
    """The person on a bicycle."""

    dress: Dress

    def look(self, angle: float, time_s: float) -> Look:
        sine = abs(math.sin(angle))
        if sine > SIDEWAYS:
            return Look(_rider(self.dress, "side"), max(sine, 0.6), mirrored=angle < 0)
        return Look(_rider(self.dress, "front" if math.cos(angle) > 0 else "back"))


@lru_cache(maxsize=64)
def _bicycle_side(frame: Colour) -> Sprite:
    def paint(pen: Pen) -> None:
        for at in (-0.53, 0.53):
            # A faint disc: spokes are thinner than any pixel, and a labeller's box takes the whole wheel.
            pen.disc(at, 0.34, 0.33, 0.33, (70, 70, 72), alpha=80)
            pen.ring(at, 0.34, 0.34, 0.06, (24, 24, 26))
        crank, saddle, head = (-0.08, 0.32), (-0.22, 0.86), (0.36, 0.82)
        for points in ([crank, saddle], [crank, head], [saddle, head], [crank, (-0.53, 0.34)],
                       [(-0.53, 0.34), (-0.2, 0.8)], [head, (0.53, 0.34)]):  # fmt: skip
            pen.line(points, 0.055, frame)
        pen.line([head, (0.34, 1.0), (0.24, 1.02)], 0.05, (30, 30, 32))
        pen.box(-0.36, 0.86, -0.1, 0.93, (26, 26, 26), 0.02)

    return drawn_sprite(-0.89, 0.89, 0.0, 1.06, paint)


@lru_cache(maxsize=64)
def _bicycle_end(frame: Colour) -> Sprite:
    def paint(pen: Pen) -> None:
        pen.box(-0.04, 0.0, 0.04, 0.68, (24, 24, 26), 0.03)
        pen.box(-0.05, 0.5, 0.05, 0.95, frame, 0.02)
        pen.box(-0.28, 0.96, 0.28, 1.02, (34, 34, 36), 0.02)
        pen.box(-0.07, 0.6, 0.07, 0.7, (150, 24, 24), 0.02)

    return drawn_sprite(-0.3, 0.3, 0.0, 1.04, paint)


@lru_cache(maxsize=64)
def _rider(dress: Dress, view: str) -> Sprite:
    def side(pen: Pen) -> None:
        hip, shoulder = (-0.2, 0.98), (0.08, 1.42)
        pen.line([hip, (0.14, 0.72), (-0.02, 0.28)], 0.14, dress.legs)
        pen.line([hip, (0.08, 0.62), (-0.1, 0.4)], 0.12, shaded(dress.legs, 0.7))
        pen.line([hip, shoulder], 0.24, dress.top)
        pen.line([shoulder, (0.2, 1.14), (0.32, 1.06)], 0.09, shaded(dress.top, 0.85))
        pen.disc(0.16, 1.6, 0.1, 0.12, dress.skin)
        pen.disc(0.13, 1.65, 0.11, 0.09, dress.hair)

    def end(pen: Pen) -> None:
        for at, low in ((-0.12, 0.3), (0.12, 0.5)):
            pen.line([(at, 0.95), (at, low)], 0.13, dress.legs)
        pen.line([(-0.27, 1.04), (-0.24, 1.36)], 0.09, shaded(dress.top, 0.8))
        pen.line([(0.27, 1.04), (0.24, 1.36)], 0.09, shaded(dress.top, 0.8))
        pen.box(-0.22, 0.88, 0.22, 1.46, dress.top, 0.1)
        pen.disc(0.0, 1.62, 0.105, 0.1, dress.hair)
        if view == "front":
            pen.disc(0.0, 1.56, 0.09, 0.11, dress.skin)

    half = 0.42 if view == "side" else 0.34
    return drawn_sprite(-half, half, 0.25, 1.75, side if view == "side" else end)
