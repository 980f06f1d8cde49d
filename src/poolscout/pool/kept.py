"""What a listing has found so far, kept beside its table: one that is killed goes on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.pool.sources.base import SourceBatch, no_columns
from poolscout.tables.atomic import atomic_path, remove

_DIGEST_BYTES = hashlib.sha256().digest_size


class KeptBatches:
    """Checked batches of a source, each in a file of its own; the object is small and may be used by many threads.

    A file is the SHA-256 of what follows, and the batch's three tables as Arrow streams. One that is damaged is no
    loss: its batch is made again.

    Args:
        folder: holds the files; None: nothing is kept.
        made_from: digest of all that the batches depend on; files of anything else are removed.
    """

    def __init__(self, folder: Path | None = None, made_from: str = "") -> None:
        self._folder, self._made_from = folder, made_from
        if folder is not None and folder.is_dir():
            remove(*(file for file in folder.iterdir() if not file.name.startswith(made_from[:16])))

    def __call__(self, key: Any, make: Callable[[], SourceBatch]) -> SourceBatch:
        """The batch that was kept under `key` (whose text tells it from others), or that is made now, and kept."""
        if self._folder is None:
            return make()
        digest = hashlib.sha256(f"{self._made_from}\n{key}".encode("utf-8", "surrogateescape")).hexdigest()
        file = self._folder / f"{self._made_from[:16]}-{digest}"
        batch = _read(file)
        if batch is None:
            batch = make()
            with atomic_path(file) as temporary:
                temporary.write_bytes(_packed(batch))
        return batch

    def clear(self) -> None:
        """The listing is done: its table holds all this."""
        if self._folder is not None:
            remove(self._folder)


def table_digest(table: pa.Table) -> str:
    """SHA-256 of a table's columns and values; the same however it is cut into chunks."""
    return hashlib.sha256(_stream(table.combine_chunks())).hexdigest()


def _stream(*tables: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue()


def _packed(batch: SourceBatch) -> bytes:
    content = _stream(batch.images, batch.metadata, batch.rejected)
    return hashlib.sha256(content).digest() + content.to_pybytes()


def _read(file: Path) -> SourceBatch | None:
    if not file.exists():
        return None
    packed = file.read_bytes()
    digest, content = packed[:_DIGEST_BYTES], packed[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    source = pa.BufferReader(content)
    images, metadata, rejected = (pa.ipc.open_stream(source).read_all() for _ in range(3))
    # A stream does not tell how many rows a table without columns has.
    return SourceBatch(images, metadata if metadata.num_columns else no_columns(images.num_rows), rejected, True)
