"""A pool made shorter by what is known of its images: a condition in SQL over its table and tables joined to it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from poolscout.errors import ConfigError, DataError, some
from poolscout.pool.condition import Condition, duckdb_words, parse_condition

MEMORY_LIMIT = "2GiB"  # DuckDB's, beside the pool itself; it writes nothing to disk

_KEPT = "kept"
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,  # or names in SQL would reach Python's variables
    "memory_limit": MEMORY_LIMIT,
    "preserve_insertion_order": False,  # rows carry their numbers
    "temp_directory": "",
}


@dataclass(frozen=True)
class Shortlist:
    """What a condition leaves of a pool.

    Attributes:
        pool: the kept rows, all columns, in the pool's order.
        n_rows: how many there were.
        n_unknown: of how many the condition is neither true nor false, as a cell it needs is empty (NULL); not kept.
        n_matched: side table → how many images of the pool it has a row of.
    """

    pool: pa.Table
    n_rows: int
    n_unknown: int
    n_matched: dict[str, int]

    @property
    def in_words(self) -> str:
        """What was kept, in one sentence."""
        unknown = f", {self.n_unknown:,} left out because a cell is empty" if self.n_unknown else ""
        joined = "".join(f", {n:,} of all are in {name}" for name, n in self.n_matched.items())
        return f"{self.pool.num_rows:,} of {self.n_rows:,} images kept{joined}{unknown}"


def shortlist(pool: pa.Table, where: str, tables: Mapping[str, Path] | None = None) -> Shortlist:
    """The images for which a condition is true.

    Args:
        pool: a POOL table; its columns can be named in `where` plainly, or as `pool.width`.
        where: an SQL expression, true or false for each image; see `condition.FUNCTIONS` for what it may call.
        tables: name → Parquet file, folder of part-*.parquet or CSV with a column image_id, at most one row an image.
            Their columns can be named plainly where no other table has one of that name, or as `NAME.COLUMN`.

    Raises:
        ConfigError: a condition that DuckDB cannot understand (in its words, with the columns there are), that is not
            true or false, or that asks for more than the tables' columns; a name no table may have.
        DataError: a side table cannot be read, has no image_id, several rows of an image, or none of the pool's;
            no image is kept.
    """
    tables = dict(tables or {})
    _check_names(tables)
    with opened(pool, tables) as (connection, row):
        columns = {name: _columns(connection, name) for name in ("pool", *tables)}
        del columns["pool"][row]
        for name, path in tables.items():
            _check_side(columns[name], name, path)
        condition = parse_condition(connection, where)
        answer = _answer(connection, condition, columns, row, pool.num_rows + 1)
        if len(answer[row]) > pool.num_rows:
            raise _several_rows(connection, tables)
        for name in tables:
            if not np.any(answer[f"in {name}"]):
                raise _unmatched(connection, name, tables[name])
        kept = np.zeros(pool.num_rows, bool)
        kept[answer[row][answer[_KEPT] == 1]] = True
        n_unknown = int(np.count_nonzero(answer[_KEPT] < 0))
        if not kept.any():
            raise _nothing_kept(connection, condition, tuple(tables), pool.num_rows, n_unknown)
    n_matched = {name: int(np.count_nonzero(answer[f"in {name}"])) for name in tables}
    return Shortlist(pool.filter(pa.array(kept)), pool.num_rows, n_unknown, n_matched)


@contextmanager
def opened(pool: pa.Table, tables: Mapping[str, Path]) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """A database in memory that sees these tables and, for good, nothing else; the pool's column of row numbers."""
    sides = {name: _side_table(name, path) for name, path in tables.items()}
    used = {column.lower() for table in (pool, *sides.values()) for column in table.schema.names}
    row = next(name for n in count(1) if (name := "#" * n) not in used)
    with duckdb.connect(":memory:", config=_SETTINGS) as connection:
        connection.register("pool", pool.append_column(row, pa.array(np.arange(pool.num_rows))))
        for name, side in sides.items():
            connection.register(name, side)
        connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
        try:
            yield connection, row
        except duckdb.Error as error:  # of values, which are read only now
            raise DataError(
                "shortlist: a table cannot be read", got=duckdb_words(error), expected="texts in UTF-8, whole files",
                fix=f"write the table again: {some(['the pool', *map(str, tables.values())])}",
            ) from error  # fmt: skip


