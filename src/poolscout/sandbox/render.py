"""A clip, frame by frame: background, then every actor from far to near, then the light."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from poolscout.errors import ConfigError
from poolscout.sandbox.actors import Actor
from poolscout.sandbox.background import Background, Camera
from poolscout.sandbox.glows import glows_of, sun_glare
from poolscout.sandbox.light import Glow, Shader, drawn_light
from poolscout.sandbox.scene import Scene
from poolscout.sandbox.settings import CLUTTER, SETTINGS, StreetSettings
from poolscout.sandbox.sprites import Look, Scaled
from poolscout.sandbox.world import World, drawn_world

MIN_PX, MAX_PX = 64, 4096
MIN_FOV_DEG, MAX_FOV_DEG = 20.0, 120.0
MOST_FRAMES = 10_000
NEAREST_M, FARTHEST_M = 1.3, 120.0
WIDEST_M = 6.6
"""Of all things: the crown of a tree."""
HORIZON = 0.46
"""Share of the picture above the horizon: the camera looks a little down at the road."""
SHADOW = [round(alpha * 0.55) for alpha in range(256)]


class Frame(NamedTuple):
    """One picture and its ground truth; k boxes."""

    image: NDArray[np.uint8]
    """[height, width, 3], RGB."""
    boxes_xyxy_px: NDArray[np.float32]
    """[k, 4]: the smallest rectangle around the visible pixels, x2 and y2 exclusive."""
    classes: NDArray[np.int64]
    """[k], positions in `CLASSES`."""
    track_ids: NDArray[np.int64]
    """[k], the same number for the same thing over the whole clip."""
    visibility: NDArray[np.float32]
    """[k], visible share of the pixels that the thing would have, uncovered and in an endless picture."""
    instances: NDArray[np.uint8]
    """[height, width]: 1 + the box's position where the thing is visible, else 0."""
    metadata: dict[str, Any]
    """sequence, frame, time_of_day, weather, speed_kmh."""


def render_clip(
    seed: int,
    clip_index: int,
    *,
    frames: int = 40,
    width: int = 320,
    height: int = 192,
    settings: StreetSettings = SETTINGS,
) -> Iterator[Frame]:
    """The frames of one clip, a function of the arguments only: clips do not depend on each other.

    Args:
        seed: of the data set, ≥ 0.
        clip_index: which clip, ≥ 0.
        frames: number of frames, 0.2 s apart.
        width: of the picture in pixels, 64 to 4096; so is `height`.
        height: see `width`.
        settings: what the streets are like.

    Raises:
        ConfigError: an argument is out of its range.
    """
    check_arguments(seed=seed, clip_index=clip_index, frames=frames, width=width, height=height, settings=settings)
    return _frames(seed, clip_index, frames, width, height, settings)


