"""One door for bytes: files of this machine, objects at any URL that fsspec knows, and members of tar shards.

A URI is a local path, a URL (`s3://bucket/key`, `https://…`, `memory://…`), or either of them with a place in it: of a
tar's member, in bytes, `shard.tar#OFFSET+SIZE`; of a video's frame, `drive.mp4#frame=NUMBER`.
"""

from __future__ import annotations

import io
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from poolscout.config import PoolConfig
from poolscout.config_room import is_url
from poolscout.errors import CapabilityError, ConfigError, DataError
from poolscout.pool.prefix import Entry, pages, version_of
from poolscout.pool.ranged import RangedFile
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.trouble import Trouble, is_past_the_end, trouble_of, words

Result = TypeVar("Result")

_MEMBER = re.compile(r"(?s)(.+\.tar)#([0-9]{1,18})\+([0-9]{1,18})", re.IGNORECASE)
_FRAME = re.compile(r"(?s)(.+)#frame=([0-9]{1,18})")
_EXTRAS = {"s3": "s3", "s3a": "s3"}  # protocol → the extra that brings it
_HTTP, _WHOLE = ("http://", "https://"), 200  # 206 would be a part
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0
_KEPT_STATES = 1000

# One for each process and setting: the sessions inside are not to be used after a fork.
_filesystems: dict[tuple[int, str, str], Any] = {}


