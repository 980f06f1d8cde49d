"""The pool table: every image of a source, its header checked, those that cannot be used set aside."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import PoolConfig
from poolscout.engine.local import ThreadExecutor
from poolscout.errors import ConfigError, DataError, nearest, some
from poolscout.pool.decode import RejectedImage, upright_size
from poolscout.pool.sources import Source, read_source
from poolscout.tables.declared import POOL, QUARANTINE

_CHUNK = 64  # images a task: headers are too quick to hand over one by one


@dataclass(frozen=True)
class PoolListing:
    """A pool and what had to be left out of it.

    Attributes:
        pool: POOL table, sorted by image_id.
        quarantine: QUARANTINE table, sorted by image_id.
    """

    pool: pa.Table
    quarantine: pa.Table


def list_pool(config: PoolConfig) -> PoolListing:
    """List a source and check every image's header; no image is decoded.

    Raises:
        ConfigError: `sequence` or `frame` names a column that the source does not have, or frames that are no numbers.
        DataError: the source cannot be read, names an image twice, or no image of it can be used.
    """
    source = read_source(config)
    _check_ids(source, config)
    order = sorted(range(len(source.image_ids)), key=source.image_ids.__getitem__)
    n_workers = min(16, 4 * (os.cpu_count() or 1))  # mostly waiting for files
    chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
    check = partial(_check_chunk, source, config.max_pixels)
    found = [size for sizes in ThreadExecutor(n_workers).map(check, chunks) for size in sizes]
    good = [(row, size) for row, size in zip(order, found, strict=True) if isinstance(size, tuple)]
    bad = [(row, e) for row, e in zip(order, found, strict=True) if isinstance(e, RejectedImage)]
    quarantine = _quarantine(source, bad)
    if not good:
        raise DataError(
            f"pool.source: no image of {config.source} can be used",
            got=_reasons(quarantine) or "no images", expected="at least one image",
            fix="check pool.images, the folder that file names start from" if bad else "check the source",
        )  # fmt: skip
    rows = [row for row, _ in good]
    return PoolListing(_pool(source, config, rows, [size for _, size in good]), quarantine)


def _check_ids(source: Source, config: PoolConfig) -> None:
    twice = [image_id for image_id, times in Counter(source.image_ids).items() if times > 1]
    if twice:
        raise DataError(
            f"{config.source}: {len(twice)} image ids are listed more than once", got=some(twice),
            expected="each image once", fix="remove the repeated rows",
        )  # fmt: skip
    odd = [image_id for image_id in source.image_ids if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", image_id)]
    if odd:
        raise DataError(
            f"{config.source}: {len(odd)} image names cannot be stored", got=some(map(ascii, odd)),
            expected="names in UTF-8 without control characters", fix="rename these files",
        )  # fmt: skip


def _check_chunk(source: Source, max_pixels: int, rows: list[int]) -> list[tuple[int, int] | RejectedImage]:
    return [_check(source.uris[row], source.sizes[row], max_pixels) for row in rows]


def _check(uri: str, said: tuple[int | None, int | None], max_pixels: int) -> tuple[int, int] | RejectedImage:
    try:
        found = upright_size(Path(uri), max_pixels)
    except RejectedImage as rejected:
        return rejected
    if any(a is not None and a != b for a, b in zip(said, found, strict=True)):
        told = "×".join("?" if side is None else str(side) for side in said)
        return RejectedImage("size differs", f"the source says {told}, the upright image is {found[0]}×{found[1]}")
    return found


def _quarantine(source: Source, bad: list[tuple[int, RejectedImage]]) -> pa.Table:
    columns = {
        "image_id": [source.image_ids[row] for row, _ in bad],
        "uri": [source.uris[row] for row, _ in bad],
        "stage": ["pool"] * len(bad),
        "reason": [rejected.reason for _, rejected in bad],
        "detail": [rejected.detail for _, rejected in bad],
    }
    return QUARANTINE.check(pa.table({n: pa.array(v, pa.string()) for n, v in columns.items()}), "quarantine")


def _reasons(quarantine: pa.Table) -> str:
    counts = Counter(quarantine["reason"].to_pylist())
    told = ", ".join(f"{times} {reason}" for reason, times in counts.most_common())
    return f"{told}; the first: {quarantine['detail'][0]}" if told else ""


def _pool(source: Source, config: PoolConfig, rows: list[int], sizes: list[tuple[int, int]]) -> pa.Table:
    metadata = source.metadata.take(pa.array(rows, pa.int64()))
    sequence_name, frame_name = _chosen(config, metadata, "sequence"), _chosen(config, metadata, "frame")
    ids = pa.chunked_array([[source.image_ids[row] for row in rows]], pa.string())
    columns: dict[str, Any] = {
        "image_id": ids,
        "uri": pa.array([source.uris[row] for row in rows], pa.string()),
        "width": pa.array([width for width, _ in sizes], pa.int32()),
        "height": pa.array([height for _, height in sizes], pa.int32()),
        "sequence": ids,
        "frame": pa.nulls(len(rows), pa.int64()),
    }
    if sequence_name is not None:
        columns["sequence"] = pc.coalesce(metadata[sequence_name].cast(pa.string()), ids)
    if frame_name is not None:
        columns["frame"] = _frames(metadata[frame_name], frame_name, strict=config.frame is not None)
    for name in metadata.column_names:
        if name not in (sequence_name, frame_name) or name not in columns:
            column = metadata[name]
            values = column.cast(pa.string()) if pa.types.is_null(column.type) else column
            columns[_free_name(name, [*columns, *metadata.column_names])] = values
    return POOL.check(pa.table(columns), f"pool of {config.source}")


def _chosen(config: PoolConfig, metadata: pa.Table, meaning: str) -> str | None:
    """The metadata column that means sequence or frame: the configured one, else one of that very name."""
    configured, known = getattr(config, meaning), metadata.column_names
    if configured is None:
        return meaning if meaning in known else None
    if configured not in known:
        raise ConfigError(
            f"pool.{meaning}: {config.source.name} has no column {configured!r}", got=configured,
            expected=", ".join(known) or "no metadata columns there: leave it out",
            fix=nearest(configured, known) or f"leave pool.{meaning} out, or name one of these",
        )  # fmt: skip
    return configured


def _frames(values: pa.ChunkedArray, name: str, *, strict: bool) -> pa.Array:
    frames = [_whole_number(value) for value in values.to_pylist()]
    wrong = [
        value for value, frame in zip(values.to_pylist(), frames, strict=True) if value is not None and frame is None
    ]
    if wrong and strict:
        raise ConfigError(
            f"pool.frame: column {name!r} does not hold frame numbers", got=some(map(repr, wrong)),
            expected="whole numbers", fix="name another column, or leave pool.frame out",
        )  # fmt: skip
    return pa.array(frames, pa.int64())


def _whole_number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _free_name(name: str, taken: list[str]) -> str:
    """A source's own column never hides one of the pool's: `sequence` becomes `source_sequence`."""
    if name not in [column.name for column in POOL.columns]:
        return name
    while name in taken:
        name = f"source_{name}"
    return name
