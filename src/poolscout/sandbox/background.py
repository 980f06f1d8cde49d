"""Ground, buildings and sky of one frame, found pixel by pixel from the clip's textures.

The ground by its plane, the houses by one ray for each image column, the sky by bearing; all three index one
array of texels, so that a frame is a single gather.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from poolscout.sandbox import textures
from poolscout.sandbox.light import SKY_CODE, Light, depth_code
from poolscout.sandbox.settings import StreetSettings
from poolscout.sandbox.world import World

NEAR_M, FAR_M = 0.6, 220.0
GROUND_LEVELS, WALL_LEVELS = 5, 4
TABLE = 8
"""Blocks after which the buildings come again."""
SEEN_FRONTS = 3
"""House fronts one behind the other that a ray can pass through gaps to."""
BUILDINGS = 5
"""Places for a building along one side of a block."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, upright. Pixels are squares; the horizon is a row, not always the middle one."""

    width: int
    height: int
    focal_px: float
    horizon_px: float
    up_m: float
    x: float
    z: float
    heading: float

    def tangents(self) -> NDArray[np.float32]:
        """Sideways per metre of depth, for the middle of every column."""
        columns = np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2
        return columns / np.float32(self.focal_px)


class Background:
    """The textures of one clip in one array, and where each begins."""

    def __init__(self, world: World, light: Light, settings: StreetSettings, rng: np.random.Generator) -> None:
        self.world, self.settings = world, settings
        night = world.time_of_day == "night"
        parts: list[NDArray[np.uint32]] = []
        self.ground = textures.ground(world.district, settings, night, light.sun_azimuth, rng)
        self._ground_at = _append_levels(parts, self.ground, GROUND_LEVELS)
        kinds = textures.WALL_KINDS[world.district_name]
        # Each façade twice: on the sunny side of the street, and in the shade.
        self._wall_at = np.zeros((len(kinds), 2, WALL_LEVELS), np.int64)
        for i, kind in enumerate(kinds):
            texels = textures.facade(kind, night, rng)
            self._wall_at[i] = _append_levels(parts, texels, WALL_LEVELS)
            if not night:
                texels[..., 3] = textures.SHADE
                self._wall_at[i, 1] = _append_levels(parts, texels, WALL_LEVELS)
        self._sky_at = sum(map(len, parts))
        parts.append(_packed(textures.sky(world.time_of_day, world.weather, world.district_name, rng)))
        self._texels = np.concatenate(parts)
        self._kind = rng.integers(len(kinds), size=(TABLE, TABLE, 4, BUILDINGS))
        low, high = np.array([textures.WALL_HEIGHTS_M[kind] for kind in kinds]).T
        share = rng.random(self._kind.shape)
        self._height = low[self._kind] + (high - low)[self._kind] * share
        self._ragged = np.array([kind in textures.LEAFY for kind in kinds])
        self._rags = rng.uniform(0.6, 1.0, 64)
        sun = light.sun_azimuth  # sides of a block: west, east, south, north
        self._shady = np.array([math.sin(sun) > 0, math.sin(sun) < 0, math.cos(sun) > 0, math.cos(sun) < 0])

    def paint(self, camera: Camera) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        """Colours and light [h, w, 4], depth codes [h, w], and the depth in metres of the wall in each column."""
        tangent = camera.tangents()
        cos, sin = math.cos(camera.heading), math.sin(camera.heading)
        ray_x, ray_z = sin + tangent * cos, cos - tangent * sin
        wall = self._walls(camera, ray_x, ray_z)
        rows = np.arange(camera.height, dtype=np.float32)[:, None] + 0.5 - np.float32(camera.horizon_px)
        foot = np.float32(camera.focal_px * camera.up_m) / wall.depth
        head = np.float32(camera.focal_px) * (camera.up_m - wall.height) / wall.depth
        first_ground = min(max(math.ceil(camera.horizon_px + 1.0), 0), camera.height)
        index = np.empty((camera.height, camera.width), np.int32)
        code = np.empty((camera.height, camera.width), np.uint8)
        index[:first_ground] = self._sky(camera, tangent, rows[:first_ground])
        code[:first_ground] = SKY_CODE
        index[first_ground:], code[first_ground:] = self._ground(camera, ray_x, ray_z, rows[first_ground:])
        last = min(int(camera.horizon_px + foot.max()) + 2, camera.height)
        top = max(int(camera.horizon_px + head.min()) - 1, 0)
        if top < last:
            shown = rows[top:last]
            on_wall = (shown >= head) & (shown < foot)
            index[top:last] = np.where(on_wall, wall.texel(shown, camera), index[top:last])
            code[top:last] = np.where(on_wall, depth_code(wall.depth), code[top:last])
        return self._texels[index].view(np.uint8).reshape(*index.shape, 4), code, wall.depth

    def light_at(self, x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Share of the main light that falls on the ground there."""
        size, block = len(self.ground), self.settings.block_m
        row, column = (((v / block + 0.5) % 1.0 * size).astype(np.int64) % size for v in (z, x))
        return self.ground[row, column, 3]

    def _sky(self, camera: Camera, tangent: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.int32]:
        bearing = (camera.heading + np.arctan(tangent)) / (2 * math.pi)
        column = (bearing % 1.0 * textures.SKY_COLUMNS).astype(np.int32) % textures.SKY_COLUMNS
        up = np.clip(-rows / camera.focal_px * textures.SKY_PX_PER_TANGENT, 0, textures.SKY_ROWS - 1)
        return np.int32(self._sky_at) + up.astype(np.int32) * textures.SKY_COLUMNS + column

    def _ground(
        self, camera: Camera, ray_x: NDArray, ray_z: NDArray, rows: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        depth = np.float32(camera.focal_px * camera.up_m) / rows
        # The level whose texels are about one pixel high there: finer ones would flicker.
        texel_px = depth**2 / (camera.focal_px * camera.up_m) * textures.GROUND_PX_PER_M
        level = np.clip(np.log2(np.maximum(texel_px, 1.0)) - 0.5, 0, GROUND_LEVELS - 1).astype(np.int32)
        size = (len(self.ground) >> level).astype(np.float32)
        scale = size / self.settings.block_m
        block = self.settings.block_m
        start_x, start_z = (camera.x + block / 2) % block, (camera.z + block / 2) % block
        column = (start_x + depth * ray_x[None, :].astype(np.float32)) * scale
        row = (start_z + depth * ray_z[None, :].astype(np.float32)) * scale
        whole = size.astype(np.int32)
        column = np.floor(column).astype(np.int32) % whole
        row = np.floor(row).astype(np.int32) % whole
        row *= whole
        row += column
        row += self._ground_at[level].astype(np.int32)
        return row, depth_code(depth)

    def _walls(self, camera: Camera, ray_x: NDArray[np.float32], ray_z: NDArray[np.float32]) -> Walls:
        """The nearest house front along the ray of every column."""
        district, block = self.world.district, self.settings.block_m
        front = textures.half_road_m(district, self.settings) + district.pavement_m + district.setback_m
        low, high = front, block - front
        column, row = math.floor(camera.x / block), math.floor(camera.z / block)
        step = np.arange(-3, 4)
        depth = np.full(camera.width, FAR_M)
        place = np.zeros((4, camera.width), np.int64)
        along = np.zeros(camera.width)
        for side in range(4):
            turned = side >= 2
            across, ray_across, ray_along = (camera.z, ray_z, ray_x) if turned else (camera.x, ray_x, ray_z)
            origin_along = camera.x if turned else camera.z
            lines = ((row if turned else column) + step) * block + (high if side % 2 else low)
            # Fronts face the street: the low side of a block is seen from below it only.
            lines = lines[lines < across][-SEEN_FRONTS:] if side % 2 else lines[lines > across][:SEEN_FRONTS]
            with np.errstate(divide="ignore", invalid="ignore"):
                t = (lines[:, None] - across) / ray_across[None, :]
            at = origin_along + t * ray_along[None, :]
            cell = np.floor(at / block)
            offset = at - cell * block - low
            hit = (t > NEAR_M) & (t < FAR_M) & (offset >= 0.0) & (offset < high - low)
            if not district.crossings:  # no gaps between blocks along the one road; nothing across it
                hit = (t > NEAR_M) & (t < FAR_M) & (not turned)
                offset = np.clip(offset, 0.0, None)
            t = np.where(hit, t, FAR_M)
            nearest = t.argmin(axis=0)
            columns = np.arange(camera.width)
            best = t[nearest, columns] if len(lines) else depth
            closer = best < depth
            if not len(lines) or not closer.any():
                continue
            line_cell = np.floor((lines - low) / block).astype(np.int64)[nearest]
            along_cell = np.where(closer, cell[nearest, columns], 0.0).astype(np.int64)
            depth = np.where(closer, best, depth)
            along = np.where(closer, offset[nearest, columns], along)
            new = np.stack([along_cell, line_cell, np.full(camera.width, side), np.zeros_like(line_cell)])
            place = np.where(closer, new, place)
        return self._looked_up(depth, place, along, camera)

    def _looked_up(
        self, depth: NDArray[np.float64], place: NDArray[np.int64], along: NDArray[np.float64], camera: Camera
    ) -> Walls:
        building = np.minimum((along / textures.WALL_WIDTH_M).astype(np.int64), BUILDINGS - 1)
        key = (place[0] % TABLE, place[1] % TABLE, place[2], building)
        kind, height = self._kind[key], self._height[key]
        rags = self._rags[(along * 1.5).astype(np.int64) % 64]
        height = np.where(self._ragged[kind], height * rags, height)
        texel_px = depth / camera.focal_px * textures.WALL_PX_PER_M
        level = np.clip(np.log2(np.maximum(texel_px, 1.0)) + 0.5, 0, WALL_LEVELS - 1).astype(np.int64)
        start = self._wall_at[kind, self._shady[place[2]].astype(np.int64), level]
        height = np.where(depth >= FAR_M, 0.0, height)
        return Walls(depth.astype(np.float32), height.astype(np.float32), along, start, level)


@dataclass(frozen=True)
class Walls:
    """What each column's ray meets."""

    depth: NDArray[np.float32]
    height: NDArray[np.float32]
    along: NDArray[np.float64]
    start: NDArray[np.int64]
    level: NDArray[np.int64]

    def texel(self, rows: NDArray[np.float32], camera: Camera) -> NDArray[np.int32]:
        """Texel of every pixel, as if the walls filled the picture."""
        width = round(textures.WALL_WIDTH_M * textures.WALL_PX_PER_M) >> self.level
        tall = round(textures.WALL_HEIGHT_M * textures.WALL_PX_PER_M) >> self.level
        scale = textures.WALL_PX_PER_M / 2.0**self.level
        column = np.minimum((self.along % textures.WALL_WIDTH_M * scale).astype(np.int32), width - 1)
        down = (tall - camera.up_m * scale).astype(np.float32)
        row = down + rows * (self.depth / camera.focal_px * scale).astype(np.float32)
        row = np.clip(row, 0.0, (tall - 1).astype(np.float32)).astype(np.int32)
        row *= width.astype(np.int32)
        row += (self.start + column).astype(np.int32)
        return row


def _packed(texels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(texels).view(np.uint32).reshape(-1)


def _append_levels(parts: list[NDArray[np.uint32]], texels: NDArray[np.uint8], levels: int) -> NDArray[np.int64]:
    """Append a texture and its halves, quarters …; returns where each begins."""
    starts = []
    at = sum(map(len, parts))
    size = (texels.shape[1], texels.shape[0])
    # RGBX: four channels of equal standing, not colours weighted by their alpha.
    picture = Image.frombuffer("RGBX", size, np.ascontiguousarray(texels), "raw", "RGBX", 0, 1)
    for level in range(levels):
        starts.append(at)
        picture = picture.reduce(2) if level else picture
        parts.append(_packed(np.asarray(picture)))
        at += len(parts[-1])
    return np.array(starts)
