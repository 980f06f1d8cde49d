"""From what sources say to the pool's columns: metadata of one type, sequence and frame found among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import PoolConfig
from poolscout.errors import ConfigError, nearest, some
from poolscout.tables.declared import POOL


def unified(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of any columns in one: a column that some lack is empty there, and has the type that all values share."""
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    kinds = {name: _shared([t.schema.field(name).type for t in tables if name in t.column_names]) for name in names}
    if not names:
        return pa.concat_tables(tables)
    return pa.concat_tables([
        pa.table({
            name: table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)
            for name, kind in kinds.items()
        })
        for table in tables
    ])  # fmt: skip


def taken(table: pa.Table, order: pa.Array, part_rows: int = 500_000) -> pa.Table:
    """The table's rows in another order, also where a column of text is larger than Arrow's 2 GiB an array."""
    if not table.num_columns:
        return table
    wide = pa.schema([
        pa.field(field.name, pa.large_string() if pa.types.is_string(field.type) else field.type)
        for field in table.schema
    ])  # fmt: skip
    if not len(order):
        return table.slice(0, 0)
    (whole,) = table.cast(wide).combine_chunks().to_batches()
    parts = [whole.take(order.slice(start, part_rows)) for start in range(0, len(order), part_rows)]
    return pa.concat_tables([pa.Table.from_batches([part]).cast(table.schema) for part in parts])


def _shared(kinds: list[pa.DataType]) -> pa.DataType:
    differ = list(dict.fromkeys(kind for kind in kinds if not pa.types.is_null(kind)))
    if len(differ) <= 1:
        return differ[0] if differ else pa.string()
    if all(pa.types.is_integer(kind) for kind in differ):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in differ):
        return pa.float64()
    return pa.string()


def pool_columns(images: pa.Table, metadata: pa.Table, config: PoolConfig) -> pa.Table:
    """The POOL table of these rows.

    Args:
        images: n rows: image_id, uri, width and height.
        metadata: n rows.
        config: which columns mean sequence and frame.

    Raises:
        ConfigError: they name columns that are not there, or frames that are no numbers.
    """
    sequence_name, frame_name = _chosen(config, metadata, "sequence"), _chosen(config, metadata, "frame")
    columns: dict[str, Any] = {name: images[name] for name in ("image_id", "uri", "width", "height")}
    columns |= {"sequence": images["image_id"], "frame": pa.nulls(images.num_rows, pa.int64())}
    if sequence_name is not None:
        columns["sequence"] = pc.coalesce(metadata[sequence_name].cast(pa.string()), images["image_id"])
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
            f"pool.{meaning}: {str(config.source).rpartition('/')[2]} has no column {configured!r}", got=configured,
            expected=", ".join(known) or "no metadata columns there: leave it out",
            fix=nearest(configured, known) or f"leave pool.{meaning} out, or name one of these",
        )  # fmt: skip
    return configured


def _frames(values: pa.ChunkedArray, name: str, *, strict: bool) -> pa.ChunkedArray:
    if pa.types.is_signed_integer(values.type):
        return values.cast(pa.int64())
    wrong, chunks = list[object](), list[pa.Array]()
    for chunk in values.chunks:
        for start in range(0, len(chunk), 10_000):
            cells = chunk.slice(start, 10_000).to_pylist()
            frames = [_whole_number(cell) for cell in cells]
            wrong += [c for c, frame in zip(cells, frames, strict=True) if c is not None and frame is None][:6]
            chunks.append(pa.array(frames, pa.int64()))
    if wrong and strict:
        raise ConfigError(
            f"pool.frame: column {name!r} does not hold frame numbers", got=some(map(repr, wrong)),
            expected="whole numbers", fix="name another column, or leave pool.frame out",
        )  # fmt: skip
    return pa.chunked_array(chunks, pa.int64())


def _whole_number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _free_name(name: str, taken: list[str]) -> str:
    """A source's own column never hides one of the pool's: `sequence` becomes `source_sequence`."""
    if name not in [column.name for column in POOL.columns]:
        return name
    while name in taken:
        name = f"source_{name}"
    return name
