"""Declared tables in Parquet: single files and folders of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from poolscout.errors import CorruptPartError, TableError
from poolscout.tables.atomic import atomic_path
from poolscout.tables.schema import TableSpec, check_stamp


def write_table(path: Path, spec: TableSpec, table: pa.Table | dict[str, Sequence[Any]]) -> None:
    """Check `table` against its declaration and write it, whole or not at all.

    Raises:
        TableError, NonFiniteError: the table is not what `spec` declares.
        StorageError: the disk is full or refuses.
    """
    checked = spec.check(_as_arrow(table, spec), str(path))
    with atomic_path(path) as temporary:
        pq.write_table(checked, temporary, compression="zstd")


def read_table(path: Path, spec: TableSpec, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one file, or all parts of a folder in name order, checked against `spec`.

    Raises:
        TableError: missing, another table, an unknown schema version, or columns that differ.
        CorruptPartError: the bytes cannot be read as Parquet.
    """
    tables = list(iter_parts(path, spec, columns))
    if not tables:
        raise TableError(
            f"{path}: no parts of table '{spec.name}'",
            got="a folder without any",
            expected="part-*.parquet",
            fix=f"did you mean {path / spec.name}?" if (Path(path) / spec.name).is_dir() else "run what writes it",
        )
    return pa.concat_tables(tables, promote_options="default")


def read_schema(path: Path, spec: TableSpec) -> pa.Schema:
    """The columns and metadata of a table, read from its first part alone.

    Raises:
        TableError, CorruptPartError: as `read_table`.
    """
    part = part_path(path, 0) if Path(path).is_dir() else Path(path)
    if not part.exists():
        return read_table(path, spec).schema  # which says what is wrong
    with _opened(part, spec) as file:
        return file.schema_arrow


def iter_parts(path: Path, spec: TableSpec, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The parts of a table one after the other, so that a large one is never held whole."""
    path = Path(path)
    parts = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    if path.is_dir() and parts != [part_path(path, number) for number in range(len(parts))]:
        raise TableError(
            f"{path}: parts of table '{spec.name}' are missing",
            got=f"{len(parts)} parts up to {parts[-1].name}",
            expected="part-00000, part-00001 … without gaps",
            fix="run the stage that writes it again",
        )
    for part in parts:
        yield _read_part(part, spec, columns)


def part_path(folder: Path, index: int) -> Path:
    """Where part `index` of a sharded table lives."""
    return Path(folder) / f"part-{index:05d}.parquet"


def float_lists(rows: Float[np.ndarray, "n length"]) -> pa.Array:
    """Rows of numbers as a column of n lists of float32."""
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1), pa.float32()))


def _read_part(path: Path, spec: TableSpec, columns: Sequence[str] | None) -> pa.Table:
    with _opened(path, spec) as file:
        table = file.read(columns=list(columns) if columns is not None else None)
    return spec.check(table, str(path)) if columns is None else spec.check_some(table, columns, str(path))


@contextmanager
def _opened(path: Path, spec: TableSpec) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            check_stamp(spec, file.schema_arrow.metadata, str(path))
            yield file
    except FileNotFoundError as error:
        raise TableError(
            f"{path}: table '{spec.name}' is not there",
            got="no such file",
            fix="run the stage that writes it",
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptPartError(
            f"{path}: cannot be read as Parquet",
            got=str(error).splitlines()[0],
            expected=f"a part of table '{spec.name}'",
            fix="if a run wrote it, delete this file and start the same command again: only it is made anew; "
            "labels that people made come back with `poolscout labels add`",
        ) from error


def _as_arrow(table: pa.Table | dict[str, Sequence[Any]], spec: TableSpec) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    columns = {name: spec.column_for(name) for name in table}
    try:
        return pa.table(
            {
                name: values
                if isinstance(values, pa.Array | pa.ChunkedArray)
                else pa.array(values, type=column.type if column else None)
                for (name, values), column in zip(table.items(), columns.values(), strict=True)
            }
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TableError(f"table '{spec.name}': a column cannot be converted", got=str(error)) from error
