"""The parts that a pass over a pool writes: one of each of its tables for each shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.tables.atomic import write_json
from poolscout.tables.parquet import part_path, write_table
from poolscout.tables.schema import TableSpec


class ShardFolder:
    """The tables of a pass, in folders of one folder.

    A shard's part of the last table is written last and commits the shard. `parts.json` notes what the parts were
    computed from; opening the folder removes parts that were computed from anything else.

    Args:
        folder: holds a folder for each table.
        made_from: digest of all that the numbers depend on.
        order: the tables' folders and declarations, the committing one last.
        also: folders of further tables whose parts do not outlive a change of what they were computed from.
    """

    def __init__(
        self, folder: Path, made_from: str, order: Sequence[tuple[str, TableSpec]], also: Sequence[str] = ()
    ) -> None:
        self.folder, self._order = Path(folder), order
        note = self.folder / "parts.json"
        if not note.exists() or made_from not in note.read_text(encoding="utf-8"):
            for name in (*[name for name, _ in reversed(order)], *also):
                for part in (self.folder / name).glob("part-*.parquet"):
                    part.unlink()
            write_json(note, {"made_from": made_from})

    def is_done(self, shard: int) -> bool:
        """Whether all of a shard's parts are there."""
        return all(part_path(self.folder / name, shard).exists() for name, _ in self._order)

    def write(self, shard: int, tables: dict[str, pa.Table | dict[str, Any]]) -> None:
        """Write a shard's parts, each whole or not at all, the committing one last.

        Raises:
            NonFiniteError, TableError: a table is not as declared.
            StorageError: the disk is full or refuses.
        """
        for name, spec in self._order:
            write_table(part_path(self.folder / name, shard), spec, tables[name])
