"""Tar shards in WebDataset's layout: members that share their name up to the first dot are one sample.

Images become rows; the flat values of a sample's `.json` are metadata of its images. Nothing is unpacked: an image's
URI says where its bytes lie in the shard.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from poolscout.config import PoolConfig
from poolscout.engine.local import ThreadExecutor
from poolscout.errors import ConfigError, DataError
from poolscout.pool.decode import size_in_header
from poolscout.pool.names import UNSAFE, is_image_name, last_number, shown, unsafe_member
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.sources.base import (
    Keep,
    Rejected,
    Size,
    SourceBatch,
    batch_of,
    is_folder,
    metadata_table,
    uri_of,
)
from poolscout.pool.sources.folder import local_names, shown_entries
from poolscout.pool.storage import Storage
from poolscout.pool.tar import Member, TarDamage, members

_MOST_SIDECAR_BYTES = 1 << 20
_MOST_SHARDS = 1_000_000
_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}|\{([^{}]*,[^{}]*)\}")


def from_tar(config: PoolConfig, storage: Storage, keep: Keep) -> Iterator[SourceBatch]:
    """A batch a shard, several shards at a time; headers of the images are read along the way."""
    shards = shards_of(config.source, storage)
    n_workers = min(16, 4 * (os.cpu_count() or 1), len(shards))  # mostly waiting for storage
    max_pixels = config.max_pixels if config.check == "headers" else None

    def listed(shard: tuple[str, str]) -> SourceBatch:
        def key() -> tuple[str, ...]:
            return "shard", *shard, storage.state(shard[1])

        return keep(key, partial(_list_shard, shard, storage, max_pixels))

    yield from ThreadExecutor(n_workers).map(listed, shards)


def shards_of(source: Path | str, storage: Storage) -> list[tuple[str, str]]:
    """(name, URI) of each shard: one file, all `.tar` below a folder or prefix, or what braces stand for.

    Raises:
        DataError: a folder or prefix without any.
        ConfigError: braces that stand for too many.
    """
    text = str(source)
    expanded = expand_braces(text)
    if expanded != [text]:
        common = text[: text.index("{")].rpartition("/")[0] + "/"
        return [(one.removeprefix(common), one) for one in expanded]
    if not is_folder(source, storage):
        return [(PurePosixPath(text).name, text)]
    if isinstance(source, Path):
        names = [name for name in local_names(source) if name.lower().endswith(".tar")]
    else:
        names = [entry.name for entry in shown_entries(source, storage) if entry.name.lower().endswith(".tar")]
    if not names:
        raise DataError(
            f"pool.source: {source}: no tar shards", got="no file ending in .tar", expected="*.tar, not compressed",
            fix="check the path, or pool.format",
        )  # fmt: skip
    return [(name, uri_of(name, source)) for name in sorted(names)]


def expand_braces(text: str) -> list[str]:
    """`shard-{000..002}.tar` as its three names, `{a,b}` as both; a text without braces as it is.

    Raises:
        ConfigError: more than a million names.
    """
    parts, start, n = list[list[str]](), 0, 1
    for found in _RANGE.finditer(text):
        first, last, words = found.groups()
        n *= int(last) - int(first) + 1 if words is None else words.count(",") + 1
        if not 0 < n <= _MOST_SHARDS:
            raise ConfigError(
                f"pool.source: {text}: braces stand for {n} names", got=found[0],
                expected=f"1 to {_MOST_SHARDS}, the first number not above the last", fix="correct the numbers",
            )  # fmt: skip
        numbers = words.split(",") if words else [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
        parts += [[text[start : found.start()]], numbers]
        start = found.end()
    return ["".join(one) for one in product(*parts, [text[start:]])]


@dataclass
class _Shard:
    """What has been found in a shard so far; a later member of the same name counts, as for tar."""

    name: str
    uri: str
    images: dict[str, tuple[str, str, Size]] = field(default_factory=dict)  # member's name → key, URI, size
    sidecars: dict[str, dict[str, Any]] = field(default_factory=dict)  # key → flat values
    rejected: list[Rejected] = field(default_factory=list)

    def reject(self, name: str, reason: str, detail: str, uri: str = "") -> None:
        image_id = f"{self.name}/{name}" if name else self.name
        self.rejected.append((shown(image_id), uri or self.uri, reason, shown(detail)))

    def batch(self) -> SourceBatch:
        rows = [(f"{self.name}/{name}", name, *rest) for name, rest in self.images.items()]
        metadata = metadata_table([_guessed(name) | self.sidecars.get(key, {}) for _, name, key, _, _ in rows])
        sizes = [self._told(key) if size == (None, None) else size for _, _, key, _, size in rows]
        batch = batch_of([row[0] for row in rows], [row[3] for row in rows], sizes, metadata, self.rejected)
        return SourceBatch(batch.images, batch.metadata, batch.rejected, checked=True)

    def _told(self, key: str) -> Size:
        """The size that a sample's json tells, where headers are not read."""
        sides = [self.sidecars.get(key, {}).get(name) for name in ("width", "height")]
        width, height = (side if type(side) is int and 0 < side < 2**31 else None for side in sides)
        return width, height


