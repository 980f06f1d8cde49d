"""Frames of video files: one file, or all below a folder or prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from poolscout.config import PoolConfig
from poolscout.engine.local import ThreadExecutor
from poolscout.errors import DataError
from poolscout.pool.names import UNSAFE, leads_out, shown
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.sources.base import IMAGES, Keep, SourceBatch, is_folder, no_columns, rejected_table, uri_of
from poolscout.pool.sources.folder import local_names, shown_entries
from poolscout.pool.storage import Storage
from poolscout.pool.video import is_video, list_video


def from_videos(config: PoolConfig, storage: Storage, keep: Keep) -> Iterator[SourceBatch]:
    """A batch a video: every `config.every`-th frame."""
    videos = videos_of(config.source, storage)

    def listed(video: tuple[str, str]) -> SourceBatch:
        return keep(lambda: ("video", *video, storage.state(video[1])), partial(_list_video, video, config, storage))

    yield from ThreadExecutor(min(os.cpu_count() or 1, len(videos))).map(listed, videos)


def videos_of(source: Path | str, storage: Storage) -> list[tuple[str, str]]:
    """(name, URI) of each video.

    Raises:
        DataError: a folder or prefix without any.
    """
    if not is_folder(source, storage):
        return [(PurePosixPath(str(source)).name, str(source))]
    if isinstance(source, Path):
        names = [name for name in local_names(source) if is_video(name)]
    else:
        names = [entry.name for entry in shown_entries(source, storage) if is_video(entry.name)]
    if not names:
        raise DataError(
            f"pool.source: {source}: no videos", got="no file that ends as a video does", expected=".mp4, .mkv, .mov …",
            fix="check the path, or pool.format",
        )  # fmt: skip
    return [(name, uri_of(name, source)) for name in sorted(names)]


def _list_video(video: tuple[str, str], config: PoolConfig, storage: Storage) -> SourceBatch:
    name, uri = video
    try:
        if wrong := leads_out(name):
            raise RejectedImage(UNSAFE, wrong)
        found = list_video(uri, config.every, name=name, storage=storage, max_pixels=config.max_pixels)
    except RejectedImage as rejected:
        row = (shown(name), shown(uri), rejected.reason, rejected.detail)
        return SourceBatch(IMAGES.empty_table(), no_columns(0), rejected_table([row]))
    missing = [(name, uri, found.missing.reason, found.missing.detail)] if found.missing else []
    metadata = found.frames.drop_columns(IMAGES.names)
    return SourceBatch(found.frames.select(IMAGES.names), metadata, rejected_table(missing), checked=True)
