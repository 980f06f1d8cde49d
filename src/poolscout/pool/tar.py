"""The members of a tar, from its headers alone: what lies where, nothing is unpacked and nothing followed.

ustar, GNU and pax headers (POSIX.1-2001). Written here and not left to `tarfile`, which takes a damaged header for the
end of the archive and believes sizes that are not to be believed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK_BYTES = 512
_MOST_NAME_BYTES = 1 << 20  # of a long name or a pax header: larger ones are damage, or an attack

_PLAIN = (b"0", b"\0", b"7")
_KINDS = {
    b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe",
    b"S": "sparse file", b"V": "label", b"M": "part of a file", b"D": "folder",
}  # fmt: skip
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Member:
    """What a header says.

    Attributes:
        name: as it is written there; bytes that are not UTF-8 as surrogates.
        kind: `file`, or what else it is.
        offset: where the data begin, in bytes from the tar's start.
        size: of the data, in bytes.
    """

    name: str
    kind: str
    offset: int
    size: int


class TarDamage(Exception):
    """From here on the tar cannot be read.

    Attributes:
        at: byte of the header that is wrong.
    """

    def __init__(self, at: int, why: str) -> None:
        super().__init__(f"{why} at byte {at}")
        self.at = at


def members(file: io.BufferedReader | io.BytesIO, n_bytes: int) -> Iterator[Member]:
    """Each member in order; only headers are read, data are skipped.

    Args:
        file: the tar, to seek in.
        n_bytes: its length.

    Raises:
        TarDamage: compressed, cut off, or a header that is none; the members before it have been given.
    """
    at, long_name, pax = 0, None, dict[str, str]()
    while True:
        header = _read(file, at, BLOCK_BYTES, n_bytes)
        if header == bytes(BLOCK_BYTES):
            return
        kind, size = header[156:157], _checked_size(header, at)
        offset = at + BLOCK_BYTES
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if size > _MOST_NAME_BYTES:
                raise TarDamage(at, f"a header of {size} bytes")
            data = _read(file, offset, size, n_bytes)
            if kind == b"L":
                long_name = _text(data.split(b"\0", 1)[0])
            elif kind in (b"x", b"X"):
                pax = _pax(data, at)
            at = offset + _whole_blocks(size)
            continue
        if kind == b"S":  # the map of its holes goes on in further blocks
            goes_on = header[482:483] != b"\0"
            while goes_on:
                goes_on = _read(file, offset, BLOCK_BYTES, n_bytes)[504:505] != b"\0"
                offset += BLOCK_BYTES
        size = 0 if kind in _WITHOUT_DATA else _number(pax.get("size"), size, at)
        name = pax.get("path") or long_name or _name(header)
        if offset + size > n_bytes:
            raise TarDamage(at, f"cut off: {name!r} ends at byte {offset + size} of {n_bytes}")
        yield Member(name, _kind(kind, name, pax), offset, size)
        at, long_name, pax = offset + _whole_blocks(size), None, {}


def _read(file: io.BufferedReader | io.BytesIO, at: int, n: int, n_bytes: int) -> bytes:
    if at + n > n_bytes:
        raise TarDamage(at, "cut off: no end of the archive" if at >= n_bytes else "cut off inside a header")
    file.seek(at)
    data = file.read(n)
    if len(data) < n:
        raise TarDamage(at, "cut off while it was read")
    return data


def _checked_size(header: bytes, at: int) -> int:
    for magic, name in _COMPRESSED.items():
        if at == 0 and header.startswith(magic):
            raise TarDamage(0, f"compressed with {name}: members cannot be read in place, unpack it to a plain .tar")
    stored = _octal(header[148:156])
    unsigned = sum(header) - sum(header[148:156]) + 8 * 32
    signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    size = _octal(header[124:136])
    if stored is None or stored not in (unsigned, signed) or size is None:
        raise TarDamage(at, "not a tar header")
    return size


def _octal(digits: bytes) -> int | None:
    """A number field: octal digits, or base 256 where the first bit is set (GNU); None for nonsense."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    text = digits.split(b"\0", 1)[0].strip()
    return int(text, 8) if text and all(48 <= byte <= 55 for byte in text) else None if text else 0


def _number(text: str | None, default: int, at: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise TarDamage(at, f"a size of {text!r}")
    return int(text)


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _pax(data: bytes, at: int) -> dict[str, str]:
    """Records of the form `LENGTH KEY=VALUE\\n`, LENGTH counting all of it."""
    found, start = {}, 0
    while start < len(data):
        length, space, _ = data[start : start + 20].partition(b" ")
        if not space or not length.isdigit():
            raise TarDamage(at, "not a pax header")
        record = data[start : start + int(length)]
        key, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals or len(record) != int(length):
            raise TarDamage(at, "not a pax header")
        found[_text(key)] = _text(value)
        start += len(record)
    return found


def _kind(kind: bytes, name: str, pax: dict[str, str]) -> str:
    if kind in _PLAIN:
        if name.endswith("/"):
            return "folder"
        return "sparse file" if any(key.startswith("GNU.sparse.") for key in pax) else "file"
    return _KINDS.get(kind, f"entry of type {kind!r}")


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
