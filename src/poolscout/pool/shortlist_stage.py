"""The short-list of a run: made once, beside the pool's own table, which stays whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from poolscout.config import ShortlistConfig
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import Work, file_hash, fingerprint
from poolscout.tables.parquet import part_path, read_table, write_table
from poolscout.tables.runfolder import RunFolder

PART_ROWS = 500_000


def pool_path(folder: RunFolder, config: ShortlistConfig) -> Path:
    """The table of the images that a run may pick: its short-list where it has one."""
    return folder.pool if config.where is None else folder.path / "pool" / "shortlist"


def shortlisted(folder: RunFolder, pool: pa.Table, config: ShortlistConfig, say: Callable[[str], object]) -> pa.Table:
    """The images of the pool that a run may pick; without a condition all, and no stage.

    Raises:
        ConfigError, DataError: as `shortlist`.
        RunError: the short-list was made with another condition or other tables, and the folder may not redo it.
    """
    where, out = config.where, pool_path(folder, config)
    if where is None:
        return pool
    from poolscout.pool.shortlist import shortlist, side_files  # DuckDB takes half a second to load

    files = {name: side_files(name, path) for name, path in config.tables.items()}
    inputs = {"pool": file_hash(folder.pool)}
    inputs |= {f"table {name}": fingerprint([file_hash(file) for file in found]) for name, found in files.items()}

    def do() -> None:
        found = shortlist(pool, where, config.tables)
        say(f"short-list: {found.in_words}")
        for number, start in enumerate(range(0, found.pool.num_rows, PART_ROWS)):
            write_table(part_path(out, number), POOL, found.pool.slice(start, PART_ROWS))

    folder.stage(out.parent, Work("shortlist", {"where": where}, inputs), [out], do)
    return read_table(out, POOL)
