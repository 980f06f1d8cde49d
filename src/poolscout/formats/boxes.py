"""Whether one `bbox` of an annotation file can be used, and its corners if so."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

UNKNOWN_SIZE_PX = 2**24  # the last whole number float32 counts to; no image is wider
CLIP_TOLERANCE_PX = 1e-3  # rounding in label tools is not worth a line in the report


class UsableBox(NamedTuple):
    """xyxy in px inside the image (float32 values), and whether something had to be cut off."""

    xyxy_px: tuple[float, float, float, float]
    clipped: bool


def usable_box(bbox: object, width_px: int | None, height_px: int | None) -> UsableBox | str:
    """COCO's [x, y, width, height] as corners clipped to the image, or what is wrong with it in a few words."""
    if bbox is None or bbox == []:
        return "no bbox (a segmentation alone is not used)"
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
        return "bbox is not four numbers"
    x, y, width, height = (_as_float(value) for value in bbox)
    if not all(map(math.isfinite, (x, y, width, height))):
        return "bbox with NaN or infinity"
    if width <= 0 or height <= 0:
        return "bbox of zero or negative size"
    right, bottom = float(width_px or UNKNOWN_SIZE_PX), float(height_px or UNKNOWN_SIZE_PX)
    corners = (x, y, x + width, y + height)
    inside = (max(x, 0.0), max(y, 0.0), min(x + width, right), min(y + height, bottom))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return "bbox wholly outside its image"
    x1, y1, x2, y2 = np.array(inside, np.float32).tolist()
    if x1 >= x2 or y1 >= y2:
        return "bbox of zero or negative size"
    cut = max(abs(a - b) for a, b in zip(corners, inside, strict=True))
    return UsableBox((x1, y1, x2, y2), cut > CLIP_TOLERANCE_PX)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
