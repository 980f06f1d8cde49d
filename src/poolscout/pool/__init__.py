"""The images that may be picked: listing, checking, reading, decoding."""

from poolscout.pool.decode import decode_fitted, decode_image
from poolscout.pool.digest import files_digest, source_digest
from poolscout.pool.fit import FittedImage, fit_image
from poolscout.pool.limit import QuarantineLimit, check_listing
from poolscout.pool.listing import PoolListing, list_pool
from poolscout.pool.reader import ImageReader
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.sources import kind_of
from poolscout.pool.storage import Storage, container_of, file_state, is_plain_file, states_of_files
from poolscout.pool.uris import Uris

__all__ = [
    "FittedImage", "ImageReader", "PoolListing", "QuarantineLimit", "RejectedImage", "Storage", "Uris",
    "check_listing", "container_of", "decode_fitted", "decode_image", "file_state", "files_digest", "fit_image",
    "is_plain_file", "kind_of", "list_pool", "source_digest", "states_of_files",
]  # fmt: skip
