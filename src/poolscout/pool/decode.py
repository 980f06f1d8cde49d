"""Bytes to upright RGB, whole or fitted into a detector's input: the one way every stage gets its pixels.

Pillow decodes. Its wheels bring their own libjpeg-turbo, so the same bytes give the same pixels on every machine.
"""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from poolscout.errors import PoolscoutError
from poolscout.pool.fit import FittedImage, fit_image, fitted_size
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.storage import Storage

# Only plain raster formats: Pillow would hand others (EPS) to outside programs.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

_Turn = Image.Transpose
_UPRIGHT = {
    2: _Turn.FLIP_LEFT_RIGHT, 3: _Turn.ROTATE_180, 4: _Turn.FLIP_TOP_BOTTOM, 5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270, 7: _Turn.TRANSVERSE, 8: _Turn.ROTATE_90,
}  # fmt: skip
_SIDEWAYS = (5, 6, 7, 8)


def decode_image(data: bytes, *, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """Decode to RGB with the EXIF orientation applied.

    16-bit grey keeps its upper 8 bits; alpha is left out; of several frames the first is taken.

    Raises:
        RejectedImage: empty, undecodable, oversized (refused from the header alone) or truncated.
    """
    image = _open_bytes(data, max_pixels)
    return _upright(image, _orientation(image))


def decode_fitted(data: bytes, height: int, width: int, *, max_pixels: int) -> FittedImage:
    """Decode and fit into height × width, as `fit_image` does.

    A JPEG that is at least twice as large as needed is decoded at 1/2, 1/4 or 1/8 of its size, which libjpeg does by
    leaving out frequencies that the smaller picture cannot show; never below the size it is fitted to.

    Raises:
        RejectedImage: as `decode_image`.
    """
    image = _open_bytes(data, max_pixels)
    orientation = _orientation(image)
    image_width, image_height = image.size[::-1] if orientation in _SIDEWAYS else image.size
    valid_height, valid_width = fitted_size(image_height, image_width, height, width)
    shrunk = 1
    # A turned image would have its incomplete last block at the other side.
    if orientation not in _UPRIGHT or not (image_height % 8 or image_width % 8):
        raw_width = image.size[0]
        least = (valid_height, valid_width) if orientation in _SIDEWAYS else (valid_width, valid_height)
        drafted = image.draft(None, least)  # None: the mode stays
        if drafted is not None:  # a JPEG
            shrunk = round(raw_width / drafted[1][2])
    return fit_image(_upright(image, orientation), height, width, (image_height, image_width), shrunk)


def _open_bytes(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise RejectedImage("empty", "0 bytes")
    return _open(io.BytesIO(data), max_pixels)


def _upright(image: Image.Image, orientation: int) -> UInt8[np.ndarray, "h w 3"]:
    try:
        image.load()
        rgb = _to_rgb(image)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise RejectedImage("truncated" if "truncat" in str(error).lower() else "undecodable", _words(error)) from error
    # A copy: Pillow's own buffer is read-only, which torch warns about.
    return np.array(rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb)


def upright_size(uri: str, max_pixels: int, storage: Storage) -> tuple[int, int]:
    """(width, height) in px that `decode_image` will give, from the header alone.

    Raises:
        RejectedImage: missing, unreadable, empty, undecodable or oversized.
        DataError: a storage denies access.
    """
    with storage.open(uri) as file:
        return size_in_header(file, max_pixels)


def size_in_header(file: io.BufferedReader | io.BytesIO, max_pixels: int) -> tuple[int, int]:
    """(width, height) in px of the upright image that an opened file holds; no more than its header is read.

    Raises:
        RejectedImage: empty, undecodable or oversized.
    """
    if not file.read(1):
        raise RejectedImage("empty", "0 bytes")
    file.seek(0)
    image = _open(file, max_pixels)
    width, height = image.size
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def _open(file: io.BufferedReader | io.BytesIO, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except PoolscoutError:  # of the storage, while the header was read
        raise
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
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    except PoolscoutError:
        raise
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
