"""Where a pool can come from; whatever it is, its images come in batches of Arrow columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import pyarrow as pa

from poolscout.config import PoolConfig
from poolscout.config_room import is_url
from poolscout.errors import ConfigError, DataError
from poolscout.formats.annotations import tell_format
from poolscout.pool.names import is_image_name
from poolscout.pool.sources.annotated import from_annotations
from poolscout.pool.sources.base import Keep, SourceBatch, is_folder, keep_nothing
from poolscout.pool.sources.file_list import from_list
from poolscout.pool.sources.folder import from_folder
from poolscout.pool.sources.manifest import from_parquet
from poolscout.pool.sources.shards import expand_braces, from_tar
from poolscout.pool.sources.videos import from_videos
from poolscout.pool.storage import Storage
from poolscout.pool.video import VIDEO_SUFFIXES, is_video

__all__ = ["SourceBatch", "container_is_whole", "is_container", "is_lost_container", "kind_of", "read_source"]

Reader = Callable[[PoolConfig, Storage, Keep], Iterator[SourceBatch]]


def _at_once(read: Callable[[PoolConfig, Storage], Iterator[SourceBatch]]) -> Reader:
    """A source that is read quickly: what is slow are its images' headers, which are kept batch by batch."""
    return lambda config, storage, keep: read(config, storage)


_KINDS: dict[str, Reader] = {
    "coco": _at_once(from_annotations), "yolo": _at_once(from_annotations), "voc": _at_once(from_annotations),
    "folder": _at_once(from_folder), "list": _at_once(from_list), "parquet": _at_once(from_parquet),
    "tar": from_tar, "video": from_videos,
}  # fmt: skip
_KIND_OF_SUFFIX = {
    ".json": "coco", ".parquet": "parquet", ".pq": "parquet", ".txt": "list", ".list": "list", ".tar": "tar",
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
}  # fmt: skip
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LOOKED_AT = 1000  # names of a folder that tell what is in it


def read_source(config: PoolConfig, storage: Storage, keep: Keep = keep_nothing) -> Iterator[SourceBatch]:
    """What `config.source` names, a batch at a time; no image is opened, but for headers inside tar shards and videos.

    Args:
        keep: is asked for each shard or video by its name, and makes its batch or has it already.

    Raises:
        DataError: it is missing, cannot be read or is not what `config.format` says.
        ConfigError: `format: auto` cannot tell what it is.
    """
    return _KINDS[kind_of(config, storage)](config, storage, keep)


def kind_of(config: PoolConfig, storage: Storage) -> str:
    """The source's format: as configured, else as its name or what lies in it tells.

    Raises:
        DataError: nothing is there, or it is compressed.
        ConfigError: it cannot be told.
    """
    source = config.source
    if str(source).lower().endswith(_COMPRESSED):
        raise DataError(
            f"pool.source: {source} is compressed", got=PurePosixPath(str(source)).name, expected="a plain .tar",
            fix="unpack it to a plain .tar: images inside are compressed already, and can then be read in place",
        )  # fmt: skip
    _check_there(source, storage)
    if config.format != "auto":
        return config.format
    suffix = PurePosixPath(str(source)).suffix.lower()
    found: str | None = tell_format(source) if isinstance(source, Path) else None
    if found is None and not (isinstance(source, Path) and source.is_dir()):
        found = _KIND_OF_SUFFIX.get(suffix)
    if found is None and is_folder(source, storage):
        found = _of_folder(source, storage)
    if found is None:
        name = PurePosixPath(str(source)).name
        raise ConfigError(
            f"pool.source: cannot tell what {name} is", got=f"a file ending in {suffix!r}",
            expected="a folder, .json, .parquet, .txt, .tar", fix=f"set pool.format to {', '.join(_KINDS)}",
        )  # fmt: skip
    return found


def is_container(uri: str) -> bool:
    """Whether a URI names a tar shard or a video, and not an image in it."""
    return "#" not in uri and (uri.lower().endswith(".tar") or is_video(PurePosixPath(uri).name))


def is_lost_container(image_id: str, uri: str) -> bool:
    """Whether a row of the quarantine is about a shard or video as a whole, and not about something in it."""
    whole = uri[: -len(".tar")] if uri.lower().endswith(".tar") else uri
    return is_container(uri) and whole.endswith(image_id)


def container_is_whole(uri: str, config: PoolConfig, storage: Storage) -> bool:
    """Whether a shard or video can be listed to its end now."""
    one = config.model_copy(update={"source": uri if is_url(uri) else Path(uri), "format": "auto"})
    try:
        rejected = pa.concat_tables([batch.rejected for batch in read_source(one, storage)])
    except DataError:
        return False
    return uri not in rejected["uri"].to_pylist()


def _check_there(source: Path | str, storage: Storage) -> None:
    is_there = source.exists() if isinstance(source, Path) else PurePosixPath(source).suffix or storage.exists(source)
    if is_there or expand_braces(str(source)) != [str(source)]:
        return
    raise DataError(
        f"pool.source: {source} is not there", got="no such file or folder",
        expected="a COCO json, a Parquet manifest, a folder of images, a list of files, or tar shards",
        fix="check the path; relative ones start at the config file's folder",
    )  # fmt: skip


def _of_folder(source: Path | str, storage: Storage) -> str:
    """What the first names in a folder or below a prefix tell; images before all else."""
    if isinstance(source, Path):
        names = (name for _, _, found in os.walk(source) for name in found)
    else:
        names = (entry.name for page in storage.entries(source) for entry in page)
    first = list(islice(names, _LOOKED_AT))
    if not any(map(is_image_name, first)):
        for suffix, kind in ((".tar", "tar"), (".parquet", "parquet")):
            if any(name.lower().endswith(suffix) for name in first):
                return kind
        if any(map(is_video, first)):
            return "video"
    return "folder"
