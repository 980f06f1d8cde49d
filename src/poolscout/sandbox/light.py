"""From painted surfaces to what a camera records: light, fog, glare, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from poolscout.sandbox.settings import StreetSettings, TimeOfDay, Weather

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SKY_CODE = 255
CODES_PER_OCTAVE = 32.0


def depth_code(depth_m: Floats | float) -> NDArray[np.uint8]:
    """Depth in one byte, in steps of 2 %: 0 at the camera, 254 beyond 490 m (255 is the sky)."""
    return np.minimum(CODES_PER_OCTAVE * np.log2(1.0 + np.asarray(depth_m) / 2.0), 254.0).astype(np.uint8)


def depth_code_of(depth_m: float) -> int:
    """`depth_code` of one number."""
    return int(min(CODES_PER_OCTAVE * math.log2(1.0 + depth_m / 2.0), 254.0))


def code_depth_m() -> Floats:
    """The depth in metres of every code."""
    return (2.0 * (2.0 ** (np.arange(256) / CODES_PER_OCTAVE) - 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Light:
    """The light of one clip. Colours are linear, 1 = white in the sun."""

    ambient: tuple[float, float, float]
    source: tuple[float, float, float]
    """Sun or street lamps."""
    headlights: float
    """Of the camera car, on a white wall close by."""
    glow: float
    """How far lamps outshine their surroundings: 0 by day, 1 at night."""
    fog: tuple[float, float, float]
    visibility_m: float
    exposure: float
    noise: float
    """Standard deviation in grey levels of 255, after the camera's curve."""
    blur_px: float
    """Standard deviation of the lens, at 320 px width."""
    sun_azimuth: float
    wet: bool


Linear = tuple[float, float, float]


class _Hour(NamedTuple):
    """Colours of the light at one time of day."""

    ambient: Linear
    source: Linear
    cloudy_ambient: Linear
    cloudy_source: Linear
    fog: Linear


NIGHT_SKY: Linear = (0.01, 0.011, 0.015)
SODIUM_LAMP: Linear = (0.24, 0.165, 0.085)

# By day a third of the light of a clear sky comes from the sky; at dusk a tenth of the day's, the sun red;
# at night a hundredth, and lamps of sodium.
HOURS: dict[TimeOfDay, _Hour] = {
    "day": _Hour((0.36, 0.40, 0.47), (0.66, 0.61, 0.52), (0.66, 0.68, 0.71), (0.06, 0.06, 0.06), (0.62, 0.66, 0.71)),
    "dusk": _Hour((0.13, 0.125, 0.16), (0.2, 0.13, 0.07), (0.17, 0.17, 0.19), (0.01, 0.01, 0.01), (0.22, 0.17, 0.15)),
    "night": _Hour(NIGHT_SKY, SODIUM_LAMP, NIGHT_SKY, SODIUM_LAMP, (0.032, 0.028, 0.026)),
}  # fmt: skip


def drawn_light(time_of_day: TimeOfDay, weather: Weather, settings: StreetSettings, rng: np.random.Generator) -> Light:
    """Light for an hour and a weather, with the variation from day to day and camera to camera."""
    hour, clear = HOURS[time_of_day], weather == "clear"
    night = {"day": 0.0, "dusk": 0.4, "night": 1.0}[time_of_day]
    strength = float(rng.uniform(0.8, 1.2))

    def scaled(colour: Linear) -> Linear:
        return colour[0] * strength, colour[1] * strength, colour[2] * strength

    return Light(
        ambient=scaled(hour.ambient if clear else hour.cloudy_ambient),
        source=scaled(hour.source if clear else hour.cloudy_source),
        headlights=0.5 * night,
        glow=night,
        fog=scaled(hour.fog),
        visibility_m=settings.visibility_m[weather] * float(rng.uniform(0.8, 1.3)),
        exposure={"day": 0.9, "dusk": 1.5, "night": 2.4}[time_of_day] * float(rng.uniform(0.85, 1.15)),
        # Shot noise has the same spread everywhere after a square-root curve; gain at night makes it large.
        noise={"day": 2.0, "dusk": 3.5, "night": 6.0}[time_of_day] * float(rng.uniform(0.8, 1.3)),
        blur_px=float(rng.uniform(0.35, 0.6)) + (0.25 if weather == "rain" else 0.0) + 0.15 * night,
        sun_azimuth=float(rng.uniform(-math.pi, math.pi)),
        wet=weather == "rain",
    )


class Glow(NamedTuple):
    """A lamp in the picture: where, how large its halo is, how bright and of which colour."""

    x: float
    y: float
    radius_px: float
    colour: tuple[float, float, float]
    mirror_y: float | None = None
    """Where a wet road shows it again."""