def _check_names(tables: Mapping[str, Path]) -> None:
    for name in tables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.lower() == "pool":
            raise ConfigError(
                f"shortlist.tables: a table cannot be called {name!r}", got=name,
                expected="letters, digits and _, not beginning with a digit; pool is the pool itself",
                fix="give it another name, e.g. scores",
            )  # fmt: skip
    if len({name.lower() for name in tables}) < len(tables):
        raise ConfigError("shortlist.tables: two tables have the same name", got=some(tables), expected="other names")


def side_files(name: str, path: Path) -> list[Path]:
    """The files of a side table.

    Raises:
        DataError: there are none.
    """
    if not path.exists():
        raise DataError(
            f"shortlist.tables.{name}: {path} is not there", got="no such file or folder",
            expected="a Parquet file, a folder of part-*.parquet or a CSV file", fix="check the path",
        )  # fmt: skip
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    if not files:
        inside = sorted(folder.name for folder in path.iterdir() if any(folder.glob("part-*.parquet")))
        raise DataError(
            f"shortlist.tables.{name}: {path} has no parts of a table", got="a folder without part-*.parquet",
            expected="e.g. the scores folder of a round", fix=f"one of these in it: {some(inside)}" if inside else None,
        )  # fmt: skip
    return files


def _side_table(name: str, path: Path) -> pa.Table | ds.Dataset:
    """A table that DuckDB can read; of Parquet only the columns that it asks for are read."""
    files = side_files(name, path)
    try:
        if path.suffix.lower() == ".csv":
            as_text = pa.csv.ConvertOptions(column_types={"image_id": pa.string()})
            return pa.csv.read_csv(path, convert_options=as_text)
        for file in files:
            pq.read_metadata(file)  # a part that was cut off is named here
        return ds.dataset([str(file) for file in files], format="parquet")
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"shortlist.tables.{name}: {path} cannot be read", got=str(error).splitlines()[0],
            expected="Parquet or, where the name ends in .csv, CSV", fix="write the file again",
        ) from error  # fmt: skip


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    """Column → SQL type, as conditions see them."""
    try:
        table = connection.table(f'"{name}"')
    except duckdb.Error as error:
        raise DataError(
            f"shortlist: table {name} has a column of a type that SQL lacks", got=duckdb_words(error),
            expected="numbers, texts, dates, lists", fix="convert or drop the column",
        ) from error  # fmt: skip
    return {column: str(kind) for column, kind in zip(table.columns, table.types, strict=True)}


def _check_side(columns: dict[str, str], name: str, path: Path) -> None:
    if columns.get("image_id") != "VARCHAR":
        raise DataError(
            f"shortlist.tables.{name}: {path} has no column image_id with texts",
            got=some((f"{column} {kind}" for column, kind in columns.items()), 40),
            expected="image_id VARCHAR, as in the pool", fix="rename or convert the column",
        )  # fmt: skip


def _joined(tables: tuple[str, ...]) -> str:
    return "pool" + "".join(f' LEFT JOIN "{name}" USING (image_id)' for name in tables)


def _answer(
    connection: duckdb.DuckDBPyConnection,
    condition: Condition,
    columns: dict[str, dict[str, str]],
    row: str,
    most: int,
) -> dict[str, np.ndarray]:
    """In column `row` the row's number in the pool; 1, 0 or -1 (kept, not, unknown); whether each side table has it.

    At most `most` rows, so that a table with many rows of each image does no harm.
    """
    tables = tuple(name for name in columns if name != "pool")
    has = "".join(f', "{name}".image_id IS NOT NULL AS "in {name}"' for name in tables)
    sql = f'SELECT (\n{condition.text}\n) AS "{_KEPT}", pool."{row}"{has} FROM {_joined(tables)} LIMIT {most}'
    try:
        kind, unknown = connection.execute(f"DESCRIBE {sql}").fetchall()[0][1], _unknown(condition, columns)
        if kind != "BOOLEAN":
            raise ConfigError(
                "shortlist.where: the condition is not true or false", got=f"{condition.text} ({kind})",
                expected="a comparison, such as speed_kmh > 5", fix="compare it with something",
            )  # fmt: skip
        if unknown:  # DuckDB takes some words that are no columns, such as current_date, for what they stand for
            raise _not_understood(f"{'.'.join(unknown[0])} is no column of these tables", unknown, columns)
        found = connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        fix = "TRY_CAST(… AS …) gives NULL where CAST fails" if isinstance(error, duckdb.ConversionException) else None
        raise _not_understood(duckdb_words(error), _unknown(condition, columns), columns, fix) from error
    kept = found[_KEPT].cast(pa.int8()).fill_null(-1)
    return {_KEPT: kept.to_numpy()} | {name: found[name].to_numpy() for name in found.column_names[1:]}


