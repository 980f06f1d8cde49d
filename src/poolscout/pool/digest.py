"""What tells whether a source has changed since it was listed, without reading its images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from poolscout.config import PoolConfig
from poolscout.pool.names import is_image_name
from poolscout.pool.sources import kind_of
from poolscout.pool.sources.annotated import annotated_images
from poolscout.pool.sources.folder import local_names, shown_entries
from poolscout.pool.sources.manifest import parts_of
from poolscout.pool.sources.shards import shards_of
from poolscout.pool.sources.videos import videos_of
from poolscout.pool.storage import Storage, states_of_files
from poolscout.tables.manifest import file_hash, fingerprint


def source_digest(config: PoolConfig, storage: Storage | None = None) -> str:
    """Of a json or list its bytes; of a folder its images' names and sizes; of tars, videos and objects their states.

    Raises:
        DataError: the source is missing, or a storage denies it.
    """
    storage = storage or Storage.of(config)
    kind, source = kind_of(config, storage), config.source
    if kind == "tar":
        return fingerprint([(name, storage.state(uri)) for name, uri in shards_of(source, storage)])
    if kind == "parquet":
        parts = parts_of(source, storage)
        return fingerprint([storage.state(str(p)) if isinstance(p, str) else file_hash(p) for p in parts])
    if kind == "folder":
        return _unordered(_files(config.images or source, storage))
    if kind == "video":
        return fingerprint([(name, storage.state(uri)) for name, uri in videos_of(source, storage)])
    if kind in ("yolo", "voc"):
        return fingerprint([(image.image_id, str(image.path)) for image in annotated_images(config)])
    return file_hash(source) if isinstance(source, Path) and source.is_file() else storage.state(str(source))


def files_digest(uris: pa.ChunkedArray) -> str:
    """Of images one after the other: where they are, and the state of their files."""
    digest, before = hashlib.sha256(b"["), b""
    state = states_of_files()
    for chunk in uris.chunks:
        for uri in chunk:
            digest.update(before + json.dumps([uri.as_py(), state(uri.as_py())]).encode())
            before = b", "
    digest.update(b"]")
    return digest.hexdigest()


def _files(root: Path | str, storage: Storage) -> Iterator[str]:
    if isinstance(root, Path):
        yield from (f"{name}\n{(root / name).stat().st_size}" for name in local_names(root) if is_image_name(name))
    else:
        entries = shown_entries(root, storage)
        yield from (f"{entry.name}\n{entry.size}\n{entry.state}" for entry in entries if is_image_name(entry.name))


def _unordered(lines: Iterator[str]) -> str:
    """A digest of lines in whatever order: the sum of their hashes, so that millions need not be held and sorted."""
    total = 0
    for line in lines:
        total += int.from_bytes(hashlib.sha256(line.encode("utf-8", "surrogateescape")).digest(), "big")
    return f"{total % 2**256:064x}"
