"""The images that may be picked: listing, checking, decoding."""

from poolscout.pool.decode import ImageReader, RejectedImage, decode_fitted, decode_image, file_state
from poolscout.pool.fit import FittedImage, fit_image
from poolscout.pool.listing import PoolListing, list_pool
from poolscout.pool.sources import find_images_root, image_files

__all__ = [
    "FittedImage", "ImageReader", "PoolListing", "RejectedImage", "decode_fitted", "decode_image", "file_state",
    "find_images_root", "fit_image", "image_files", "list_pool",
]  # fmt: skip