class Shader:
    """Lights the painted pictures of one clip. `shape` is (height, width)."""

    def __init__(
        self, light: Light, shape: tuple[int, int], settings: StreetSettings, rng: np.random.Generator
    ) -> None:
        self.light, self.shape = light, shape
        through = np.exp(math.log(settings.min_contrast) * code_depth_m() / light.visibility_m)
        through[SKY_CODE] = 0.25 if light.visibility_m < 150 else 1.0
        self.transmission = through.astype(np.float32)
        """Share of the contrast that is left, by depth code."""
        beam = 1.0 / (1.0 + (code_depth_m() / 11.0) ** 2)
        beam[SKY_CODE] = 0.0
        self._beam = (beam * through * light.headlights).astype(np.float32)
        noise = rng.standard_normal((shape[0] + 64, shape[1] + 64, 3), dtype=np.float32)
        noise += 0.6 * noise[..., 1:2]  # luminance noise stands out more than colour noise
        self._noise = np.rint(noise * (light.noise / 1.3)).astype(np.int16)
        self._halos: dict[tuple[int, int], Floats] = {}
        rows = np.linspace(-1.0, 1.0, 65, dtype=np.float32)
        distance = np.hypot(rows[:, None], rows[None, :])
        falloff = np.maximum(1.0 - distance, 0.0) ** 2 * 0.14 + np.maximum(1.0 - distance * 3.5, 0.0) * 1.2
        self._halo = Image.fromarray(falloff.astype(np.float32))
        # Falling drops draw near-vertical streaks; those of one clip are drawn once and shown shifted.
        self._streaks = _streaks(shape, rng) if light.wet else None

    def shade(
        self,
        painted: Bytes,
        share: Bytes,
        code: Bytes,
        pattern: Floats,
        glows: list[Glow],
        motion_px: float,
        rng: np.random.Generator,
    ) -> Bytes:
        """The recorded picture [height, width, 3].

        Args:
            painted: colours of the surfaces, [height, width, ≥ 3].
            share: of the main light that reaches them, [height, width], 255 = all.
            code: their depth, see `depth_code`, [height, width].
            pattern: how much of the headlights' light goes towards each pixel, [height, width].
            glows: lamps to add.
            motion_px: how far the picture moves sideways while it is taken.
            rng: of noise and rain.
        """
        light = self.light
        through = np.take(self.transmission, code)
        lamp = share * (through * np.float32(1 / 255))
        beam = np.take(self._beam, code) * pattern if light.headlights else None
        # One colour after the other: numpy is several times slower where the innermost axis is three long.
        lit = np.empty((3, *self.shape), np.float32)
        albedo, part = np.empty(self.shape, np.float32), np.empty(self.shape, np.float32)
        for colour, out in enumerate(lit):
            gain = light.exposure / 255**2
            np.copyto(albedo, painted[..., colour])
            albedo *= albedo
            np.multiply(lamp, np.float32(light.source[colour] * gain), out=out)
            out += np.multiply(through, np.float32(light.ambient[colour] * gain), out=part)
            if beam is not None:
                out += np.multiply(beam, np.float32(gain), out=part)
            out *= albedo
            fog = np.float32(light.fog[colour] * light.exposure)
            np.multiply(through, -fog, out=part)
            part += fog
            out += part
        for glow in glows:
            self._add(lit, glow)
        if self._streaks is not None:
            lit += self._shifted(self._streaks, rng) * np.float32(float(lit.mean()) * 0.25 + 0.02)
        return self._recorded(lit, motion_px, rng)

    def _recorded(self, lit: Floats, motion_px: float, rng: np.random.Generator) -> Bytes:
        """What the sensor and its square-root curve make of light [3, h, w]."""
        np.minimum(lit, 1.0, out=lit)
        lens = self.light.blur_px * self.shape[1] / 320
        _smooth(lit, lens, 1)
        _smooth(lit, math.hypot(lens, motion_px), 2)
        np.sqrt(lit, out=lit)
        lit *= 255.0
        levels = np.empty((*self.shape, 3), np.int16)
        levels[...] = np.moveaxis(lit, 0, -1)
        levels += self._shifted(self._noise, rng)
        return np.clip(levels, 0, 255, out=levels).astype(np.uint8)

    def _shifted(self, tile: NDArray, rng: np.random.Generator) -> NDArray:
        top, left = rng.integers(0, 64, 2)
        return tile[top : top + self.shape[0], left : left + self.shape[1]]

    def _add(self, lit: Floats, glow: Glow) -> None:
        self._blend(lit, glow.x, glow.y, glow.radius_px, glow.radius_px, glow.colour)
        if glow.mirror_y is not None:
            dim = tuple(0.35 * v for v in glow.colour)
            self._blend(lit, glow.x, glow.mirror_y, glow.radius_px * 0.7, glow.radius_px * 2.5, dim)

    def _blend(self, lit: Floats, x: float, y: float, rx: float, ry: float, colour: tuple[float, ...]) -> None:
        half_x, half_y = max(round(rx), 1), max(round(ry), 1)
        left, top = round(x) - half_x, round(y) - half_y
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + 2 * half_x + 1, self.shape[1]), min(top + 2 * half_y + 1, self.shape[0])
        if x0 >= x1 or y0 >= y1:
            return
        size = (2 * half_x + 1, 2 * half_y + 1)
        if size not in self._halos:
            self._halos[size] = np.asarray(self._halo.resize(size, Image.Resampling.BILINEAR))
        halo = self._halos[size][y0 - top : y1 - top, x0 - left : x1 - left]
        for channel, value in zip(lit, colour, strict=True):
            channel[y0:y1, x0:x1] += halo * np.float32(value)


def _streaks(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    height, width = shape[0] + 64, shape[1] + 64
    drops = (rng.random((height, width), dtype=np.float32) < 0.0035).astype(np.float32)
    length = max(round(9 * shape[1] / 320), 2)
    rain = sum(np.roll(drops, (i, i // 4), (0, 1)) * np.float32(1.0 - i / length) for i in range(length))
    return np.minimum(np.asarray(rain), 1.0).astype(np.float32)


def _smooth(lit: Floats, sigma_px: float, axis: int) -> None:
    """Blur light [3, h, w] along an axis, in place: passes of three taps, each of at most 0.8 px."""
    passes = max(math.ceil((sigma_px / 0.8) ** 2), 1)
    side = np.float32(min(sigma_px**2 / passes, 0.64) / 2)
    before, after = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
    for _ in range(min(passes, 12)):
        step = lit[after] - lit[before]
        step *= side
        lit[before] += step
        lit[after] -= step
