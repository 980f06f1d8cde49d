"""A far object as a file to seek in: blocks are fetched as they are needed."""

from __future__ import annotations

import io
from collections.abc import Callable

FIRST_BLOCK_BYTES, LARGEST_BLOCK_BYTES = 32 * 1024, 1024 * 1024


class RangedFile(io.RawIOBase):
    """Reads blocks of an object and keeps the last one.

    Blocks grow while they are read one after the other, and are small again after a jump: headers that lie far apart
    cost a small block each, and what is read through costs few requests.

    Args:
        read: (start, end) in bytes → these bytes, fewer where the object ends.
        size: the object's bytes; called only when a reader seeks from the end.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: Callable[[], int]) -> None:
        self._read, self._size = read, size
        self._at, self._start, self._block, self._next_bytes = 0, 0, b"", FIRST_BLOCK_BYTES
        self._end: int | None = None  # where the object ends, once a block has been shorter than asked for

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: lambda: 0, io.SEEK_CUR: lambda: self._at, io.SEEK_END: self._size}[whence]()
        if base + offset < 0:
            raise OSError(f"seek to {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        if not self._start <= self._at < self._start + len(self._block):
            self._fetch()
        data = self._block[self._at - self._start :][: len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self) -> None:
        if self._end is not None and self._at >= self._end:
            self._start, self._block = self._at, b""
            return
        goes_on = bool(self._block) and self._at == self._start + len(self._block)
        self._next_bytes = min(2 * self._next_bytes, LARGEST_BLOCK_BYTES) if goes_on else FIRST_BLOCK_BYTES
        self._start, self._block = self._at, self._read(self._at, self._at + self._next_bytes)
        if len(self._block) < self._next_bytes:
            self._end = self._at + len(self._block)
