"""A table in a file of the kind that its name asks for: Parquet, or CSV for people and spreadsheets."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from poolscout.errors import ConfigError
from poolscout.tables.atomic import atomic_path
from poolscout.tables.parquet import write_table
from poolscout.tables.schema import TableSpec


def check_ending(out: Path) -> None:
    """Refuse, before anything is computed, a file that is neither.

    Raises:
        ConfigError: its ending is another.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out}: neither .csv nor .parquet", got=out.suffix or "no suffix", fix="add one")


def write_as_named(out: Path, spec: TableSpec, table: pa.Table) -> None:
    """Write `table` to a file that `check_ending` lets pass, whole or not at all.

    Raises:
        ConfigError: a column that CSV cannot hold.
        TableError, NonFiniteError, StorageError: as `write_table`.
    """
    if out.suffix != ".csv":
        write_table(out, spec, table)
        return
    try:
        with atomic_path(out) as temporary:
            pyarrow.csv.write_csv(table, temporary)
    except pa.ArrowException as error:
        raise ConfigError(
            f"--out {out}: a column that CSV cannot hold", got=str(error).splitlines()[0],
            expected="columns of numbers and text", fix="name a .parquet",
        ) from error  # fmt: skip
