"""Signs, traffic lights, and the street furniture that looks like an object and is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from poolscout.sandbox.sprites import Colour, Pen, Plate, Sprite, Upright, drawn_sprite, shaded

RED: Colour = (188, 24, 30)
WHITE: Colour = (232, 232, 230)
BLUE: Colour = (28, 76, 158)
YELLOW: Colour = (232, 190, 40)
METAL: Colour = (118, 121, 124)
SIGN_KINDS = ("limit", "no-entry", "warning", "stop", "yield", "priority", "parking", "crossing", "no-stopping")
SIGN_M = 0.75
LAMP_COLOURS: dict[str, Colour] = {"red": (255, 48, 30), "amber": (255, 176, 40), "green": (60, 255, 150)}
LAMP_UP_M: dict[str, float] = {"red": 0.74, "amber": 0.46, "green": 0.18}
HOUSING_M = (0.34, 0.92)


def _polygon(count: int, radius: float, turn: float) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * i / count for i in range(count)]
    return [(radius * math.cos(a), SIGN_M / 2 + radius * math.sin(a)) for a in angles]


def _sign_shapes(kind: str) -> list[tuple[str, float, Colour]]:
    """(shape, size relative to the plate, colour) from the outside in."""
    return {
        "limit": [("disc", 1.0, RED), ("disc", 0.76, WHITE), ("bar", 0.34, (20, 20, 22))],
        "no-entry": [("disc", 1.0, RED), ("bar", 0.68, WHITE)],
        "warning": [("up", 1.0, RED), ("up", 0.66, WHITE), ("post", 0.3, (20, 20, 22))],
        "stop": [("eight", 1.0, WHITE), ("eight", 0.9, RED), ("bar", 0.62, WHITE)],
        "yield": [("down", 1.0, RED), ("down", 0.62, WHITE)],
        "priority": [("diamond", 1.0, WHITE), ("diamond", 0.78, YELLOW)],
        "parking": [("square", 1.0, BLUE), ("post", 0.5, WHITE)],
        "crossing": [("square", 1.0, BLUE), ("up", 0.7, WHITE), ("post", 0.3, (20, 20, 22))],
        "no-stopping": [("disc", 1.0, RED), ("disc", 0.78, BLUE), ("bar", 0.6, RED)],
    }[kind]


def _paint_sign(pen: Pen, kind: str) -> None:
    half = SIGN_M / 2
    for shape, size, colour in _sign_shapes(kind):
        reach = half * size
        if shape == "disc":
            pen.disc(0.0, half, reach, reach, colour)
        elif shape == "square":
            pen.box(-reach, half - reach, reach, half + reach, colour, 0.04)
        elif shape == "bar":
            pen.box(-reach, half - reach * 0.28, reach, half + reach * 0.28, colour)
        elif shape == "post":
            pen.box(-reach * 0.3, half - reach, reach * 0.3, half + reach, colour)
        else:
            sides, turn = {"up": (3, 0.5), "down": (3, -0.5), "eight": (8, 0.125), "diamond": (4, 0.0)}[shape]
            pen.polygon(_polygon(sides, reach * 1.05, turn * math.pi), colour)


@cache
def sign(kind: str) -> Plate:
    """A road sign: a plate of 75 cm; its back is bare metal."""
    half = SIGN_M / 2

    def back(pen: Pen) -> None:
        if kind in ("parking", "crossing"):
            pen.box(-half, 0.0, half, SIGN_M, METAL, 0.04)
        else:
            pen.disc(0.0, half, half, half, METAL)

    front = drawn_sprite(-half, half, 0.0, SIGN_M, lambda pen: _paint_sign(pen, kind))
    return Plate(lambda time_s: front, drawn_sprite(-half, half, 0.0, SIGN_M, back))


@cache
def _housing(lit: str) -> Sprite:
    width, height = HOUSING_M

    def paint(pen: Pen) -> None:
        pen.box(-width / 2, 0.0, width / 2, height, (26, 28, 28), 0.05)
        for name, up in LAMP_UP_M.items():
            colour = LAMP_COLOURS[name] if name == lit else shaded(LAMP_COLOURS[name], 0.16)
            pen.disc(0.0, up, 0.115, 0.115, colour)

    return drawn_sprite(-width / 2, width / 2, 0.0, height, paint)


def traffic_light(state: Callable[[float], str]) -> Plate:
    """A housing with three lamps of which `state(time)` is lit; from behind it is a dark box."""
    return Plate(lambda time_s: _housing(state(time_s)), _housing(""), depth_m=0.3)


@cache
def post(height_m: float, width_m: float = 0.08, colour: Colour = METAL) -> Upright:
    return Upright(
        drawn_sprite(
            -width_m / 2,
            width_m / 2,
            0.0,
            height_m,
            lambda pen: pen.box(-width_m / 2, 0.0, width_m / 2, height_m, colour),
        )
    )


@cache
def lamp_post(arm_to_right: bool) -> Upright:
    """A street lamp, 6 m high, its arm over the road."""
    sign_x = 1.0 if arm_to_right else -1.0

    def paint(pen: Pen) -> None:
        pen.box(-0.08, 0.0, 0.08, 5.9, (84, 88, 90))
        pen.line([(0.0, 5.7), (sign_x * 0.6, 6.1), (sign_x * 1.4, 6.1)], 0.08, (84, 88, 90))
        lamp = sorted((sign_x * 1.0, sign_x * 1.6))
        pen.box(lamp[0], 6.0, lamp[1], 6.14, (150, 152, 150), 0.04)

    return Upright(drawn_sprite(-1.7, 1.7, 0.0, 6.25, paint))


@cache
def mast(reach_m: float) -> Upright:
    """The arm that holds a traffic light over the lane."""

    def paint(pen: Pen) -> None:
        pen.box(-0.09, 0.0, 0.09, 6.2, (90, 93, 95))
        pen.box(-reach_m, 6.0, 0.0, 6.14, (90, 93, 95))

    return Upright(drawn_sprite(-reach_m, 0.1, 0.0, 6.2, paint))


@cache
def tree(variant: int) -> Upright:
    """A trunk as wide as a person and a crown of leaves (or, every fourth, bare branches)."""
    rng = np.random.default_rng([7, variant])
    height = float(rng.uniform(4.5, 8.5))
    trunk = float(rng.uniform(0.2, 0.42))
    spread = float(rng.uniform(1.4, 2.4))
    bare = variant % 4 == 3
    leaf: Colour = tuple(int(v) for v in np.array([62, 88, 42]) * rng.uniform(0.7, 1.2) + rng.integers(-8, 8, 3))  # type: ignore[assignment]
    bark: Colour = (74, 62, 52)

    def paint(pen: Pen) -> None:
        fork = height * 0.55
        pen.polygon([(-trunk / 2, 0.0), (trunk / 2, 0.0), (trunk / 3, fork), (-trunk / 3, fork)], bark)
        for _ in range(14 if bare else 5):
            x, y = rng.uniform(-spread, spread) * 0.8, rng.uniform(height * 0.6, height * 0.97)
            pen.line([(0.0, height * 0.42), (x * 0.5, y * 0.8), (x, y)], 0.07, bark)
        for _ in range(0 if bare else 60):
            x, y = np.array((0.0, height * 0.7)) + np.clip(rng.normal(size=2), -1.6, 1.6) * (
                spread * 0.42,
                height * 0.11,
            )
            size = float(rng.uniform(0.2, 0.6))
            shade = 0.75 + 0.5 * (y - height * 0.5) / (height * 0.5) + rng.uniform(-0.15, 0.15)
            pen.disc(float(np.clip(x, -spread, spread)), min(y, height - size), size, size * 0.85, shaded(leaf, shade))

    return Upright(drawn_sprite(-spread - 0.6, spread + 0.6, 0.0, height, paint))


FURNITURE_KINDS = ("bin", "bollard", "cabinet", "hydrant", "poster", "container", "bollard", "bench", "board")


@cache
def furniture(kind: str, variant: int) -> Upright:
    """What a detector can take for an object: see docs/sandbox.md for which for which."""
    rng = np.random.default_rng([11, variant])
    tone: Colour = tuple(int(v) for v in rng.integers(40, 170, 3))  # type: ignore[assignment]
    painters: dict[str, tuple[float, float, Callable[[Pen], None]]] = {
        "bin": (0.28, 1.0, lambda pen: _paint_bin(pen, (48, 74, 56) if variant % 2 else (70, 72, 76))),
        "bollard": (0.1, 0.95, lambda pen: _paint_bollard(pen, variant)),
        "cabinet": (0.5, 1.25, lambda pen: _paint_cabinet(pen)),
        "hydrant": (0.16, 0.75, lambda pen: _paint_hydrant(pen, RED if variant % 2 else YELLOW)),
        "poster": (0.68, 2.3, lambda pen: _paint_poster(pen, tone, rng)),
        "container": (1.9, 1.55, lambda pen: _paint_container(pen, tone)),
        "bench": (0.8, 0.85, lambda pen: _paint_bench(pen)),
        "board": (0.45, 2.9, lambda pen: _paint_board(pen, tone, variant)),
    }
    half, height, paint = painters[kind]
    return Upright(drawn_sprite(-half, half, 0.0, height, paint))


def _paint_bin(pen: Pen, colour: Colour) -> None:
    pen.box(-0.26, 0.1, 0.26, 0.92, colour, 0.04)
    pen.box(-0.28, 0.88, 0.28, 1.0, shaded(colour, 1.3), 0.03)
    pen.disc(-0.17, 0.09, 0.08, 0.08, (24, 24, 24))
    pen.box(-0.15, 0.62, 0.15, 0.72, shaded(colour, 0.6))


def _paint_bollard(pen: Pen, variant: int) -> None:
    body = (64, 66, 70) if variant % 2 else (178, 60, 40)
    pen.box(-0.09, 0.0, 0.09, 0.93, body, 0.05)
    pen.box(-0.09, 0.66, 0.09, 0.78, WHITE)


def _paint_cabinet(pen: Pen) -> None:
    pen.box(-0.5, 0.0, 0.5, 1.25, (132, 138, 130), 0.02)
    pen.box(-0.46, 0.08, -0.02, 1.15, (116, 122, 114))
    pen.box(0.02, 0.08, 0.46, 1.15, (116, 122, 114))


def _paint_hydrant(pen: Pen, colour: Colour) -> None:
    pen.box(-0.1, 0.0, 0.1, 0.6, colour, 0.03)
    pen.disc(0.0, 0.6, 0.1, 0.13, shaded(colour, 1.1))
    pen.box(-0.16, 0.36, 0.16, 0.48, shaded(colour, 0.85), 0.03)


def _paint_poster(pen: Pen, tone: Colour, rng: np.random.Generator) -> None:
    """An advertisement of the size of a person, often with a person on it."""
    pen.box(-0.66, 0.0, 0.66, 2.3, (52, 54, 58), 0.05)
    pen.box(-0.58, 0.35, 0.58, 2.2, tone)
    if rng.random() < 0.6:
        pen.disc(0.0, 1.75, 0.17, 0.22, (206, 164, 134))
        pen.box(-0.32, 0.35, 0.32, 1.52, shaded(tone, 0.5), 0.14)
    else:
        pen.disc(0.0, 1.5, 0.4, 0.4, shaded(tone, 1.5))
        pen.box(-0.45, 0.5, 0.45, 0.75, WHITE)


def _paint_container(pen: Pen, tone: Colour) -> None:
    """A skip or trailer at the kerb: as large as a car, on wheels, without windows or lamps."""
    pen.polygon([(-1.9, 1.5), (1.9, 1.5), (1.7, 0.3), (-1.7, 0.3)], shaded(tone, 0.8))
    pen.box(-1.9, 1.4, 1.9, 1.55, tone)
    for at in (-1.1, -0.35, 0.4, 1.15):
        pen.box(at - 0.05, 0.3, at + 0.05, 1.42, shaded(tone, 0.6))
    for at in (-1.2, 1.2):
        pen.disc(at, 0.2, 0.2, 0.2, (28, 28, 28))


def _paint_bench(pen: Pen) -> None:
    for low in (0.4, 0.55, 0.7):
        pen.box(-0.8, low, 0.8, low + 0.1, (112, 82, 52))
    for at in (-0.62, 0.62):
        pen.box(at - 0.05, 0.0, at + 0.05, 0.45, (46, 46, 48))


def _paint_board(pen: Pen, tone: Colour, variant: int) -> None:
    """A shop's board on a post, round or square: a road sign in all but meaning."""
    pen.box(-0.03, 0.0, 0.03, 2.2, METAL)
    if variant % 2:
        pen.disc(0.0, 2.45, 0.4, 0.4, tone)
        pen.disc(0.0, 2.45, 0.25, 0.25, shaded(tone, 1.6))
    else:
        pen.box(-0.42, 2.1, 0.42, 2.85, tone)
        pen.box(-0.3, 2.4, 0.3, 2.55, WHITE)
