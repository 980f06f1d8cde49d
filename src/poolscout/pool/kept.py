"""What a listing has found so far, kept beside its table: one that is killed goes on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.pool.sources.base import SourceBatch, no_columns
from poolscout.tables.atomic import atomic_path, remove

_PASSING = pa.array(["missing", "unreadable"])  # reasons that the next attempt may not meet
_DIGEST_BYTES = hashlib.sha256().digest_size


class KeptBatches:
    """Checked batches of a source, each in a file of its own; the object is small and may be used by many threads.

    A file is the SHA-256 of what follows, and the batch's three tables as Arrow streams. One that is damaged is no
    loss: its batch is made again. A batch of which something could not be read is not kept: it may be there next time.

    Args:
        folder: holds the files; None: nothing is kept.
        settings: digest of the settings that the batches depend on.
        source: digest of the state of the whole source, for batches that do not know their own.
    """

    def __init__(self, folder: Path | None = None, settings: str = "", source: str = "") -> None:
        self._folder, self._settings, self.source = folder, settings, source

    def __call__(self, key: Callable[[], Any], make: Callable[[], SourceBatch]) -> SourceBatch:
        """The batch that was kept under the text of `key()`, or that is made now, and kept.

        Args:
            key: what the batch is of, and the state that is in.
            make: reads and checks it.
        """
        if self._folder is None:
            return make()
        text = f"{self._settings}\n{key()}"
        file = self._folder / hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        batch = _read(file)
        if batch is None:
            batch = make()
            if not pc.any(pc.is_in(batch.rejected["reason"], value_set=_PASSING)).as_py():
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
