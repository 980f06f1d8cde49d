"""Where lamps shine into the camera: headlights, tail lamps, signals, street lamps and the low sun."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.actors import Actor
from poolscout.sandbox.background import Camera
from poolscout.sandbox.cars import Car
from poolscout.sandbox.furniture import LAMP_COLOURS, LAMP_UP_M
from poolscout.sandbox.light import SKY_CODE, Glow, Light, depth_code_of
from poolscout.sandbox.settings import TimeOfDay

LAMP_HEIGHT_M = 6.0
HEADLIGHT = (1.25, 1.15, 0.95)
TAIL_LAMP = (0.55, 0.04, 0.03)
BRAKE_LAMP = (1.2, 0.10, 0.06)
STREET_LAMP = (1.3, 0.95, 0.55)


def glows_of(
    actor: Actor,
    camera: Camera,
    light: Light,
    depth: float,
    sideways: float,
    angle: float,
    time_s: float,
    braking: bool,
) -> list[tuple[Glow, int]]:
    """The lamps of one actor that are on and turned to the camera, each with its depth code."""
    if actor.signal is not None:
        return _signal(actor, actor.signal(time_s), camera, light, depth, sideways, angle)
    if actor.lights == "lamp" and light.glow:
        arm = -1.3 if sideways > 0 else 1.3
        return [_glow(camera, light, depth, sideways + arm, LAMP_HEIGHT_M, 1.1, STREET_LAMP, light.glow)]
    if actor.lights == "car" and light.glow and isinstance(actor.thing, Car):
        return _car(actor.thing, camera, light, depth, sideways, angle, braking)
    return []


def _glow(
    camera: Camera,
    light: Light,
    depth: float,
    sideways: float,
    up_m: float,
    reach_m: float,
    colour: tuple[float, float, float],
    strength: float,
) -> tuple[Glow, int]:
    px_per_m = camera.focal_px / depth
    x = camera.width / 2 + px_per_m * sideways
    y = camera.horizon_px + px_per_m * (camera.up_m - up_m)
    # Scatter in lens and air: a halo never shrinks to the lamp itself, and grows in fog.
    radius = (3.0 * camera.width / 320 + px_per_m * reach_m) * (1.6 if light.visibility_m < 150 else 1.0)
    strength *= math.exp(-depth * 3.0 / light.visibility_m)
    mirror = camera.horizon_px + px_per_m * (camera.up_m + up_m) if light.wet and up_m < LAMP_HEIGHT_M else None
    red, green, blue = (value * strength for value in colour)
    return Glow(x, y, min(radius, camera.width / 5), (red, green, blue), mirror), depth_code_of(depth)


def _signal(
    actor: Actor, lit: str, camera: Camera, light: Light, depth: float, sideways: float, angle: float
) -> list[tuple[Glow, int]]:
    if math.cos(angle) < 0.3:
        return []
    red, green, blue = ((value / 255) ** 2 for value in LAMP_COLOURS[lit])
    reach, strength = (0.16, 0.5) if not light.glow else (0.2 + 0.5 * light.glow, 0.9)
    up = actor.up_m + LAMP_UP_M[lit]
    return [_glow(camera, light, depth, sideways, up, reach, (red, green, blue), strength)]


def _car(
    car: Car, camera: Camera, light: Light, depth: float, sideways: float, angle: float, braking: bool
) -> list[tuple[Glow, int]]:
    """Two lamps at the end that faces the camera."""
    cos, sin = math.cos(angle), math.sin(angle)
    if abs(cos) < 0.25:
        return []
    front = cos > 0
    colour = HEADLIGHT if front else BRAKE_LAMP if braking else TAIL_LAMP
    reach = (1.3 if front else 0.55) * light.glow
    strength = light.glow * abs(cos) ** (4 if front else 1)
    end = math.copysign(car.body.half_length_m, cos)
    glows = []
    for side in (-1.0, 1.0):
        right = side * car.body.width_m * 0.4
        nearer, beside = end * cos + right * sin, end * sin - right * cos
        at = max(depth - nearer, 1.0)
        glow, _ = _glow(camera, light, at, sideways + beside, 0.72, reach, colour, strength)
        glows.append((glow, depth_code_of(depth)))
    return glows


def sun_glare(light: Light, time_of_day: TimeOfDay, camera: Camera, codes: NDArray[np.uint8]) -> list[Glow]:
    """The low sun at dusk, when it is ahead and no house stands before it."""
    ahead = (light.sun_azimuth - camera.heading + math.pi) % (2 * math.pi) - math.pi
    if time_of_day != "dusk" or light.wet or light.visibility_m < 150 or abs(ahead) > 0.7:
        return []
    x = camera.width / 2 + camera.focal_px * math.tan(ahead)
    y = camera.horizon_px - 0.09 * camera.focal_px
    column = min(max(round(x), 0), camera.width - 1)
    free = codes[min(max(round(y), 0), camera.height - 1), column] == SKY_CODE
    strength = 1.0 if free else 0.25
    return [Glow(x, y, camera.width * 0.45, (1.7 * strength, 1.1 * strength, 0.55 * strength))]
