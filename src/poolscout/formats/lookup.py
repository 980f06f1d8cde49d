"""Rows of large tables by name, without a Python object a row."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc


class Rows(Mapping[str, int]):
    """name → its row, by bisection.

    Args:
        names: text, each once, in rising order; see `in_order`.
    """

    def __init__(self, names: pa.ChunkedArray) -> None:
        self.names = names
        self._next = 0  # the row after the one that was asked for last: passes go through a table in order

    def __getitem__(self, name: str) -> int:
        row, n = self._next, len(self.names)
        if row >= n or self.names[row].as_py() != name:
            row = bisect_left(range(n), name, key=lambda row: self.names[row].as_py())
            if row == n or self.names[row].as_py() != name:
                raise KeyError(name)
        self._next = row + 1
        return row

    def __iter__(self) -> Iterator[str]:
        for chunk in self.names.chunks:
            for start in range(0, len(chunk), 1000):
                yield from chunk.slice(start, 1000).to_pylist()

    def __len__(self) -> int:
        return len(self.names)


def in_order(table: pa.Table, name: str) -> pa.Table:
    """The table in rising order of a column of text; as it is where it is so already, as pool tables are."""
    names = table[name]
    if len(names) > 1 and not pc.all(pc.less(names[:-1], names[1:])).as_py():
        return table.take(pc.sort_indices(names))
    return table