def _list_shard(shard: tuple[str, str], storage: Storage, max_pixels: int | None) -> SourceBatch:
    """The images of a shard; damage ends the list and is a row of its own, named as the shard."""
    name, uri = shard
    found = _Shard(name[: -len(".tar")] if name.lower().endswith(".tar") else name, uri)
    try:
        n_bytes = storage.size(uri)
        with storage.open(uri) as file:
            for member in members(file, n_bytes):
                _add(found, file, member, max_pixels)
    except TarDamage as damage:
        found.reject("", "truncated" if "cut off" in str(damage) else "undecodable", str(damage))
    except RejectedImage as rejected:
        found.reject("", rejected.reason, rejected.detail)
    return found.batch()


def _add(found: _Shard, file: io.BufferedReader | io.BytesIO, member: Member, max_pixels: int | None) -> None:
    wrong = unsafe_member(member.name)
    if member.kind == "folder" or (wrong is None and _is_hidden(member.name)):
        return
    if wrong or member.kind != "file":
        found.reject(member.name, UNSAFE, wrong or f"a {member.kind}")
        return
    name = str(PurePosixPath(member.name))
    key, extension = _sample(name)
    if extension == "json":
        _add_sidecar(found, file, member, name, key)
    elif is_image_name(name):
        uri = f"{found.uri}#{member.offset}+{member.size}"
        try:
            size = (None, None) if max_pixels is None else _size(file, member, max_pixels)
        except RejectedImage as rejected:
            found.reject(name, rejected.reason, rejected.detail, uri)
            found.images.pop(name, None)
            return
        found.images[name] = (key, uri, size)


def _size(file: io.BufferedReader | io.BytesIO, member: Member, max_pixels: int) -> tuple[int, int]:
    window: Any = io.BufferedReader(_Window(file, member), 512)
    return size_in_header(window, max_pixels)


def _add_sidecar(found: _Shard, file: io.BufferedReader | io.BytesIO, member: Member, name: str, key: str) -> None:
    try:
        if member.size > _MOST_SIDECAR_BYTES:
            raise ValueError(f"{member.size} bytes, at most {_MOST_SIDECAR_BYTES} are read")
        file.seek(member.offset)
        values = json.loads(file.read(member.size).decode("utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError(f"a json {type(values).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        found.reject(name, "undecodable", f"its image is kept without metadata: {error}"[:200])
        return
    flat = {key: value for key, value in values.items() if isinstance(value, str | int | float | bool)}
    found.sidecars[key] = {_text(name): _text(v) if isinstance(v, str) else v for name, v in flat.items() if name}


def _sample(name: str) -> tuple[str, str]:
    """(key, extension) of a member: its folder and its name up to the first dot; all after it, in lower case."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return folder + slash + stem, extension.lower()


def _guessed(name: str) -> dict[str, Any]:
    """What a member's name says, as of a file in a folder: its folder is a sequence, its number a frame."""
    path = PurePosixPath(name)
    parent = str(path.parent)
    return {"sequence": None if parent == "." else parent, "frame": last_number(path.stem)}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")


class _Window(io.RawIOBase):
    """One member of a tar as a file of its own; reads exactly what it is asked for."""

    def __init__(self, file: io.BufferedReader | io.BytesIO, member: Member) -> None:
        self._file, self._member, self._at = file, member, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._member.size}[whence]
        if at < 0:
            raise OSError(f"seek to {at}")
        self._at = at
        return at

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._member.size - self._at))
        self._file.seek(self._member.offset + self._at)
        data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
