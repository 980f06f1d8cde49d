"""Listing a pool: rows a second beside a bare walk over the same files, and how memory grows with the rows.

    python benchmarks/listing.py [--images 20000] [--rows 2000000]

Folders and tar shards of real JPEGs are listed with their headers read; a Parquet manifest of `rows` rows at an object
store is listed with `check: none`, so that nothing but the manifest is read. Memory is what Python and Arrow hold, at n
and at 4n rows: what is not in Arrow columns must not grow.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from poolscout.config import PoolConfig
from poolscout.pool import Storage, Uris, list_pool
from poolscout.pool.tar import members


def timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def a_jpeg() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 380)).save(file, "JPEG", quality=80)
    return file.getvalue()


def make_files(root: Path, n_images: int) -> None:
    data = a_jpeg()
    for start in range(0, n_images, 1000):
        folder = root / "folder" / f"{start:07d}"
        folder.mkdir(parents=True)
        (root / "shards").mkdir(exist_ok=True)
        with tarfile.open(root / "shards" / f"{start:07d}.tar", "w") as tar:
            for number in range(start, min(start + 1000, n_images)):
                (folder / f"{number:07d}.jpg").write_bytes(data)
                info = tarfile.TarInfo(f"{number:07d}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def bare_walk(folder: str) -> int:
    """Every name, and 64 bytes of every file: the least that a check of headers must do."""
    n = 0
    for entry in os.scandir(folder):
        if entry.is_dir():
            n += bare_walk(entry.path)
        else:
            with open(entry.path, "rb") as file:  # noqa: PTH123  (the bare minimum)
                n += len(file.read(64))
    return n


def bare_tars(folder: Path) -> int:
    """Every header of every shard."""
    n = 0
    for path in folder.iterdir():
        with path.open("rb") as file:
            n += sum(1 for _ in members(file, path.stat().st_size))
    return n


def manifest(path: Path, n_rows: int) -> Path:
    kinds = {"width": pa.int32(), "height": pa.int32(), "speed_kmh": pa.float64(), "time_of_day": pa.string()}
    with pq.ParquetWriter(path, pa.schema({"uri": pa.string()} | kinds)) as writer:
        for start in range(0, n_rows, 100_000):
            n = min(100_000, n_rows - start)
            number = np.arange(start, start + n)[::-1]
            writer.write_table(pa.table({
                "uri": [f"s3://bucket/drive-{at // 1000:06d}/frame-{at:08d}.jpg" for at in number],
                "width": pa.array(np.full(n, 640), pa.int32()), "height": pa.array(np.full(n, 380), pa.int32()),
                "speed_kmh": number % 60 * 1.0, "time_of_day": np.where(number % 2, "day", "night"),
            }))  # fmt: skip
    return path


def held(path: Path) -> tuple[float, float, float, int]:
    """(seconds, peak of Python's own memory in MiB, peak of Arrow's in MiB, rows) of listing a manifest."""
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    start = time.perf_counter()
    listing = list_pool(PoolConfig(source=path, check="none"))
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arrow = max(pool.bytes_allocated() - before, listing.pool.nbytes)
    return seconds, peak / 2**20, arrow / 2**20, listing.pool.num_rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=2_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_files(root, options.images)
        for name, bare in (
            ("folder", lambda: bare_walk(str(root / "folder"))),
            ("shards", lambda: bare_tars(root / "shards")),
        ):
            bare()  # the files are in the page cache for both
            bare_s, listed_s = timed(bare), timed(lambda name=name: list_pool(PoolConfig(source=root / name)))
            print(f"{name}: {options.images / listed_s:,.0f} images/s, {listed_s / bare_s:.1f} × a bare walk")
        for n_rows in (options.rows // 4, options.rows):
            path = manifest(root / f"{n_rows}.parquet", n_rows)
            bare_s = timed(lambda path=path: pq.read_table(path))
            seconds, python_mib, arrow_mib, n = held(path)
            print(
                f"manifest of {n:,} rows: {n / seconds:,.0f} rows/s, {seconds / bare_s:.1f} × pq.read_table; "
                f"Python holds {python_mib:.1f} MiB at most, the table {arrow_mib:.0f} MiB"
            )
        pool = list_pool(PoolConfig(source=path, check="none")).pool
        uris = Uris(pool)
        ids = pool["image_id"].take(pa.array(np.random.default_rng(0).integers(0, len(uris), 20_000))).to_pylist()
        print(f"looked up: {timed(lambda: [uris[i] for i in ids]) / len(ids) * 1e6:.0f} µs an image")
        storage = Storage()
        file = str(next((root / "folder").rglob("*.jpg")))
        print(f"read_bytes: {timed(lambda: [storage.read_bytes(file) for _ in range(5000)]) / 5000 * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
