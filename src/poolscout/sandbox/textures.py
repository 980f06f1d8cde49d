"""The pictures of the ground, the buildings and the sky: RGBA arrays whose A is the share of the main light.

The main light is the sun by day and the street lamps by night; a lit window or a clear sky has it all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from poolscout.sandbox.settings import District, StreetSettings
from poolscout.sandbox.sprites import Colour, shaded

Texels = NDArray[np.uint8]

GROUND_PX_PER_M = 16
WALL_PX_PER_M = 12
WALL_WIDTH_M = 16.0
WALL_HEIGHT_M = 24.0
STOREY_M = 3.2
SKY_COLUMNS = 1024
SKY_ROWS = 128
SKY_PX_PER_TANGENT = 180.0
LAMP_SPACING_M = 20.0
PAVING: Colour = (128, 124, 118)
KERB: Colour = (150, 148, 142)
WHITE_PAINT: Colour = (198, 198, 192)
SHADE = 60
"""Main light in the shadow of a house: a little, from the walls opposite."""

WALL_KINDS: dict[str, tuple[str, ...]] = {
    "downtown": ("shop", "shop", "office", "stone", "shop", "fence"),
    "avenue": ("stone", "office", "hedge", "trees", "shop", "fence"),
    "residential": ("house", "hedge", "house", "house", "fence", "trees"),
    "outskirts": ("trees", "field", "hedge", "field", "barn", "trees"),
}
WALL_HEIGHTS_M: dict[str, tuple[float, float]] = {
    "shop": (10.0, 22.0), "office": (16.0, 24.0), "stone": (9.0, 18.0), "fence": (1.1, 1.8), "house": (6.5, 7.5),
    "hedge": (1.2, 2.2), "trees": (5.0, 8.0), "field": (0.3, 0.8), "barn": (4.5, 5.5),
}  # fmt: skip
LEAFY = ("trees", "hedge", "field")


def half_road_m(district: District, settings: StreetSettings) -> float:
    return settings.lane_m + district.parking_m


def ground(
    district: District, settings: StreetSettings, night: bool, sun_azimuth: float, rng: np.random.Generator
) -> Texels:
    """One block with its crossing in the middle, repeated for ever: [rows = z, columns = x, 4]."""
    size = round(settings.block_m * GROUND_PX_PER_M)
    earth = (74, 88, 48) if district.setback_m else (104, 102, 98)
    picture = Image.new("RGBA", (size, size), shaded(earth, float(rng.uniform(0.85, 1.1))))
    half, middle = half_road_m(district, settings), settings.block_m / 2
    plan = _Plan(ImageDraw.Draw(picture), middle)
    axes = (False, True) if district.crossings else (False,)
    asphalt = shaded((92, 92, 95), float(rng.uniform(0.8, 1.15)))
    for reach, colour in ((half + district.pavement_m, PAVING), (half + 0.15, KERB), (half, asphalt)):
        for turned in axes:
            plan.box(turned, -reach, -middle, reach, middle, colour)
    for _ in range(14):  # patches and manholes: the road is never one grey
        x, z = rng.uniform(-half, half - 1), rng.uniform(-middle, middle - 3)
        turned = bool(rng.integers(2)) and district.crossings
        tone = shaded(asphalt, float(rng.uniform(0.78, 1.12)))
        plan.box(turned, x, z, x + rng.uniform(0.5, 1.2), z + rng.uniform(0.5, 3), tone)
    for turned in axes:
        plan.markings(turned, district, settings)
    light = _lamp_light(district, settings, size) if night else _sun_light(district, settings, sun_azimuth, size)
    picture.putalpha(Image.fromarray(light))
    texels = np.array(picture)
    # The same grain for red, green and blue, added to all three at once; no colour comes near 255.
    grain = rng.integers(0, 20, size=(256, 256), dtype=np.uint32) * np.uint32(0x010101)
    texels.view("<u4")[..., 0].reshape(size // 256, 256, size // 256, 256)[:] += grain[None, :, None]
    return texels


@dataclass(frozen=True)
class _Plan:
    """Draws the ground in metres from the crossing."""

    draw: ImageDraw.ImageDraw
    middle_m: float

    def box(self, turned: bool, x0: float, z0: float, x1: float, z1: float, colour: Colour) -> None:
        """A rectangle given for the street along z; `turned`, the same one for the street along x."""
        if turned:
            x0, z0, x1, z1 = z0, -x1, z1, -x0
        x0, x1, z0, z1 = min(x0, x1), max(x0, x1), min(z0, z1), max(z0, z1)
        left, top, right, low = (round((v + self.middle_m) * GROUND_PX_PER_M) for v in (x0, z0, x1, z1))
        self.draw.rectangle((left, top, right - 1, low - 1), fill=colour)

    def markings(self, turned: bool, district: District, settings: StreetSettings) -> None:
        """Lines, stop lines and zebra crossings of one street."""
        half, middle = half_road_m(district, settings), self.middle_m
        clear = half + 5.0 if district.crossings else 0.0
        for z in np.arange(-middle, middle, 6.0):
            if abs(z + 1.5) > clear:
                self.box(turned, -0.08, z, 0.08, z + 3.0, WHITE_PAINT)
        if not district.crossings:
            for x in (-half + 0.25, half - 0.25):
                self.box(turned, x - 0.07, -middle, x + 0.07, middle, WHITE_PAINT)
            return
        for sign in (-1.0, 1.0):
            if district.signals:
                for x in np.arange(-half + 0.3, half - 0.5, 1.0):
                    self.box(turned, x, sign * (half + 0.8), x + 0.5, sign * (half + 3.8), WHITE_PAINT)
            if district.signals or turned:  # the priority road has no stop line
                line = half + 4.5
                lane = sign * (half - district.parking_m)
                self.box(turned, 0.0, -sign * line, lane, -sign * (line + 0.4), WHITE_PAINT)


def lamp_places(settings: StreetSettings) -> list[tuple[float, float]]:
    """(along the block from its crossing, side) of the lamps: every 20 m, the sides in turn."""
    count = round(settings.block_m / LAMP_SPACING_M)
    return [((i + 0.5) * LAMP_SPACING_M, 1.0 if i % 2 else -1.0) for i in range(count)]


def _lamp_light(district: District, settings: StreetSettings, size: int) -> NDArray[np.uint8]:
    """Pools of light under the lamps, black between the roads of the outskirts."""
    light = np.full((size, size), 3, np.uint16)
    if not district.lamps:
        return light.astype(np.uint8)
    reach = round(10.0 * GROUND_PX_PER_M)
    squares = (np.arange(-reach, reach, dtype=np.float32) / GROUND_PX_PER_M) ** 2
    # A lamp 6 m up: cosine to the power 3 over the square of the distance, nothing beyond 10 m.
    pool = 255.0 / (1.0 + (squares[:, None] + squares[None, :]) / 30.0) ** 2
    pool = np.maximum(pool - pool[0, reach], 0.0).astype(np.uint16)
    lateral = half_road_m(district, settings) - 0.8
    for along, side in lamp_places(settings):
        along = (along + settings.block_m / 2) % settings.block_m
        for x, z in ((side * lateral, along), (along, -side * lateral)):
            x, z = (v if v is along else v + settings.block_m / 2 for v in (x, z))
            column, row = (round(v * GROUND_PX_PER_M) - reach for v in (x, z))
            light[row : row + 2 * reach, column : column + 2 * reach] += pool
    return np.minimum(light, 255).astype(np.uint8)


def _sun_light(district: District, settings: StreetSettings, azimuth: float, size: int) -> NDArray[np.uint8]:
    """Full sun but for the shadow that the houses throw over the sunny side's pavement and road."""
    light = np.full((size, size), 255, np.uint8)
    if district.setback_m > 6:
        return light
    front = half_road_m(district, settings) + district.pavement_m + district.setback_m
    metres = (np.arange(size) + 0.5) / GROUND_PX_PER_M - settings.block_m / 2
    # Sun 35° high over houses of 8 m: shadows of 11 m, as far across as the sun stands to the side.
    for axis, toward in ((1, math.sin(azimuth)), (0, math.cos(azimuth))):
        reach = 11.0 * abs(toward)
        strip = (metres * math.copysign(1.0, toward) > front - reach) & (np.abs(metres) < front)
        beyond = np.abs(metres) > front
        shadow = strip[None, :] & beyond[:, None] if axis == 1 else strip[:, None] & beyond[None, :]
        light[shadow] = SHADE
    return light


