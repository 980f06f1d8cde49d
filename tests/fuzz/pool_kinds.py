"""Images, tar shards, file lists and Parquet manifests, malformed."""

from __future__ import annotations

import io
import os
import tarfile
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poolscout.config import PoolConfig
from poolscout.pool import ImageReader, PoolListing, RejectedImage, list_pool
from tests.fuzz.kinds import Kind, Outcome
from tests.fuzz.mutations import LEADING_OUT, ODD_TEXTS, OTHER_FILES, damaged, damaged_tree, json_bytes
from tests.pool.images import corners, encoded, save
from tests.pool.shards import tar_of

MAX_PIXELS = 10**6
_FORMS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP", "gif": "GIF"}


def check_listing(listing: PoolListing, inside: Path) -> Outcome:
    """Every image of a listing is safe, can be read or is rejected, and is as large as it was said to be."""
    reader, n_rejected = ImageReader(_uris(listing), MAX_PIXELS), 0
    for row in listing.pool.to_pylist():
        assert row["width"] > 0, row
        assert row["height"] > 0, row
        name = row["image_id"]
        assert name.startswith("/") or "://" in name or not os.path.normpath(name).startswith(".."), row
        try:
            pixels = reader.read(row["image_id"])
            fitted = reader.read_fitted(row["image_id"], 16, 24)
        except RejectedImage:
            n_rejected += 1
            continue
        assert pixels.shape == (row["height"], row["width"], 3), row
        assert fitted.pixels.shape == (3, 16, 24)
    for row in listing.quarantine.to_pylist():
        assert row["reason"]
        assert row["detail"], row
    return "quarantined" if n_rejected or listing.quarantine.num_rows else "succeeded"


def _uris(listing: PoolListing) -> dict[str, str]:
    return dict(zip(listing.pool["image_id"].to_pylist(), listing.pool["uri"].to_pylist(), strict=True))


@cache
def _picture(suffix: str, noisy: bool = False) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8) if noisy else corners()
    return encoded(pixels, _FORMS[suffix], orientation=None if suffix in ("bmp", "gif") else 6)


def _make_image(random: Random, folder: Path, suffix: str) -> None:
    good, at = _picture(suffix, random.random() < 0.3), random.random()
    data = damaged(random, good)
    if at < 0.12:
        data = random.choice([_picture(other) for other in _FORMS if other != suffix] + list(OTHER_FILES))
    elif at < 0.24:  # an EXIF block, or what follows it, made of nothing sensible
        where = max(good.find(b"Exif"), good.find(b"eXIf"), good.find(b"EXIF"), 8)
        data = good[: where + 4] + random.randbytes(random.choice((2, 8, 30))) + good[where + 12 :]
    elif at < 0.34:  # a huge size where the header says it
        place = {"png": 16, "gif": 6, "bmp": 18, "webp": 26, "tiff": 8, "jpg": max(good.find(b"\xff\xc0"), 0) + 5}[
            suffix
        ]
        data = good[:place] + random.choice((b"\xff\x7f\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0")) + good[place + 4 :]
    save(folder / "pool" / f"bad.{suffix}", data)
    save(folder / "pool" / "good.png")


def _read_folder(inside: Path) -> Outcome:
    listing = list_pool(PoolConfig(source=inside / "pool", max_pixels=MAX_PIXELS))
    assert "good.png" in listing.pool["image_id"].to_pylist()
    return check_listing(listing, inside)


def _make_tar(random: Random, folder: Path) -> None:
    file, sidecar = io.BytesIO(), {"speed": 3.5, "night": True, "sequence": "a", "frame": 4, "width": 48, "height": 32}
    form = random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    names = ["a.png", "a.json", "b/" + "long" * 20 + ".png", "c.png"]
    if form != tarfile.USTAR_FORMAT:
        names.append("ü" * 120 + ".png")
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name in names:
            data = json_bytes(damaged_tree(random, sidecar)) if name.endswith("json") else encoded(corners())
            info = tarfile.TarInfo(random.choice((*LEADING_OUT, "/etc/x.png", name)) if random.random() < 0.2 else name)
            info.size = len(data)
            if random.random() < 0.15:
                info.type = random.choice(
                    (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"Z", b"x", b"L", b"S", b"g")
                )
                info.linkname = random.choice(("../secret.png", "/etc/passwd", ""))
            if form == tarfile.PAX_FORMAT and random.random() < 0.2:
                key = random.choice(("path", "size", "GNU.sparse.map", "linkpath", "mtime", "hdrcharset"))
                info.pax_headers = {
                    key: random.choice(
                        [odd for odd in ODD_TEXTS if odd.isascii() and "\0" not in odd]
                        + ["-5", "99999999999999", "1.5"]
                    )
                }
            tar.addfile(info, io.BytesIO(data))
    data = file.getvalue()
    if random.random() < 0.75:
        data = _damaged_headers(random, data) if random.random() < 0.7 else damaged(random, data)
    save(folder / "shards" / "x.tar", data)
    save(folder / "shards" / "y.tar", tar_of({"a.png": None}))


def _damaged_headers(random: Random, data: bytes) -> bytes:
    """A field of a member's header with another value, its checksum made to fit again."""
    changed = bytearray(data)
    starts = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    for start in random.sample(starts, min(len(starts), random.choice((1, 1, 2)))):
        place, length = random.choice(
            ((0, 100), (124, 12), (124, 12), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155))
        )
        values = (b"../secret.png", b"/etc/passwd.png", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"77777777777\0",
        b"-0000000001\0",
                  b"9" * 12, b"", b" " * 12, b"x", b"L", b"K", b"g", b"S", b"2", b"00000000011\0",
                  random.randbytes(12))  # fmt: skip
        changed[start + place : start + place + length] = random.choice(values)[:length].ljust(length, b"\0")
        if random.random() < 0.9:
            changed[start + 148 : start + 156] = b" " * 8
            changed[start + 148 : start + 156] = b"%06o\0 " % sum(changed[start : start + 512])
    return bytes(changed)