@dataclass(frozen=True)
class Storage:
    """Reads bytes; safe in several threads, and after pickling in other processes.

    Attributes:
        options: for each protocol (`s3`, `https`), what its fsspec filesystem is made with.
        tries: how often an object is asked for before a passing trouble (busy, timeout, broken connection) counts.
        sleep: waits that many seconds between two tries.
        received: told the bytes of each answer from another machine, from any thread; a lost answer is not counted,
            and neither are the names that a prefix lists.
    """

    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tries: int = 5
    sleep: Callable[[float], object] = time.sleep
    received: Callable[[int], object] | None = None

    @classmethod
    def of(cls, config: PoolConfig) -> Storage:
        """As a pool's settings say."""
        return cls(config.storage_options, config.retries)

    def read_bytes(self, uri: str) -> bytes:
        """All bytes of an image, in one request.

        Raises:
            RejectedImage: missing; unreadable, also when every try met a busy or broken storage; truncated.
            DataError: access is denied.
            CapabilityError: a package that the protocol needs is not installed.
            ConfigError: no such protocol, or options it does not take.
        """
        container, place = member_place(uri)
        if place is not None:
            offset, size = place
            data = self.read_range(container, offset, offset + size)
            if len(data) < size:
                raise RejectedImage("truncated", f"{len(data)} of {size} bytes are in {container}")
            return data
        if is_url(container):
            return self._retried(container, lambda fs, path: self._count(container, bytes(fs.cat_file(path))))
        return self._read_local(container, lambda file: file.read())

    def read_range(self, uri: str, start: int, end: int) -> bytes:
        """Bytes start to end (exclusive) of a file or object; fewer where it ends before.

        Raises:
            as `read_bytes`.
        """
        if end <= start:
            return b""
        if not is_url(uri):
            return self._read_local(uri, lambda file: file.read(end - start) if file.seek(start) == start else b"")

        def read(fs: Any, path: str) -> bytes:
            statuses = list[int]()

            async def note_status(response: Any) -> None:
                statuses.append(response.status)

            noting = {"raise_for_status": note_status} if uri.lower().startswith(_HTTP) else {}
            try:
                data = self._count(uri, bytes(fs.cat_file(path, start=start, end=end, **noting)))
            except Exception as error:
                if is_past_the_end(error):
                    return b""
                raise
            # A server may ignore the range and send the whole, which can be shorter than what was asked for.
            return data[start:end] if statuses == [_WHOLE] or len(data) > end - start else data

        return self._retried(uri, read)

    def open(self, uri: str) -> io.BufferedReader | io.BytesIO:
        """A file to read and seek in, which reads little more than it is asked for, in blocks.

        Raises:
            RejectedImage: missing or unreadable, when it is read.
        """
        container, place = member_place(uri)
        if place is not None and not is_url(container):
            return io.BytesIO(self.read_bytes(uri))
        return self._ranged(container, *(place or (0, None)))

    def _ranged(self, uri: str, offset: int, size: int | None) -> io.BufferedReader | io.BytesIO:
        def read(start: int, end: int) -> bytes:
            return self.read_range(uri, offset + start, offset + end)

        return io.BufferedReader(RangedFile(read, lambda: self.size(uri) if size is None else size), 8192)

    def size(self, uri: str) -> int:
        """Bytes of a file or object.

        Raises:
            as `read_bytes`.
        """
        if is_url(uri):
            return self._retried(uri, lambda fs, path: int(fs.info(path)["size"]))
        return self._read_local(uri, lambda file: os.fstat(file.fileno()).st_size)

    def entries(self, url: str) -> Iterator[list[Entry]]:
        """What lies below a prefix, at any depth, some hundreds at a time; nothing when there is none.

        Raises:
            DataError: it cannot be listed, or access is denied.
        """
        return pages(url, self.answered)

    def state(self, uri: str) -> str:
        """What tells this version of a file or object from an earlier one: size, and ETag or time of the last change.

        Raises:
            as `answered`, but for a missing one, whose state is `missing`.
        """
        if not is_url(uri):
            state = file_state(uri)
            return "missing" if state is None else "{} bytes, changed at {} ns".format(*state)
        if not self.exists(uri):
            return "missing"
        info = self.answered(uri, lambda fs, path: fs.info(path))
        return f"{info.get('size')} bytes, {version_of(info)}"

    def exists(self, url: str) -> bool:
        """Whether an object lies there, or anything below it as a prefix.

        Raises:
            DataError: the storage does not answer, or access is denied.
        """
        return self.answered(url, lambda fs, path: bool(fs.exists(path)))

    def answered(self, uri: str, ask: Callable[[Any, str], Result]) -> Result:
        """`ask(filesystem, path)`, retried, for what a run cannot go on without.

        Raises:
            DataError: missing, denied, or no answer after all tries.
        """
        try:
            return self._retried(uri, ask)
        except RejectedImage as rejected:
            raise DataError(
                f"{uri}: {rejected.reason}", got=rejected.detail, expected="an object that can be read",
                fix="check the address, the endpoint (AWS_ENDPOINT_URL) and the network, and start again",
            ) from rejected  # fmt: skip

    def _count(self, uri: str, data: bytes) -> bytes:
        if self.received is not None and is_elsewhere(uri):
            self.received(len(data))
        return data

    def _retried(self, uri: str, ask: Callable[[Any, str], Result]) -> Result:
        fs, path = self._filesystem(uri)
        try:
            return self._patiently(lambda: ask(fs, path))
        except (TypeError, AttributeError) as error:  # raised late where options are used late
            raise _unfit(uri, error) from error
        except Exception as error:  # each protocol has its own exceptions
            trouble, last = trouble_of(error), error
        if trouble is Trouble.MISSING:
            raise RejectedImage("missing", f"no object at {uri}") from last
        if trouble is Trouble.DENIED:
            raise DataError(
                f"{uri}: access is denied", got=words(last), expected="credentials that may list and read it",
                fix="set them as for any tool of this storage (AWS_ACCESS_KEY_ID …, AWS_PROFILE, an instance's role), "
                "or pool.storage_options: {s3: {anon: true}} for a public bucket",
            ) from last  # fmt: skip
        raise self._unreadable(last, words(last)) from last

    def _read_local(self, path: str, ask: Callable[[io.BufferedReader], Result]) -> Result:
        """`ask(file)`, retried: the storage behind a mounted folder has passing troubles too."""

        def opened() -> Result:
            with Path(path).open("rb") as file:
                return ask(file)

        try:
            return self._patiently(opened)
        except FileNotFoundError as error:
            raise RejectedImage("missing", f"no file at {path}") from error
        except (OSError, ValueError) as error:
            raise self._unreadable(error, getattr(error, "strerror", None) or str(error)) from error

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """What `ask` gives; asked again after a wait while its trouble is a passing one, then that is raised."""
        for attempt in count():
            try:
                return ask()
            except Exception as error:
                if attempt + 1 >= self.tries or trouble_of(error) is not Trouble.PASSING:
                    raise
            longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
            self.sleep(longest * random.uniform(0.5, 1))  # so that workers do not come back all at once
        raise AssertionError("count() ends")

    def _unreadable(self, error: Exception, told: str) -> RejectedImage:
        tried = f"after {self.tries} tries: " if trouble_of(error) is Trouble.PASSING else ""
        return RejectedImage("unreadable", f"{tried}{told}")

    def _filesystem(self, uri: str) -> tuple[Any, str]:
        protocol = uri.partition("://")[0].lower()
        options = dict(self.options.get(protocol, {}))
        key = (os.getpid(), protocol, repr(sorted(options.items())))
        fs = _filesystems.get(key)
        if fs is None:
            fs = _filesystems.setdefault(key, _new_filesystem(protocol, options))
        return fs, fs._strip_protocol(uri)