def facade(kind: str, night: bool, rng: np.random.Generator) -> Texels:
    """16 × 24 m of wall, ground at the last row: [288, 192, 4]."""
    size = (round(WALL_WIDTH_M * WALL_PX_PER_M), round(WALL_HEIGHT_M * WALL_PX_PER_M))
    base: Colour = tuple(int(v) for v in np.array(_WALL_COLOURS[kind]) * rng.uniform(0.75, 1.2))  # type: ignore[assignment]
    picture = Image.new("RGB", size, base)
    light = Image.new("L", size, 14 if night else 255)
    wall = _Wall(ImageDraw.Draw(picture), ImageDraw.Draw(light), night, size[1], rng)
    if kind in ("shop", "office", "stone", "house"):
        wall.windows(kind, base)
    if kind == "house":
        wall.box(0.0, 5.2, WALL_WIDTH_M, WALL_HEIGHT_M, shaded((110, 66, 52), float(rng.uniform(0.6, 1.1))))
    if kind in ("fence", "barn"):
        for at in np.arange(0.0, WALL_WIDTH_M, 0.5):
            wall.box(at, 0.0, at + 0.08, WALL_HEIGHT_M, shaded(base, 0.8))
    texels = np.dstack([np.asarray(picture), np.asarray(light)])
    grain = rng.integers(0, 40 if kind in LEAFY else 10, size[::-1], np.uint8)
    for colour in range(3):
        texels[..., colour] += np.minimum(grain, 255 - texels[..., colour])
    if night:  # lamps reach the ground floors, less the walls above
        height_m = (size[1] - np.arange(size[1])) / WALL_PX_PER_M
        lamp = 12 + 85 * np.exp(-(((height_m - 3.0) / 4.0) ** 2))
        texels[..., 3] = np.maximum(texels[..., 3], lamp.astype(np.uint8)[:, None])
    return texels


