"""Writes docs/tables.md from the declarations: `python -m poolscout.tables.document docs/tables.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from poolscout.tables.atomic import write_text
from poolscout.tables.declared import TABLES
from poolscout.tables.schema import TableSpec

HEAD = """# The tables of a run

Generated from `src/poolscout/tables/declared.py` by `make docs`; do not edit.

Every table is Parquet and keyed by `image_id`. A table named in the plural below is a folder of `part-*.parquet`;
its schema metadata carries `poolscout.table` and `poolscout.version`, and a reader refuses a version it does not know.
A `*` in a column's name stands for a family of columns.
"""


def tables_markdown() -> str:
    """All declared tables as one Markdown page."""
    return HEAD + "".join(_section(spec) for spec in TABLES)


def _section(spec: TableSpec) -> str:
    rows = [
        f"| `{c.name}` | {c.type}{'' if not c.nullable else ', may be empty'} | {c.unit or '–'} | {c.meaning} |"
        for c in spec.columns
    ]
    if spec.open_to_metadata:
        rows.append("| *any other* | as in the source | – | metadata the source carries |")
    head = f"\n## {spec.name} (version {spec.version})\n\n{spec.meaning[0].upper()}{spec.meaning[1:]}.\n\n"
    return head + "| column | type | unit | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), tables_markdown())
