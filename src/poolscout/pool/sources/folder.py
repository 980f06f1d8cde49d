"""Images in a folder of this machine or below a prefix of an object store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from poolscout.config import PoolConfig
from poolscout.errors import DataError
from poolscout.pool.names import is_image_name
from poolscout.pool.prefix import Entry
from poolscout.pool.sources.base import BATCH_ROWS, SourceBatch, named_batch
from poolscout.pool.storage import Storage


def from_folder(config: PoolConfig, storage: Storage) -> Iterator[SourceBatch]:
    """Batches of the images below a folder or prefix, in the order in which the storage gives them."""
    root = config.images or config.source
    if isinstance(root, Path) and not root.is_dir():
        raise DataError(
            f"pool.source: {root} is not a folder", got="a file", expected="a folder of images",
            fix="set pool.format to what it is",
        )  # fmt: skip
    names = image_names(root, storage)
    while batch := list(islice(names, BATCH_ROWS)):
        yield named_batch(batch, root)


def image_names(root: Path | str, storage: Storage) -> Iterator[str]:
    """Names of the images below `root`, relative to it, with `/`."""
    if isinstance(root, Path):
        yield from (name for name in local_names(root) if is_image_name(name))
    else:
        yield from (entry.name for entry in shown_entries(root, storage) if is_image_name(entry.name))


def shown_entries(url: str, storage: Storage) -> Iterator[Entry]:
    """Files below a prefix, but for those in hidden folders."""
    for page in storage.entries(url):
        yield from (entry for entry in page if not _is_hidden(PurePosixPath(entry.name).parent.parts))


def local_names(root: Path) -> Iterator[str]:
    """Files below a folder; hidden files and folders, runs, and what links to folders show are left out."""
    start = len(str(root).rstrip(os.sep)) + 1
    for folder, subfolders, names in os.walk(root):
        if {"run.yaml", "versions.json"} <= set(names):  # a run of ours, with links to images it asks labels for
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        below = folder[start:].replace(os.sep, "/")
        for name in names:
            if not name.startswith("."):
                yield f"{below}/{name}" if below else name


def _is_hidden(folders: Iterable[str]) -> bool:
    return any(folder.startswith(".") for folder in folders)