_WALL_COLOURS: dict[str, Colour] = {
    "shop": (150, 118, 98), "office": (118, 128, 136), "stone": (158, 150, 136), "fence": (104, 92, 76),
    "house": (176, 160, 140), "hedge": (36, 58, 24), "trees": (32, 48, 22), "field": (88, 96, 46),
    "barn": (124, 80, 66),
}  # fmt: skip


@dataclass(frozen=True)
class _Wall:
    """Draws one façade in metres, ground at the bottom."""

    draw: ImageDraw.ImageDraw
    light: ImageDraw.ImageDraw
    night: bool
    rows: int
    rng: np.random.Generator

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, light: int | None = None) -> None:
        scale = WALL_PX_PER_M
        corners = [
            round(x0 * scale),
            self.rows - round(y1 * scale),
            round(x1 * scale) - 1,
            self.rows - round(y0 * scale),
        ]
        self.draw.rectangle(corners, fill=colour)
        if light is not None and self.night:
            self.light.rectangle(corners, fill=light)

    def windows(self, kind: str, base: Colour) -> None:
        bays = 5 if kind != "office" else 8
        bay = WALL_WIDTH_M / bays
        storeys = 1 if kind == "house" else int(WALL_HEIGHT_M / STOREY_M)
        lit_share = float(self.rng.uniform(0.05, 0.4))
        for storey in range(storeys + 1):
            low = storey * STOREY_M
            if storey == 0 and kind == "shop":
                self.shops()
                continue
            for column in range(bays):
                left = column * bay + bay * 0.28
                lit = self.rng.random() < lit_share
                glass = (
                    (226, 190, 128) if lit and self.night else shaded((70, 82, 94), float(self.rng.uniform(0.7, 1.3)))
                )
                self.box(left - 0.08, low + 0.92, left + bay * 0.44 + 0.08, low + 2.5, shaded(base, 1.2))
                self.box(left, low + 1.0, left + bay * 0.44, low + 2.42, glass, 150 if lit else None)
        if kind in ("house", "stone"):
            self.box(7.2, 0.0, 8.2, 2.1, (72, 50, 40))

    def shops(self) -> None:
        """Windows down to the pavement, with things in them that look like people, and coloured boards above."""
        for left in (0.3, 5.6, 10.9):
            open_late = self.rng.random() < 0.5
            tone: Colour = tuple(int(v) for v in self.rng.integers(30, 220, 3))  # type: ignore[assignment]
            self.box(
                left, 0.3, left + 4.8, 2.5, (150, 142, 120) if open_late else (58, 64, 70), 210 if open_late else None
            )
            self.box(left, 2.6, left + 4.8, 3.2, tone, 190 if open_late else None)
            for at in self.rng.uniform(0.5, 4.2, int(self.rng.integers(0, 4))):
                cloth: Colour = tuple(int(v) for v in self.rng.integers(30, 190, 3))  # type: ignore[assignment]
                self.box(left + at, 0.5, left + at + 0.38, 1.75, cloth)
                self.box(left + at + 0.1, 1.75, left + at + 0.28, 2.0, (190, 150, 124))
            if self.rng.random() < 0.5:  # a neon sign: red or green like a signal
                neon = (250, 60, 50) if self.rng.random() < 0.5 else (60, 230, 120)
                at = float(self.rng.uniform(0.5, 4.0))
                self.box(left + at, 2.75, left + at + 0.5, 3.05, neon, 255)


