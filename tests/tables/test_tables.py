"""Declared tables: what is refused, what survives a round trip, what a crash leaves behind."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.errors import CorruptPartError, NonFiniteError, StorageError, TableError
from poolscout.tables import atomic
from poolscout.tables.atomic import atomic_path, write_json
from poolscout.tables.declared import BOXES, EMBEDDINGS, LABELLED, POOL, SCORES, TABLES
from poolscout.tables.document import tables_markdown
from poolscout.tables.parquet import iter_parts, part_path, read_table, write_table

LABELLED_ROWS = {
    "image_id": ["a", "b"],
    "n_boxes": [1, 0],
    "delivery": [0, 0],
    "source": ["oracle", "oracle"],
}


def test_round_trip_keeps_values_types_and_stamp(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", LABELLED, LABELLED_ROWS)
    table = read_table(tmp_path / "t.parquet", LABELLED)
    assert table.to_pydict() == LABELLED_ROWS
    assert table.schema.field("n_boxes").type == pa.int32()
    assert pq.read_schema(tmp_path / "t.parquet").metadata[b"poolscout.version"] == b"1"


def test_same_table_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, LABELLED, LABELLED_ROWS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_parts_are_read_in_order_and_one_by_one(tmp_path: Path) -> None:
    for index, image_id in ((1, "second"), (0, "first")):
        write_table(part_path(tmp_path, index), LABELLED, {**LABELLED_ROWS, "image_id": [image_id, image_id + "'"]})
    assert [part["image_id"][0].as_py() for part in iter_parts(tmp_path, LABELLED)] == ["first", "second"]
    assert read_table(tmp_path, LABELLED).num_rows == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "lacks columns source"),
        ({"colour": ["red", "blue"]}, "undeclared columns colour"),
        ({"n_boxes": ["many", "few"]}, "cannot be converted"),
        ({"image_id": ["a", None]}, "1 empty cells"),
    ],
)
def test_a_table_that_differs_from_its_declaration_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    rows = {key: values for key, values in {**LABELLED_ROWS, **change}.items() if values is not None}
    with pytest.raises(TableError, match=message):
        write_table(tmp_path / "t.parquet", LABELLED, rows)
    assert not list(tmp_path.iterdir())


def test_metadata_columns_are_kept_where_the_declaration_allows_them(tmp_path: Path) -> None:
    rows = {
        "image_id": ["a"],
        "uri": ["a"],
        "width": [4],
        "height": [3],
        "sequence": ["s"],
        "frame": [None],
        "weather": ["fog"],
    }
    write_table(tmp_path / "t.parquet", POOL, rows)
    assert read_table(tmp_path / "t.parquet", POOL).to_pydict() == rows


def test_nan_is_refused_with_the_image_ids(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=re.compile("x1_px.*\n.*dark.jpg")):
        write_table(
            tmp_path / "t",
            BOXES,
            {"image_id": ["ok.jpg", "dark.jpg"], "class": ["car"] * 2, "x1_px": [0.0, float("nan")],
             "y1_px": [0.0] * 2, "x2_px": [1.0] * 2, "y2_px": [1.0] * 2},
        )  # fmt: skip
    with pytest.raises(NonFiniteError, match="b.jpg"):
        write_table(tmp_path / "t", EMBEDDINGS, {"image_id": ["a.jpg", "b.jpg"], "embedding": [[1.0], [float("inf")]]})


def test_a_family_of_columns_has_one_type() -> None:
    table = pa.table({"image_id": ["a"], "entropy_max": [0.5], "entropy_max_per_class": [[0.5, 0.25]]})
    checked = SCORES.check(table, "here")
    assert checked.schema.field("entropy_max").type == pa.float32()
    assert checked.schema.field("entropy_max_per_class").type.value_type == pa.float32()


def test_another_table_or_version_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", LABELLED, LABELLED_ROWS)
    with pytest.raises(
        TableError, match=re.compile("not a poolscout 'boxes' table.*got: +table 'labelled'", re.DOTALL)
    ):
        read_table(tmp_path / "t.parquet", BOXES)
    table = pq.read_table(tmp_path / "t.parquet").replace_schema_metadata(
        {b"poolscout.table": b"labelled", b"poolscout.version": b"99"}
    )
    pq.write_table(table, tmp_path / "new.parquet")
    with pytest.raises(TableError, match=re.compile("unknown schema version.*99", re.DOTALL)):
        read_table(tmp_path / "new.parquet", LABELLED)


def test_a_truncated_part_is_named(tmp_path: Path) -> None:
    path = part_path(tmp_path, 0)
    write_table(path, LABELLED, LABELLED_ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptPartError, match=r"part-00000.parquet: cannot be read"):
        read_table(tmp_path, LABELLED)


def test_a_missing_table_says_which(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="'labelled' is not there"):
        read_table(tmp_path / "none.parquet", LABELLED)
    with pytest.raises(TableError, match="no parts of table 'labelled'"):
        read_table(tmp_path, LABELLED)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"kept": 1})
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.json") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert "kept" in (tmp_path / "a.json").read_text()


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StorageError, match=re.compile("disk is full.*finished parts are kept", re.DOTALL)):
        write_table(tmp_path / "t.parquet", LABELLED, LABELLED_ROWS)
    assert not list(tmp_path.iterdir())


def test_the_documentation_is_the_declarations() -> None:
    page = Path(__file__).parents[2] / "docs" / "tables.md"
    assert page.read_text(encoding="utf-8") == tables_markdown(), "run `make docs`"
    assert all(f"| `{column.name}` |" in tables_markdown() for spec in TABLES for column in spec.columns)
