"""Bytes to upright RGB: the one way every stage gets its pixels.

Pillow decodes. Its wheels bring their own libjpeg-turbo, so the same bytes give the same pixels on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from poolscout.errors import DataError, nearest

# Only plain raster formats: Pillow would hand others (EPS) to outside programs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

_Turn = Image.Transpose
_UPRIGHT = {
    2: _Turn.FLIP_LEFT_RIGHT, 3: _Turn.ROTATE_180, 4: _Turn.FLIP_TOP_BOTTOM, 5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270, 7: _Turn.TRANSVERSE, 8: _Turn.ROTATE_90,
}  # fmt: skip
_SIDEWAYS = (5, 6, 7, 8)


class RejectedImage(DataError):
    """An image that cannot be used; a stage catches it and quarantines the image.

    Attributes:
        reason: missing, unreadable, empty, undecodable, oversized, truncated or size differs.
        detail: the decoder's words, or the sizes.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"image rejected: {reason}", got=detail, fix="repair or remove the image")
        self.reason, self.detail = reason, detail


class ImageReader:
    """Reads and decodes images by image_id; safe to call from several threads.

    Args:
        uris: image_id → local path.
        max_pixels: larger images are rejected before they are decoded.
    """

    def __init__(self, uris: Mapping[str, str], max_pixels: int) -> None:
        self.uris, self.max_pixels = uris, max_pixels

    def read(self, image_id: str) -> UInt8[np.ndarray, "h w 3"]:
        """The upright RGB image.

        Raises:
            RejectedImage: missing, unreadable, empty, undecodable, oversized or truncated.
            DataError: an image_id the reader does not know.
        """
        if image_id not in self.uris:
            raise DataError(
                f"no image {image_id!r}", got=image_id, expected="an image_id of the pool",
                fix=nearest(image_id, self.uris) or None,
            )  # fmt: skip
        with open_image_file(Path(self.uris[image_id])) as file:
            data = file.read()
        return decode_image(data, max_pixels=self.max_pixels)


def decode_image(data: bytes, *, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """Decode to RGB with the EXIF orientation applied.

    16-bit grey keeps its upper 8 bits; alpha is left out; of several frames the first is taken.

    Raises:
        RejectedImage: empty, undecodable, oversized (refused from the header alone) or truncated.
    """
    if not data:
        raise RejectedImage("empty", "0 bytes")
    image = _open(io.BytesIO(data), max_pixels)
    orientation = _orientation(image)
    try:
        image.load()
        rgb = _to_rgb(image)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise RejectedImage("truncated" if "truncat" in str(error).lower() else "undecodable", _words(error)) from error
    # A copy: Pillow's own buffer is read-only, which torch warns about.
    return np.array(rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb)


def upright_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height) in px that `decode_image` will give, from the header alone.

    Raises:
        RejectedImage: missing, unreadable, empty, undecodable or oversized.
    """
    with open_image_file(path) as file:
        if not file.read(1):
            raise RejectedImage("empty", "0 bytes")
        file.seek(0)
        image = _open(file, max_pixels)
        width, height = image.size
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def open_image_file(path: Path) -> io.BufferedReader:
    """The file at `path`, opened for reading.

    Raises:
        RejectedImage: missing or unreadable.
    """
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise RejectedImage("missing", f"no file at {path}") from error
    except OSError as error:
        raise RejectedImage("unreadable", error.strerror or str(error)) from error


def _open(file: io.BufferedReader | io.BytesIO, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RejectedImage("oversized", _words(error)) from error
    except Image.UnidentifiedImageError as error:
        raise RejectedImage("undecodable", f"not one of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on garbled headers
        raise RejectedImage("undecodable", _words(error)) from error
    width, height = image.size
    if width * height > max_pixels:
        raise RejectedImage("oversized", f"{width}×{height} = {width * height} pixels, at most {max_pixels} allowed")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation still to be applied, read without decoding."""
    if image.format == "TIFF":
        return 1  # Pillow applies it while loading, and gives the upright size before
    try:
        # The base class's method: PNG's own decodes the whole image in search of a late chunk.
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF does not spoil the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}) have no agreed range; save as 8 or 16 bit")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