def is_elsewhere(uri: str) -> bool:
    """Whether reading it takes the network."""
    return is_url(uri) and not uri.lower().startswith(("file:", "memory:"))


def member_place(uri: str) -> tuple[str, tuple[int, int] | None]:
    """(container, (offset, size) in bytes) of a tar member's URI; (uri, None) of any other."""
    found = _MEMBER.fullmatch(uri)
    return (found[1], (int(found[2]), int(found[3]))) if found else (uri, None)


def frame_place(uri: str) -> tuple[str, int | None]:
    """(video, frame number) of a frame's URI; (uri, None) of any other."""
    found = _FRAME.fullmatch(uri)
    return (found[1], int(found[2])) if found else (uri, None)


def container_of(uri: str) -> str:
    """The file or object that an image lies in: a member's tar, a frame's video; of other images themselves."""
    return frame_place(member_place(uri)[0])[0]


def is_plain_file(uri: str) -> bool:
    """Whether a URI is the path of an image file on this machine, which other programs can open too."""
    return not is_url(uri) and container_of(uri) == uri


def file_state(uri: str) -> tuple[int, int] | None:
    """(bytes, time of the last change in ns) of an image's file: what tells a repaired or replaced image.

    Of a tar member its tar's, of a frame its video's. None without a file, and for objects at a URL: asking for each
    would cost a request an image; that they have changed is seen when the pool is listed.
    """
    container = container_of(uri)
    if is_url(container):
        return None
    try:
        found = Path(container).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def states_of_files() -> Callable[[str], tuple[int, int] | None]:
    """`file_state` for one pass over a pool: a tar or video is asked once, not for each image in it."""
    state = lru_cache(_KEPT_STATES)(file_state)
    return lambda uri: state(container_of(uri))


def _new_filesystem(protocol: str, options: dict[str, Any]) -> Any:
    import fsspec

    if protocol in _EXTRAS:
        # This module retries; beneath it nobody does. A request an object: images are small, and many are read at once.
        config = {"retries": {"total_max_attempts": 1}} | dict(options.get("config_kwargs", {}))
        options = {"max_concurrency": 1, **options, "config_kwargs": config}
    try:
        fs = fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        raise CapabilityError(
            f"{protocol}:// needs a package that is not installed", got=str(error),
            fix=f"pip install 'poolscout[{extra}]'" if extra else "install the package that it names",
        ) from error  # fmt: skip
    except ValueError as error:
        raise ConfigError(
            f"{protocol}:// cannot be read", got=str(error),
            expected="a protocol that fsspec knows, e.g. s3, https, gs", fix="check the address",
        ) from error  # fmt: skip
    except TypeError as error:
        raise _unfit(f"{protocol}://", error) from error
    if protocol in _EXTRAS:
        fs.retries = 1
    return fs


def _unfit(url: str, error: Exception) -> ConfigError:
    protocol = url.partition("://")[0].lower()
    return ConfigError(
        f"pool.storage_options.{protocol} does not fit", got=words(error),
        expected=f"what the fsspec filesystem of {protocol} takes", fix="check the options' names and values",
    )  # fmt: skip