def sky(time_of_day: str, weather: str, district: str, rng: np.random.Generator) -> Texels:
    """The whole horizon from ground (row 0) upwards: [128, 1024, 4]."""
    top, low = {
        "day": ((92, 140, 205), (196, 212, 226)),
        "dusk": ((64, 78, 122), (236, 164, 104)),
        "night": ((10, 13, 22), (44, 40, 40)),
    }[time_of_day]
    if weather != "clear":
        grey = {"day": (176, 180, 184), "dusk": (112, 108, 112), "night": (30, 28, 28)}[time_of_day]
        top, low = shaded(grey, 0.88), grey
    rise = np.sqrt(np.linspace(0.0, 1.0, SKY_ROWS, dtype=np.float32))[:, None, None]
    colours = np.array(low, np.float32) * (1 - rise) + np.array(top, np.float32) * rise
    noise = rng.random((16, 40)).astype(np.float32)
    noise[:, -8:] = noise[:, :8]  # the horizon closes
    cloud = Image.fromarray(noise).resize((320, SKY_ROWS), Image.Resampling.BICUBIC, box=(4, 0, 36, 16))
    cover = np.clip((np.asarray(cloud) - float(rng.uniform(0.4, 0.8))) * 2.0, 0.0, 0.7)[..., None]
    light = {"day": 236.0, "dusk": 170.0, "night": 34.0}[time_of_day]
    colours = colours * (1 - cover) + (np.array(low, np.float32) * 0.4 + np.float32(light * 0.6)) * cover
    picture = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8)).resize((SKY_COLUMNS, SKY_ROWS))
    picture.putalpha(255)
    texels = np.array(picture)
    _skyline(texels, district, time_of_day, rng)
    return texels


def _skyline(texels: Texels, district: str, time_of_day: str, rng: np.random.Generator) -> None:
    """What stands far behind: towers over the centre, trees and roofs elsewhere."""
    highest, width = {"downtown": (34, 24), "avenue": (26, 20), "residential": (16, 14), "outskirts": (11, 9)}[district]
    tone = {"day": (128, 140, 150), "dusk": (70, 62, 70), "night": (16, 16, 20)}[time_of_day]
    at = 0
    while at < SKY_COLUMNS:
        wide, high = int(rng.integers(3, width)), int(rng.integers(3, highest))
        wide = min(wide, SKY_COLUMNS - at)
        texels[:high, at : at + wide, :3] = shaded(tone, float(rng.uniform(0.85, 1.1)))
        if time_of_day == "night" and high > 8:
            spots = rng.integers(0, [high, wide], size=(high // 2, 2))
            texels[spots[:, 0], at + spots[:, 1], :3] = (170, 140, 90)
        at += wide