def _read_tar(inside: Path) -> Outcome:
    check = "headers" if (inside / "shards/x.tar").read_bytes().count(b"1") % 8 else "none"
    listing = list_pool(PoolConfig(source=inside / "shards", max_pixels=MAX_PIXELS, check=check, format="tar"))
    if check == "headers":
        return check_listing(listing, inside)
    return "quarantined" if listing.quarantine.num_rows else "succeeded"


def _make_list(random: Random, folder: Path) -> None:
    save(folder / "a.png")
    save(folder / "b" / "c.png")
    lines = ["a.png", "b/c.png", "./a.png", random.choice(LEADING_OUT), random.choice(ODD_TEXTS[5:]), "a.png#0+5", "b"]
    random.shuffle(lines)
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    save(folder / "list.txt", damaged(random, data) if random.random() < 0.5 else data)


def _read_list(inside: Path) -> Outcome:
    return check_listing(list_pool(PoolConfig(source=inside / "list.txt", max_pixels=MAX_PIXELS)), inside)


_MANIFEST: dict[str, list[Any]] = {
    "uri": ["a.png", "b/c.png", "d.png"], "image_id": ["one", "two", "three"], "width": [48, 48, 48],
    "height": [32, 32, 32], "speed": [1.5, 2.5, None], "sequence": ["s", "s", "t"], "frame": [1, 2, 3],
}  # fmt: skip


def damaged_columns(random: Random, columns: dict[str, list[Any]]) -> pa.Table:
    """A table with cells, columns or types that are others than they were."""
    while True:
        changed: dict[str, Any] = dict(columns)
        try:
            for name in random.sample(list(columns), random.choice((1, 1, 2))):
                changed[name] = random.choice((_other_column, _odd_cells, _odd_cells))(random, columns[name])
                if random.random() < 0.15:
                    del changed[name]
            return pa.table(changed)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
            continue  # Arrow itself does not hold it: other damage is drawn


def _odd_cells(random: Random, values: list[Any]) -> list[Any]:
    odd = (None, float("nan"), float("inf"), -1, 0, 2**62, 0.5, True, *ODD_TEXTS, *LEADING_OUT, values[0])
    changed, at = list(values), random.randrange(len(values))
    fitting = [one for one in odd if values[0] is None or type(one) is type(values[0]) or one is None]
    changed[at] = random.choice(fitting)
    return changed


def _other_column(random: Random, values: list[Any]) -> Any:
    n = len(values)
    kinds: list[Any] = [
        lambda: pa.array([[value] for value in values]), lambda: pa.array([{"x": value} for value in values]),
        lambda: pa.array([str(value).encode() + b"\xff" for value in values], pa.binary()),
        lambda: pa.array([float("nan")] * n), lambda: pa.nulls(n),
        lambda: pa.array([str(v) for v in values]).dictionary_encode(),
        lambda: pa.array([None] * n, pa.string()), lambda: pa.array([10**30] * n, pa.decimal128(38, 2)),
        lambda: pa.array([0] * n, pa.timestamp("ns")), lambda: pa.array([True] * n),
        lambda: pa.array(["x" * 10**6] * n),
        lambda: pa.array([2**63] * n, pa.uint64()), lambda: pa.array([1.5] * n), lambda: pa.array(values,
        pa.large_string()),
        lambda: pa.array([[1.0] * at for at in range(n)]), lambda: pa.array([[]] * n, pa.list_(pa.float32())),
        lambda: pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(np.arange(n + 1, dtype=np.int32)),
        pa.py_buffer(b"\xff" * n)]),
        lambda: pa.array([0] * n, pa.duration("s")), lambda: pa.array([[["a"]]] * n), lambda: pa.array(values,
        pa.string_view()),
    ]  # fmt: skip
    return random.choice(kinds)()


def parquet_bytes(random: Random, table: pa.Table, *, broken: bool) -> bytes:
    """The table as a Parquet file; the bytes of a broken one are damaged in its footer or anywhere."""
    file = io.BytesIO()
    pq.write_table(table, file, compression=random.choice(("zstd", "snappy", "none")))
    data = file.getvalue()
    if not broken:
        return data
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return data[:-footer] + damaged(random, data[-footer:]) if random.random() < 0.6 else damaged(random, data)


def _make_manifest(random: Random, folder: Path) -> None:
    for name in ("a.png", "b/c.png", "d.png"):
        save(folder / name)
    whole = random.random() < 0.35
    save(
        folder / "pool.parquet",
        parquet_bytes(random, pa.table(_MANIFEST) if whole else damaged_columns(random, _MANIFEST), broken=whole),
    )


def _read_manifest(inside: Path) -> Outcome:
    return check_listing(list_pool(PoolConfig(source=inside / "pool.parquet", max_pixels=MAX_PIXELS)), inside)


KINDS = (
    *(Kind(f"image-{suffix}", 12, partial(_make_image, suffix=suffix), _read_folder) for suffix in _FORMS),
    Kind("tar-shard", 60, _make_tar, _read_tar),
    Kind("file-list", 20, _make_list, _read_list),
    Kind("parquet-manifest", 60, _make_manifest, _read_manifest),
)
