"""The parts that a pass over a pool writes: one of each of its tables for each shard, and a record that commits it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from poolscout.tables.atomic import remove, write_json
from poolscout.tables.manifest import file_hash
from poolscout.tables.parquet import part_path, write_table
from poolscout.tables.schema import TableSpec


class ShardFolder:
    """The tables of a pass, in folders of one folder.

    A shard's parts are written first; then its record, with the bytes, rows and SHA-256 of each, commits the shard. A
    record lies with the last table's parts (`.part-00003.commit.json`) and goes with them. The first question whether
    a shard is done reads every committed part once. `parts.json` notes what the parts were computed from; opening the
    folder removes parts that were computed from anything else. Different shards may be written at the same time by
    different threads, processes or machines; the object is small and can be pickled.

    Args:
        folder: holds a folder for each table.
        made_from: digest of all that the numbers depend on.
        order: the tables' folders and declarations; the last one's holds the records.
        also: folders of further tables whose parts do not outlive a change of what they were computed from.
        shards: for each shard the digest of what it alone depends on, say the state of its images' files; a shard
            whose digest has changed is not done. Without them all that matters is in `made_from`.
    """

    def __init__(
        self,
        folder: Path,
        made_from: str,
        order: Sequence[tuple[str, TableSpec]],
        also: Sequence[str] = (),
        shards: Sequence[str] = (),
    ) -> None:
        self.folder, self._order, self._shards = Path(folder), tuple(order), tuple(shards)
        self._intact: set[int] | None = None
        self._damaged: dict[int, str] = {}
        note = self.folder / "parts.json"
        if not note.exists() or made_from not in note.read_text(encoding="utf-8"):
            names = [*(name for name, _ in reversed(self._order)), *also]
            remove(*records(self._committing).values())  # first: parts without a record count for nothing
            remove(*(part for name in names for part in (self.folder / name).glob("part-*.parquet")))
            write_json(note, {"made_from": made_from})
        beyond = [shard for shard in records(self._committing) if self._shards and shard >= len(self._shards)]
        remove(*(record_path(self._committing, shard) for shard in beyond))
        remove(*(part_path(self.folder / name, shard) for name, _ in self._order for shard in beyond))

    @property
    def damaged(self) -> list[str]:
        """What is wrong with committed shards that are therefore not done, one sentence each."""
        self._check()
        return [self._damaged[shard] for shard in sorted(self._damaged)]

    def is_done(self, shard: int) -> bool:
        """Whether a shard is committed, and each of its parts has the bytes that were written."""
        return shard in self._check()

    def write(self, shard: int, tables: dict[str, pa.Table | dict[str, Any]]) -> None:
        """Write a shard's parts, each whole or not at all, and commit them.

        Raises:
            NonFiniteError, TableError: a table is not as declared.
            StorageError: the disk is full or refuses.
        """
        parts = {}
        for name, spec in self._order:
            path = part_path(self.folder / name, shard)
            write_table(path, spec, tables[name])
            rows = pq.read_metadata(path).num_rows
            parts[f"{name}/{path.name}"] = {"bytes": path.stat().st_size, "rows": rows, "sha256": file_hash(path)}
        write_json(record_path(self._committing, shard), {"made_from": self._of(shard), "parts": parts})
        if self._intact is not None:
            self._intact.add(shard)

    @property
    def _committing(self) -> Path:
        return self.folder / self._order[-1][0]

    def _of(self, shard: int) -> str:
        return self._shards[shard] if shard < len(self._shards) else ""

    def _check(self) -> set[int]:
        """The shards that are done."""
        if self._intact is None:
            committed = records(self._committing)
            with ThreadPoolExecutor() as threads:  # hashing releases the interpreter's lock
                found = list(threads.map(self._look, committed, committed.values()))
            self._intact = {shard for shard, is_done in zip(committed, found, strict=True) if is_done}
        return self._intact

    def _look(self, shard: int, record: Path) -> bool:
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            made_from, parts = content["made_from"], content["parts"]
            names = {f"{name}/{part_path(self.folder / name, shard).name}" for name, _ in self._order}
            wrong = "its record names other tables" if names != set(parts) else self._first_wrong(parts)
        except (OSError, ValueError, KeyError, TypeError):
            made_from, wrong = self._of(shard), f"its record {record.name} cannot be read"
        if wrong:
            self._damaged[shard] = f"shard {shard} is damaged and done again: {wrong}"
        return not wrong and made_from == self._of(shard)

    def _first_wrong(self, parts: dict[str, dict[str, Any]]) -> str:
        for name, written in parts.items():
            path = self.folder / name
            if not path.exists():
                return f"{name} is missing"
            if (found := path.stat().st_size) != written["bytes"]:
                return f"{name} has {found:,} of {written['bytes']:,} bytes"
            if file_hash(path) != written["sha256"]:
                return f"{name} has other bytes than were written"
        return ""


def record_path(folder: Path, shard: int) -> Path:
    """Where the record lies that commits a shard, in the folder of the pass's last table."""
    return Path(folder) / f".{part_path(folder, shard).stem}.commit.json"


def records(folder: Path) -> dict[int, Path]:
    """Shard → its record, of all that are committed in the folder of a pass's last table, in order."""
    numbers = {path: path.name.split(".")[1].removeprefix("part-") for path in Path(folder).glob(".part-*.commit.json")}
    return dict(sorted((int(number), path) for path, number in numbers.items() if number.isdecimal()))
