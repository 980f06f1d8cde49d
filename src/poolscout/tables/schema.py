"""What a table is: its columns declared once, checked at each write and read, printed in the docs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import NonFiniteError, TableError, some

NAME_KEY, VERSION_KEY = b"poolscout.table", b"poolscout.version"


@dataclass(frozen=True)
class Column:
    """One declared column.

    Attributes:
        name: the column's name; `*` makes it a family (`*_per_class`), any number of columns of one type.
        type: Arrow type; a list's length is not part of the declaration.
        unit: px, nats, images, … or "" where there is none.
        meaning: one sentence.
        nullable: whether a cell may be empty.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    nullable: bool = False

    @property
    def is_family(self) -> bool:
        return "*" in self.name


@dataclass(frozen=True)
class TableSpec:
    """A table's declaration; `open_to_metadata` tables keep any further columns the user brings."""

    name: str
    version: int
    meaning: str
    columns: tuple[Column, ...]
    open_to_metadata: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The declared columns as Arrow names and types, without families."""
        return pa.schema([(c.name, c.type) for c in self.columns if not c.is_family])

    def empty(self) -> pa.Table:
        """The table with no rows."""
        return self.from_rows([])

    def from_rows(self, rows: list[dict[str, Any]]) -> pa.Table:
        """The table of `rows`, each with the declared columns.

        Raises:
            TableError: a value of the wrong type, or an empty cell where there may be none.
        """
        return self.check(pa.Table.from_pylist(rows, schema=self.schema), self.name)

    def column_for(self, name: str) -> Column | None:
        """The declaration that `name` falls under: an exact one first, then the first family that matches."""
        exact = [c for c in self.columns if c.name == name]
        families = [c for c in self.columns if c.is_family and fnmatchcase(name, c.name)]
        return (exact + families + [None])[0]

    def check(self, table: pa.Table, where: str) -> pa.Table:
        """`table` with the declared types and column order, stamped with this declaration's name and version.

        Raises:
            TableError: a column is missing, unknown, of another type, or empty where it may not be.
            NonFiniteError: NaN or infinity in a floating column; names the first image ids.
        """
        missing = [c.name for c in self.columns if not c.is_family and c.name not in table.column_names]
        if missing:
            raise TableError(
                f"{where}: table '{self.name}' lacks columns {some(missing)}",
                got=table.column_names,
                expected=[c.name for c in self.columns],
                fix="rename or add the columns; docs/tables.md lists them",
            )
        unknown = [name for name in table.column_names if self.column_for(name) is None]
        if unknown and not self.open_to_metadata:
            raise TableError(
                f"{where}: table '{self.name}' has undeclared columns {some(unknown)}",
                got=table.column_names,
                expected=[c.name for c in self.columns],
                fix="remove them, or declare them in poolscout/tables/declared.py",
            )
        declared = [c.name for c in self.columns if not c.is_family]
        order = declared + [name for name in table.column_names if name not in declared]
        arrays = [self._checked(table, name, where) for name in order]
        metadata = {
            **(table.schema.metadata or {}),
            NAME_KEY: self.name.encode(),
            VERSION_KEY: b"%d" % self.version,
        }
        return pa.Table.from_arrays(arrays, names=order, metadata=metadata)

    def check_some(self, table: pa.Table, names: Sequence[str], where: str) -> pa.Table:
        """These columns of `table`, in this order, each with its declared type.

        Raises:
            TableError, NonFiniteError: as `check`.
        """
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise TableError(
                f"{where}: table '{self.name}' lacks columns {some(missing)}", got=table.column_names,
                expected=list(names), fix="write the table again; docs/tables.md lists the columns",
            )  # fmt: skip
        arrays = [self._checked(table, name, where) for name in names]
        return pa.Table.from_arrays(arrays, names=list(names), metadata=table.schema.metadata)

    def _checked(self, table: pa.Table, name: str, where: str) -> pa.ChunkedArray:
        column, values = self.column_for(name), table.column(name)
        kind = values.type if column is None else column.type
        try:
            values = values if _same_kind(values.type, kind) else values.cast(kind)
            values.validate(full=True)  # text that is not UTF-8 would be found by whoever uses it
        except pa.ArrowException as error:
            raise TableError(
                f"{where}: column '{name}' of table '{self.name}' has the wrong type",
                got=f"{values.type} ({str(error).splitlines()[0]})",
                expected=f"{kind}" if column is None else f"{kind}: {column.meaning}",
                fix="convert the column",
            ) from error
        if column is None:
            return values
        if values.null_count and not column.nullable:
            raise TableError(
                f"{where}: column '{name}' of table '{self.name}' has {values.null_count} empty cells",
                got=f"rows {some(pc.indices_nonzero(values.is_null()).to_pylist())}",
                expected=f"a value in every row: {column.meaning}",
                fix="fill the cells or drop the rows",
            )
        _refuse_non_finite(table, name, values, where)
        return values


def check_stamp(spec: TableSpec, metadata: dict[bytes, bytes] | None, where: str) -> None:
    """Refuse a file that names another table or a schema version this release does not know."""
    stamp = metadata or {}
    name, version = stamp.get(NAME_KEY, b"").decode(), stamp.get(VERSION_KEY, b"").decode()
    if name != spec.name:
        raise TableError(
            f"{where}: not a poolscout '{spec.name}' table",
            got=f"table {name!r}" if name else "a file without poolscout's stamp",
            expected=f"table {spec.name!r}",
            fix="check the path",
        )
    if version != str(spec.version):
        raise TableError(
            f"{where}: table '{name}' has an unknown schema version",
            got=f"version {version}",
            expected=f"version {spec.version}",
            fix="use the poolscout release that wrote it, or run the stage again",
        )


def _same_kind(got: pa.DataType, declared: pa.DataType) -> bool:
    if pa.types.is_list(declared):
        return (pa.types.is_list(got) or pa.types.is_fixed_size_list(got)) and got.value_type == declared.value_type
    return got == declared


def _refuse_non_finite(table: pa.Table, name: str, values: pa.ChunkedArray, where: str) -> None:
    nested = pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type)
    flat = pc.list_flatten(values) if nested else values
    if not pa.types.is_floating(flat.type) or pc.all(pc.is_finite(flat)).as_py() is not False:
        return
    bad = pc.indices_nonzero(pc.invert(pc.is_finite(pc.fill_null(flat, 0.0))))
    rows = pc.unique(pc.list_parent_indices(values).take(bad)) if nested else bad
    who = table.column("image_id").take(rows).to_pylist() if "image_id" in table.column_names else rows.to_pylist()
    raise NonFiniteError(
        f"{where}: column '{name}' has NaN or infinite values for {len(who)} rows",
        got=some(who),
        expected="finite numbers",
        fix="look at these images and at the model that scored them",
    )
