"""Images to decode, written where a test needs them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def corners(width: int = 48, height: int = 32) -> np.ndarray:
    """uint8 [height, width, 3]: black with a red, a green and a blue corner (top left, top right, bottom left)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:8, :8, 0] = pixels[:8, -8:, 1] = pixels[-8:, :8, 2] = 255
    return pixels


def encoded(pixels: np.ndarray | Image.Image, form: str = "PNG", orientation: int | None = None, **options) -> bytes:
    image, file = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels), io.BytesIO()
    if orientation is not None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    image.save(file, form, **options)
    return file.getvalue()


def save(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(corners()) if data is None else data)
    return path
