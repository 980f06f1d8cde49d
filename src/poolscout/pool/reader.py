"""Images of a pool by their ids."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import islice

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from poolscout.errors import DataError, nearest
from poolscout.pool.decode import decode_fitted, decode_image
from poolscout.pool.fit import FittedImage, fit_image
from poolscout.pool.storage import Storage, frame_place
from poolscout.pool.video import read_frame

_GUESSED_AMONG = 10_000  # ids that a wrong one is compared with


class ImageReader:
    """Reads and decodes images by image_id; safe to call from several threads, and to send to other processes.

    Args:
        uris: image_id → URI; see `Storage`.
        max_pixels: larger images are rejected before they are decoded.
        storage: reads the bytes.
    """

    def __init__(self, uris: Mapping[str, str], max_pixels: int, storage: Storage | None = None) -> None:
        self.uris, self.max_pixels, self.storage = uris, max_pixels, storage or Storage()

    def only(self, image_ids: Sequence[str]) -> ImageReader:
        """A reader that knows these images alone: small enough to be sent along with them."""
        narrow = copy(self)
        narrow.uris = {image_id: self.uris[image_id] for image_id in image_ids}
        return narrow

    def read(self, image_id: str) -> UInt8[np.ndarray, "h w 3"]:
        """The upright RGB image.

        Raises:
            RejectedImage: missing, unreadable, empty, undecodable, oversized or truncated.
            DataError: an image_id the reader does not know, or a storage that denies access.
        """
        uri = self._uri(image_id)
        if _is_frame(uri):
            return read_frame(uri, storage=self.storage, max_pixels=self.max_pixels)
        return decode_image(self.storage.read_bytes(uri), max_pixels=self.max_pixels)

    def read_fitted(self, image_id: str, height: int, width: int) -> FittedImage:
        """The image as the detectors see it; a JPEG much larger than their input is not decoded whole.

        Raises:
            RejectedImage, DataError: as `read`.
        """
        uri = self._uri(image_id)
        if _is_frame(uri):
            return fit_image(read_frame(uri, storage=self.storage, max_pixels=self.max_pixels), height, width)
        return decode_fitted(self.storage.read_bytes(uri), height, width, max_pixels=self.max_pixels)

    def read_bytes(self, image_id: str) -> bytes:
        """The image as a file's content: as it is stored; a video's frame as PNG.

        Raises:
            RejectedImage, DataError: as `read`.
        """
        uri = self._uri(image_id)
        if not _is_frame(uri):
            return self.storage.read_bytes(uri)
        file = io.BytesIO()
        Image.fromarray(self.read(image_id)).save(file, "PNG")
        return file.getvalue()

    def _uri(self, image_id: str) -> str:
        try:
            return self.uris[image_id]
        except KeyError:
            known = islice(self.uris, _GUESSED_AMONG)
            raise DataError(
                f"no image {image_id!r}", got=image_id, expected="an image_id of the pool",
                fix=nearest(image_id, known) or None,
            ) from None  # fmt: skip


def _is_frame(uri: str) -> bool:
    return frame_place(uri)[1] is not None
