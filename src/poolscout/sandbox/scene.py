"""The picture while it is painted, and what in it a labeller would mark."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from poolscout.sandbox.light import depth_code_of
from poolscout.sandbox.settings import CLUTTER, StreetSettings
from poolscout.sandbox.sprites import Scaled

MOST_INSTANCES = 255


class _Instance(NamedTuple):
    box: tuple[int, int, int, int]
    label: int
    track: int
    whole_px: float
    code: int


class Scene:
    """The picture while it is painted: colours, and per pixel (light, depth code, instance)."""

    def __init__(self, painted: NDArray[np.uint8], code: NDArray[np.uint8], wall_depth: NDArray[np.float32]) -> None:
        height, width = code.shape
        self.wall_depth = wall_depth
        self.canvas = Image.frombuffer("RGBX", (width, height), painted, "raw", "RGBX", 0, 1)
        # Light, depth code and instance in one word, so that pasting is one masked copy.
        self._words = code.astype("<u4")
        self._words <<= 8
        self._words |= painted[..., 3]
        self._instances: list[_Instance] = []

    def geometry(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Light, depth code and instance of every pixel, [height, width] each."""
        share, code, ids, _ = np.moveaxis(self._words.view(np.uint8).reshape(*self._words.shape, 4), -1, 0)
        return share, code, ids

    def outside(self, box: tuple[int, int, int, int]) -> bool:
        return box[2] <= 0 or box[3] <= 0 or box[0] >= self.canvas.width or box[1] >= self.canvas.height

    def paste(
        self,
        scaled: Scaled,
        box: tuple[int, int, int, int],
        depth: float,
        share: int,
        label: int,
        track: int,
        whole_px: float,
    ) -> None:
        alpha, mask = scaled.alpha, scaled.mask
        before = self.wall_depth[box[0] : box[2]] >= depth
        if not before.all():  # a corner of a house stands before part of it
            alpha = Image.fromarray(np.asarray(alpha) * before)
            mask = mask & before
        code = depth_code_of(depth)
        instance = 0
        if label != CLUTTER and len(self._instances) < MOST_INSTANCES:
            self._instances.append(_Instance(box, label, track, whole_px, code))
            instance = len(self._instances)
        self.canvas.paste(scaled.colours, box, alpha)
        word = np.uint32(share | code << 8 | instance << 16)
        np.copyto(self._words[box[1] : box[3], box[0] : box[2]], word, where=mask)

    def boxes(
        self, ids: NDArray[np.uint8], transmission: NDArray[np.float32], settings: StreetSettings
    ) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
        """Boxes, classes, tracks, visibility and the map of instances, of what a labeller would mark."""
        rows = []
        renumbered = np.zeros(256, np.uint8)
        for number, instance in enumerate(self._instances, start=1):
            x0, y0, x1, y1 = instance.box
            own = ids[y0:y1, x0:x1] == number
            columns, lines = np.flatnonzero(own.any(axis=0)), np.flatnonzero(own.any(axis=1))
            if not len(columns):
                continue
            box = (x0 + columns[0], y0 + lines[0], x0 + columns[-1] + 1, y0 + lines[-1] + 1)
            sides = sorted((box[2] - box[0], box[3] - box[1]))
            visible_px = np.count_nonzero(own)
            visibility = min(visible_px / max(instance.whole_px, 1.0), 1.0)
            hidden = visibility < settings.min_visibility and visible_px < settings.min_picture_share * ids.size
            if (
                sides[0] < settings.min_shorter_side_px
                or sides[1] < settings.min_longer_side_px
                or hidden
                or transmission[instance.code] < settings.min_contrast
            ):
                continue
            rows.append((box, instance.label, instance.track, visibility))
            renumbered[number] = len(rows)
        boxes, labels, tracks, visible = zip(*rows, strict=True) if rows else ((), (), (), ())
        return (
            np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(tracks, np.int64),
            np.array(visible, np.float32), renumbered[ids],
        )  # fmt: skip