def _unknown(condition: Condition, columns: dict[str, dict[str, str]]) -> list[tuple[str, ...]]:
    """What the condition names and no table has; names are alike in capitals and small letters."""
    of = {table.lower(): {column.lower() for column in known} for table, known in columns.items()}
    plain = set().union(*of.values())

    def is_known(name: tuple[str, ...]) -> bool:
        first, second = name[0].lower(), name[1].lower() if len(name) > 1 else None
        return first in plain or second in of.get(first, ())

    return [name for name in condition.columns if not is_known(name)]


def _not_understood(
    words: str, unknown: list[tuple[str, ...]], columns: dict[str, dict[str, str]], fix: str | None = None
) -> ConfigError:
    """What DuckDB says, with the columns there are; those that may have been meant come first."""
    wanted = unknown[0][-1].lower() if unknown else ""
    near = difflib.get_close_matches(wanted, [name.lower() for known in columns.values() for name in known], cutoff=0.5)
    listed = []
    for table, known in columns.items():
        first = sorted(known, key=lambda name: near.index(name.lower()) if name.lower() in near else len(near))
        listed.append(f"{table}: " + ", ".join(f"{name} {known[name]}" for name in first))
    return ConfigError(
        f"shortlist.where: {words}", expected="a condition over these columns\n    " + "\n    ".join(listed),
        fix=f"did you mean {near[0]!r}?" if near else fix or "texts stand in '…', odd column names in \"…\"",
    )  # fmt: skip


def _several_rows(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Path]) -> DataError:
    twice = {
        name: connection.execute(
            f'SELECT image_id, count(*) FROM "{name}" WHERE image_id IN (SELECT image_id FROM pool) '
            "GROUP BY image_id HAVING count(*) > 1 ORDER BY image_id LIMIT 6"
        ).fetchall()
        for name in tables
    }
    name = next(name for name in tables if twice[name])
    return DataError(
        f"shortlist.tables.{name}: {tables[name]} has several rows of one image",
        got=some(f"{image_id} ({rows} rows)" for image_id, rows in twice[name]), expected="at most one row an image",
        fix="bring it to one row an image first, e.g. the largest value of each",
    )  # fmt: skip


def _unmatched(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> DataError:
    ids = {table: connection.execute(f'SELECT image_id FROM "{table}" LIMIT 3').fetchall() for table in (name, "pool")}
    return DataError(
        f"shortlist.tables.{name}: {path} has none of the pool's images",
        got=f"image_id such as {some(i for (i,) in ids[name])}" if ids[name] else "no rows",
        expected=f"ids as in the pool: {some(i for (i,) in ids['pool'])}", fix="write the ids as the pool has them",
    )  # fmt: skip


def _nothing_kept(
    connection: duckdb.DuckDBPyConnection, condition: Condition, tables: tuple[str, ...], n_rows: int, n_unknown: int
) -> DataError:
    counts = ", ".join(f"count(*) FILTER ({part})" for part in condition.parts)
    (kept,) = connection.execute(f"SELECT {counts} FROM {_joined(tables)}").fetchall()
    alone = "".join(f"\n    {n:,} for {part} alone" for part, n in zip(condition.parts, kept, strict=True))
    return DataError(
        "shortlist.where: no image is kept",
        got=f"0 of {n_rows:,} images" + (f", {n_unknown:,} of them with empty cells (NULL)" if n_unknown else "")
        + (alone if len(condition.parts) > 1 else ""),
        expected="at least one image", fix="loosen the condition",
    )  # fmt: skip
