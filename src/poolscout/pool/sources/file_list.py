"""A text file with a path or URI a line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

from poolscout.config import PoolConfig
from poolscout.errors import DataError
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.sources.base import BATCH_ROWS, SourceBatch, named_batch, parent_of
from poolscout.pool.storage import Storage


def from_list(config: PoolConfig, storage: Storage) -> Iterator[SourceBatch]:
    """Batches of the lines, as they are written; relative ones start at `images` or the list's own folder."""
    root = config.images or parent_of(config.source)
    try:
        with storage.open(str(config.source)) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
            lines = (line for line in (line.rstrip("\r\n") for line in text) if line.strip())
            while batch := list(islice(lines, BATCH_ROWS)):
                yield named_batch(batch, root)
    except RejectedImage as rejected:
        raise DataError(
            f"pool.source: {config.source} cannot be read", got=f"{rejected.reason}: {rejected.detail}",
            expected="a text file with the path or URI of an image a line", fix="check the path",
        ) from rejected  # fmt: skip