def check_arguments(
    *, seed: int, clip_index: int, frames: int, width: int, height: int, settings: StreetSettings = SETTINGS
) -> None:
    """Raise a `ConfigError` unless a clip can be rendered with these."""
    for name, value, low, high in (
        ("seed", seed, 0, 2**63), ("clip index", clip_index, 0, 2**31),
        ("frames per clip", frames, 1, MOST_FRAMES),
        ("width", width, MIN_PX, MAX_PX), ("height", height, MIN_PX, MAX_PX),
        ("field of view in degrees", settings.horizontal_fov_deg, MIN_FOV_DEG, MAX_FOV_DEG),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ConfigError(
                f"sandbox: {name} is out of range", got=value, expected=f"{low} to {high}", fix=f"choose another {name}"
            )
    if not 0.5 <= width / height <= 4:
        raise ConfigError(
            "sandbox: the picture is too narrow or too wide for a street camera",
            got=f"{width} × {height} px", expected="a width of 0.5 to 4 times the height", fix="for example 320 × 192",
        )  # fmt: skip


def _frames(
    seed: int, clip_index: int, frames: int, width: int, height: int, settings: StreetSettings
) -> Iterator[Frame]:
    world_rng, look_rng, frame_rng = (np.random.default_rng([seed, clip_index, part]) for part in range(3))
    world = drawn_world(world_rng, frames, settings)
    painter = _Painter(world, settings, (height, width), look_rng)
    for number in range(frames):
        yield painter.frame(number, f"clip-{clip_index:04d}", frame_rng)


class _Painter:
    """Paints the frames of one clip; keeps its textures and the sprites it has scaled."""

    def __init__(
        self, world: World, settings: StreetSettings, shape: tuple[int, int], rng: np.random.Generator
    ) -> None:
        self.world, self.settings, self.shape = world, settings, shape
        self.light = drawn_light(world.time_of_day, world.weather, settings, rng)
        self.background = Background(world, self.light, settings, rng)
        self.shader = Shader(self.light, shape, settings, rng)
        self._nearer = np.array([actor.nearer_m for actor in world.actors])
        self.pattern = self._beam_pattern(self._camera(0))
        self._shadows: dict[tuple[int, int], Image.Image] = {}
        self._scaled: dict[tuple[int, int, int, bool], Scaled] = {}
        disc = np.hypot(*np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48)))
        self._shadow = Image.fromarray((np.clip(1.5 - 1.5 * disc, 0, 1) * 255).astype(np.uint8)).point(SHADOW)

    def frame(self, number: int, sequence: str, rng: np.random.Generator) -> Frame:
        camera = self._camera(number)
        painted, code, wall_depth = self.background.paint(camera)
        scene = Scene(painted, code, wall_depth)
        lamps = self._paint_actors(scene, camera, number)
        share, code, ids = scene.geometry()
        glows = [glow for glow, lamp_code in lamps if _unhidden(glow, lamp_code, code)]
        glows += sun_glare(self.light, self.world.time_of_day, camera, code)
        motion_px = self._motion_px(number, camera)
        image = self.shader.shade(np.asarray(scene.canvas), share, code, self.pattern, glows, motion_px, rng)
        boxes = scene.boxes(ids, self.shader.transmission, self.settings)
        metadata = {
            "sequence": sequence,
            "frame": number,
            "time_of_day": self.world.time_of_day,
            "weather": self.world.weather,
            "speed_kmh": round(float(self.world.speed_m_per_s[number]) * 3.6, 1),
        }
        return Frame(image, *boxes, metadata)

    def _camera(self, number: int) -> Camera:
        height, width = self.shape
        world = self.world
        speed = world.speed_m_per_s
        focal = width / 2 / math.tan(math.radians(self.settings.horizontal_fov_deg) / 2)
        # The car nods on its springs while it rolls, and dives when it brakes.
        nod = 0.0025 * math.sin(number * 2.4) * min(speed[number] / 8.0, 1.0)
        dive = -0.0015 * float(speed[number] - speed[max(number - 1, 0)]) * self.settings.frame_rate_hz
        horizon = height * HORIZON - (nod + dive) * focal
        return Camera(
            width, height, focal, horizon, self.settings.camera_height_m,
            float(world.camera_x[number]), float(world.camera_z[number]), float(world.camera_heading[number]),
        )  # fmt: skip

    def _beam_pattern(self, camera: Camera) -> NDArray[np.float32]:
        """Low beams: wide and short, cut off just below the horizon."""
        tangent = camera.tangents()
        up = (camera.horizon_px - np.arange(camera.height) - 0.5) / camera.focal_px
        cut = 0.12 + 0.88 / (1.0 + np.exp(np.clip((up + 0.005) / 0.012, -30, 30)))
        return (cut[:, None] * np.exp(-((tangent / 0.42) ** 2))[None, :]).astype(np.float32)

    def _motion_px(self, number: int, camera: Camera) -> float:
        """How far the picture sweeps sideways while the shutter is open: a tenth of the frame time at night."""
        turned = self.world.camera_heading[number] - self.world.camera_heading[max(number - 1, 0)]
        share = {"day": 0.02, "dusk": 0.06, "night": 0.12}[self.world.time_of_day]
        return abs(float(turned)) * camera.focal_px * share

    def _paint_actors(self, scene: Scene, camera: Camera, number: int) -> list[tuple[Glow, int]]:
        glows: list[tuple[Glow, int]] = []
        time_s = float(self.world.times_s[number])
        for which, depth, sideways, angle, share in self._in_view(camera, number, scene.wall_depth):
            actor = self.world.actors[which]
            look = actor.thing.look(angle, time_s)
            if actor.shadow_m and depth < 45:
                self._paint_shadow(scene, camera, actor, look, depth, sideways)
            self._paint(scene, camera, which, actor, look, depth, sideways, share)
            if actor.lights or actor.signal:
                braking = self._brakes(which, number)
                glows += glows_of(actor, camera, self.light, depth, sideways, angle, time_s, braking)
        return glows

    def _in_view(
        self, camera: Camera, number: int, wall_depth: NDArray[np.float32]
    ) -> list[tuple[int, float, float, float, int]]:
        """(actor, depth, sideways, angle it is seen from, light on it) of what can be seen, far ones first."""
        world = self.world
        x, z, heading = (
            np.concatenate([still[0], moving[number]])
            for still, moving in zip(world.still[:3], world.moving[:3], strict=True)
        )
        dx, dz = x - camera.x, z - camera.z
        cos, sin = math.cos(camera.heading), math.sin(camera.heading)
        depth, sideways = dx * sin + dz * cos, dx * cos - dz * sin
        edge = depth * (camera.width / 2 / camera.focal_px) + 5.0
        seen = np.flatnonzero((depth > NEAREST_M) & (depth < FARTHEST_M) & (np.abs(sideways) < edge))
        # Most of what stands in other streets is behind houses: not worth drawing to find that out.
        across = sideways[seen, None] + np.linspace(-WIDEST_M / 2, WIDEST_M / 2, 5)
        columns = camera.width / 2 + camera.focal_px / depth[seen, None] * across
        columns = np.clip(columns, 0, camera.width - 1).astype(np.int64)
        seen = seen[(wall_depth[columns] >= depth[seen, None]).any(axis=1)]
        seen = seen[np.argsort(self._nearer[seen] - depth[seen], kind="stable")]
        angle = np.arctan2(-dx[seen], -dz[seen]) - heading[seen]
        angle = (angle + math.pi) % (2 * math.pi) - math.pi
        share = self.background.light_at(x[seen], z[seen])
        return list(
            zip(
                seen.tolist(),
                depth[seen].tolist(),
                sideways[seen].tolist(),
                angle.tolist(),
                share.tolist(),
                strict=True,
            )
        )

    def _brakes(self, which: int, number: int) -> bool:
        moving = which - self.world.still.x.shape[1]
        if moving < 0:
            return False
        speed = self.world.moving.speed[:, moving]
        return bool(speed[number] < 0.3 or speed[number] < speed[max(number - 1, 0)] - 0.1)

    def _paint_shadow(
        self, scene: Scene, camera: Camera, actor: Actor, look: Look, depth: float, sideways: float
    ) -> None:
        px_per_m = camera.focal_px / depth
        reach = min(actor.shadow_m, depth * 0.5)
        top = camera.horizon_px + camera.focal_px * camera.up_m / (depth + reach)
        low = camera.horizon_px + camera.focal_px * camera.up_m / (depth - reach)
        left = camera.width / 2 + px_per_m * (sideways + 1.1 * look.sprite.left_m * look.width_factor)
        right = camera.width / 2 + px_per_m * (sideways + 1.1 * look.sprite.right_m * look.width_factor)
        box = round(left), round(top), max(round(right), round(left) + 1), max(round(low), round(top) + 1)
        if scene.outside(box) or box[2] - box[0] > 2 * camera.width:
            return
        size = (box[2] - box[0], box[3] - box[1])
        if size not in self._shadows:
            self._shadows[size] = self._shadow.resize(size)
        scene.canvas.paste((6, 6, 8, 255), box, self._shadows[size])

    def _paint(
        self,
        scene: Scene,
        camera: Camera,
        which: int,
        actor: Actor,
        look: Look,
        depth: float,
        sideways: float,
        share: int,
    ) -> None:
        sprite, px_per_m = look.sprite, camera.focal_px / depth
        left_m, right_m = (-sprite.right_m, -sprite.left_m) if look.mirrored else (sprite.left_m, sprite.right_m)
        left = round(camera.width / 2 + px_per_m * (sideways + left_m * look.width_factor))
        right = round(camera.width / 2 + px_per_m * (sideways + right_m * look.width_factor))
        top = round(camera.horizon_px + px_per_m * (camera.up_m - actor.up_m - sprite.top_m))
        low = round(camera.horizon_px + px_per_m * (camera.up_m - actor.up_m - sprite.bottom_m))
        right, low = max(right, left + 1), max(low, top + 1)
        whole = left, top, right, low
        faint = actor.label == CLUTTER and px_per_m * (sprite.right_m - sprite.left_m) < 0.4
        if scene.outside(whole) or low - top < 3 or faint:
            return
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, camera.width), min(low, camera.height)
        if float(scene.wall_depth[x0:x1].max()) < depth:
            return
        width, height = right - left, low - top
        key = (id(sprite), width, height, look.mirrored)
        part = ((x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height)
        if part != (0.0, 0.0, 1.0, 1.0):
            scaled = sprite.scaled(x1 - x0, y1 - y0, part, look.mirrored)
        elif key in self._scaled:
            scaled = self._scaled[key]
        else:
            scaled = self._scaled[key] = sprite.scaled(width, height, part, look.mirrored)
        label = actor.label if look.labelled else CLUTTER
        scene.paste(scaled, (x0, y0, x1, y1), depth, share, label, which, sprite.fill * width * height)


def _unhidden(glow: Glow, code: int, codes: NDArray[np.uint8]) -> bool:
    x, y = round(glow.x), round(glow.y)
    inside = 0 <= y < codes.shape[0] and 0 <= x < codes.shape[1]
    return inside and int(codes[y, x]) >= code - 3
