"""The images of annotation sources (COCO, YOLO, Pascal VOC); of their labels nothing is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from poolscout.config import PoolConfig
from poolscout.errors import DataError
from poolscout.formats.annotations import annotation_images
from poolscout.formats.content import SourceImage
from poolscout.pool.sources.base import SourceBatch, batch_of, metadata_table, uri_of
from poolscout.pool.storage import Storage


def from_annotations(config: PoolConfig, storage: Storage) -> Iterator[SourceBatch]:
    """One batch: such a source is in memory as a whole anyway."""
    del storage  # annotations are files of this machine; images are read later
    images, root = annotated_images(config), config.images
    uris = [str(image.path) if isinstance(root, Path | None) else uri_of(image.image_id, root) for image in images]
    metadata = metadata_table([image.metadata for image in images])
    yield batch_of([image.image_id for image in images], uris, [(i.width, i.height) for i in images], metadata)


def annotated_images(config: PoolConfig) -> list[SourceImage]:
    """What the source lists.

    Raises:
        DataError: it is at a URL, or no such source.
    """
    if not isinstance(config.source, Path):
        raise DataError(
            f"pool.source: {config.source}: annotations are read from this machine", got="a URL", expected="a path",
            fix="copy them here; the images may stay: set pool.images to their prefix",
        )  # fmt: skip
    return annotation_images(config.source, config.images if isinstance(config.images, Path) else None)
