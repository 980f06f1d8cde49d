"""Short-lists against the same condition in plain Python, and what a condition must not be able to do."""

from __future__ import annotations

import contextlib
import csv
import datetime
import warnings
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.config import ShortlistConfig, build_config
from poolscout.errors import ConfigError, DataError, PoolscoutError, RunError
from poolscout.pool import shortlist as module
from poolscout.pool.condition import FUNCTIONS, MOST_CHARACTERS, parse_condition
from poolscout.pool.shortlist import shortlist
from poolscout.pool.shortlist_stage import pool_path, shortlisted
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import read_manifest
from poolscout.tables.parquet import float_lists, part_path, read_table, write_table
from poolscout.tables.runfolder import RunFolder

N = 60


def pool_of(n: int = N, **columns: Any) -> pa.Table:
    plain = {
        "image_id": [f"clip{i // 10}/{i:04d}.jpg" for i in range(n)], "uri": [f"/data/{i:04d}.jpg" for i in range(n)],
        "width": pa.array([64] * n, pa.int32()), "height": pa.array([48] * n, pa.int32()),
        "sequence": [f"clip{i // 10}" for i in range(n)], "frame": pa.array(range(n), pa.int64()),
        "time_of_day": pa.array([("day", "night", None)[i % 3] for i in range(n)]),
        "speed_kmh": [i % 20 * 1.5 for i in range(n)], "Odd Name": pa.array([i % 2 for i in range(n)], pa.int8()),
    }  # fmt: skip
    return POOL.check(pa.table(plain | columns), "test")


POOL_60 = pool_of()
ROWS = POOL_60.to_pylist()


def ids(table: pa.Table) -> list[str]:
    return table["image_id"].to_pylist()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores as a pass writes them: in parts, with lists, not of every image, and in another order."""
    folder = tmp_path_factory.mktemp("round") / "scores"
    folder.mkdir()
    for part, rows in enumerate((range(40, 20, -1), range(0, 20))):
        values = np.array([i / 100 for i in rows], np.float32)
        table = {
            "image_id": [ROWS[i]["image_id"] for i in rows], "mi_max": values, "speed_kmh": values,
            "mi_max_per_class": float_lists(np.stack([values, 1 - values], 1)),
        }  # fmt: skip
        pq.write_table(pa.table(table), part_path(folder, part))
    return folder


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("side") / "weather.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image_id", "weather"], *([row["image_id"], "rain"] for row in ROWS[::7])])
    return path


def test_a_condition_keeps_whole_rows_in_the_pools_order() -> None:
    found = shortlist(POOL_60, "time_of_day = 'night' AND speed_kmh > 5")
    expected = [row for row in ROWS if row["time_of_day"] == "night" and row["speed_kmh"] > 5]
    assert found.pool.to_pylist() == expected
    assert found.pool.schema.equals(POOL_60.schema, check_metadata=True)
    # NULL AND false is false: only where the speed would do is the answer open.
    n_unknown = sum(row["time_of_day"] is None and row["speed_kmh"] > 5 for row in ROWS)
    assert (found.n_rows, found.n_unknown, found.n_matched) == (N, n_unknown, {})


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_condition_of_comparisons_keeps_what_python_keeps(data: Any) -> None:
    """Three-valued logic, as SQL has it: None is unknown."""
    comparisons = st.sampled_from([
        ("time_of_day = 'night'", lambda row: None if row["time_of_day"] is None else row["time_of_day"] == "night"),
        ("speed_kmh >= 12", lambda row: row["speed_kmh"] >= 12),
        ("frame % 7 < 3", lambda row: row["frame"] % 7 < 3),
        ("time_of_day IS NULL", lambda row: row["time_of_day"] is None),
        ("\"odd name\" IN (1, 3) /* AND */", lambda row: row["Odd Name"] in (1, 3)),
        ("sequence LIKE '%3'", lambda row: row["sequence"].endswith("3")),
    ])  # fmt: skip

    def both(left: Any, right: Any) -> Any:
        return lambda row: _least(left(row), right(row))

    def either(left: Any, right: Any) -> Any:
        return lambda row: _not(_least(_not(left(row)), _not(right(row))))

    trees = st.recursive(
        comparisons,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda p: (f"({p[0][0]} AND {p[1][0]})", both(p[0][1], p[1][1]))),
            st.tuples(inner, inner).map(lambda p: (f"({p[0][0]}\nOR {p[1][0]})", either(p[0][1], p[1][1]))),
            inner.map(lambda p: (f"NOT {p[0]}", lambda row: _not(p[1](row)))),
        ),
        max_leaves=6,
    )
    where, keeps = data.draw(trees)
    answers = [keeps(row) for row in ROWS]
    if True not in answers:
        with pytest.raises(DataError, match="no image is kept"):
            shortlist(POOL_60, where)
        return
    found = shortlist(POOL_60, where)
    assert found.pool.to_pylist() == [row for row, kept in zip(ROWS, answers, strict=True) if kept]
    assert found.n_unknown == answers.count(None)


def _least(left: bool | None, right: bool | None) -> bool | None:
    return False if False in (left, right) else None if None in (left, right) else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("scores.mi_max > 0.15", [*range(16, 20), *range(21, 41)]),
        ("mi_max > 0.15 AND weather = 'rain'", [21, 28, 35]),
        ("weather.weather IS NULL AND mi_max < 0.03", [1, 2]),
        ("list_max(mi_max_per_class) > 0.95", [0, 1, 2, 3, 4]),
        ("scores.mi_max_per_class[1] > 0.385", [39, 40]),
        ("scores.speed_kmh > 0.385 OR pool.speed_kmh > 28", [19, 39, 40, 59]),
        ("image_id IN ('clip0/0003.jpg', 'clip5/0059.jpg')", [3, 59]),
        ("SCORES.image_id IS NULL AND Weather = 'rain'", [42, 49, 56]),
        ("mi_max BETWEEN 0.0995 AND 0.115 AND image_id LIKE 'clip1/%'", [10, 11]),
        ("CASE WHEN weather = 'rain' THEN frame < 10 ELSE frame = 50 END", [0, 7, 50]),
    ],
)
def test_tables_are_joined_by_image_id(where: str, expected: list[int], scores: Path, weather: Path) -> None:
    found = shortlist(POOL_60, where, {"scores": scores, "weather": weather})
    assert found.pool["frame"].to_pylist() == expected
    assert found.n_matched == {"scores": 40, "weather": 9}


def test_of_a_side_table_only_rows_of_the_pools_images_count(tmp_path: Path) -> None:
    path = tmp_path / "side.parquet"
    rows = ["not/there.jpg"] * 3 + [None, None, "clip0/0002.jpg"]
    pq.write_table(pa.table({"image_id": rows, "x": range(6)}), path)
    assert ids(shortlist(POOL_60, "x = 5", {"side": path}).pool) == ["clip0/0002.jpg"]


def test_ids_made_of_digits_stay_texts_in_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "side.csv"
    path.write_text("image_id,x\n0001,1\n0002,2\n")
    pool = pool_of(3, image_id=["0000", "0001", "0002"])
    assert ids(shortlist(pool, "x > 1", {"side": path}).pool) == ["0002"]


def test_types_and_times(tmp_path: Path) -> None:
    moments = [datetime.datetime(2026, 1, 1, hour, tzinfo=datetime.UTC) for hour in range(24)]
    pool = pool_of(
        24, taken=pa.array(moments, pa.timestamp("us", "UTC")), camera=pa.array(["a", "b"] * 12).dictionary_encode()
    )
    found = shortlist(pool, "hour(taken) >= 22 OR taken < '2026-01-01 02:00:00+00' AND camera = 'b'")
    assert found.pool["frame"].to_pylist() == [1, 22, 23]
    assert found.pool.schema.equals(pool.schema)


def test_large_pools_keep_their_order() -> None:
    """More rows than DuckDB handles at a time, by several threads."""
    n = 400_000
    pool = pa.table({"image_id": [f"{i:07d}" for i in range(n)], "sequence": ["s"] * n, "x": np.arange(n) % 10})
    assert found_rows(pool, "x = 3") == list(range(3, n, 10))


def found_rows(pool: pa.Table, where: str) -> list[int]:
    return [int(image_id) for image_id in ids(shortlist(pool, where).pool)]


MISTAKES = {
    "sped_kmh > 5": [
        '"sped_kmh" not found', "    sped_kmh > 5\n    ^^^^^^^^", "pool: speed_kmh DOUBLE, image_id",
        "did you mean 'speed_kmh'?",
    ],
    "scores.mi_min > 5": ['"mi_min"', "scores: mi_max FLOAT", "did you mean 'mi_max'?"],
    "frame > 3 AND\n  tme_of_day = 'night'": ["      tme_of_day = 'night'\n      ^^^^^^^^^^\n", "mean 'time_of_day'?"],
    "speed_kmh > 3": ["Ambiguous", "pool.speed_kmh", "scores.speed_kmh"],
    "frame > > 3": ['syntax error at or near ">"', "    frame > > 3\n            ^"],
    "frame > 'fast'": ["Could not convert string 'fast'", "^^^^^^", "frame BIGINT"],
    "CAST(time_of_day AS INTEGER) > 1": ["Could not convert string", "TRY_CAST"],
    "time_of_day > 5": ["Cannot compare values of type VARCHAR"],
    "lower(frame, 3) = 'a'": ["No function matches", "lower(string VARCHAR)"],
    "uper(time_of_day) = 'NIGHT'": ["uper is not allowed", "did you mean 'upper'?"],
    "frame": ["not true or false", "frame (BIGINT)"],
    "NULL": ["not true or false"],
    "time_of_day": ["not true or false", "VARCHAR"],
    "Odd Name > 1": ["syntax error"],
    "": ["selection list"],
    "-- nothing": ["selection list"],
    "x" * (MOST_CHARACTERS + 1): ["20,001 characters"],
    "frame > 1 \0": ["NUL"],
    "time_of_day = '\ud800'": ["UTF-8"],
    "NOT " * 4000 + "true": ["depth"],
    "(" * 900 + "true" + ")" * 900: [],
}  # fmt: skip


@pytest.mark.parametrize("where", MISTAKES, ids=lambda where: ascii(where[:30]))
def test_a_mistake_gets_duckdbs_words_and_the_columns_there_are(where: str, scores: Path) -> None:
    if not MISTAKES[where]:
        assert shortlist(POOL_60, where).pool.num_rows == N
        return
    with pytest.raises(ConfigError) as caught:
        shortlist(POOL_60, where, {"scores": scores})
    told = str(caught.value)
    assert told.startswith("shortlist.where: ")
    assert not [word for word in MISTAKES[where] if word not in told], told
    assert "LINE" not in told
    told.encode()


def test_no_image_kept_tells_what_each_part_would_keep() -> None:
    with pytest.raises(DataError) as caught:
        shortlist(POOL_60, "time_of_day = 'dusk' AND speed_kmh > 5 AND frame < 30")
    told = str(caught.value)
    n_open = sum(row["time_of_day"] is None and row["speed_kmh"] > 5 and row["frame"] < 30 for row in ROWS)
    assert f"0 of 60 images, {n_open} of them with empty cells (NULL)" in told
    alone = {
        "(time_of_day = 'dusk')": 0,
        "(speed_kmh > 5)": sum(row["speed_kmh"] > 5 for row in ROWS),
        "(frame < 30)": 30,
    }
    assert "".join(f"\n    {n} for {part} alone" for part, n in alone.items()) in told


ATTACKS = [
    # out of the expression
    "1=1) OR (1=1",
    "true) FROM pool WHERE (true",
    "true; DROP VIEW pool",
    "true; COPY pool TO 'SECRET.out'",
    "true; ATTACH 'SECRET.out' AS other",
    "true; INSTALL httpfs",
    "true; LOAD httpfs",
    "true; PRAGMA enable_profiling",
    "true; SET enable_external_access = true",
    "true; SET lock_configuration = false",
    "true -- \n) FROM read_text('SECRET') WHERE (true",
    "true /* ) */ ) UNION ALL SELECT (true",
    "true /* not closed",
    "true UNION SELECT true",
    "true UNION ALL BY NAME SELECT content = 'x' FROM read_text('SECRET')",
    "true FROM read_text('SECRET')",
    "true FROM 'SECRET'",
    "true ORDER BY (SELECT content FROM read_text('SECRET'))",
    "true QUALIFY row_number() OVER () = 1",
    "true LIMIT 1",
    "true AS kept, true",
    "true WINDOW w AS ()",
    "DISTINCT true",
    # queries inside
    "(SELECT count(*) FROM read_csv('SECRET')) > 0",
    "(SELECT content FROM read_text('SECRET')) LIKE '%'",
    "EXISTS (SELECT 1 FROM read_blob('SECRET'))",
    "EXISTS (FROM 'SECRET')",
    "image_id IN (SELECT file FROM glob('/*'))",
    "image_id = ANY (SELECT file FROM glob('/*'))",
    "(WITH a AS (SELECT content FROM read_text('SECRET')) SELECT count(*) FROM a) > 0",
    "(WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT 1 FROM a) SELECT count(*) FROM a) > 0",
    "(SELECT count(*) FROM (SELECT * FROM (SELECT * FROM sniff_csv('SECRET')))) > 0",
    "(SELECT count(*) FROM parquet_metadata('SECRET')) > 0",
    "(SELECT count(*) FROM parquet_schema('SECRET')) > 0",
    "(SELECT count(*) FROM read_json_auto('SECRET')) > 0",
    "(SELECT count(*) FROM duckdb_settings()) > 0",
    "(SELECT count(*) FROM duckdb_secrets()) > 0",
    "(SELECT count(*) FROM information_schema.tables) > 0",
    "(SELECT count(*) FROM 'https://example.org/x.parquet') > 0",
    "(SELECT count(*) FROM POOL_60) > 0",
    "(SELECT count(*) FROM query('SELECT 1')) > 0",
    "(SELECT count(*) FROM pool) > 0",
    "CASE WHEN true THEN EXISTS (FROM 'SECRET') ELSE true END",
    "list_max(ARRAY(SELECT 1)) > 0",
    "frame BETWEEN 0 AND (SELECT 1)",
    "TRY_CAST((SELECT content FROM read_text('SECRET')) AS BOOLEAN)",
    # functions and words that read elsewhere, change something, or are different every time
    "read_text('SECRET') = ''",
    "getenv('HOME') <> ''",
    "current_setting('memory_limit') <> ''",
    "getvariable('x') IS NULL",
    "nextval('s') > 0",
    "setseed(0.5) IS NULL",
    "write_log('x') IS NULL",
    "random() < 0.5",
    "uuid() <> ''",
    "now() > '2020-01-01'",
    "current_date > '2020-01-01'",
    "current_timestamp > '2020-01-01'",
    "current_user = 'duckdb'",
    "current_database() = 'memory'",
    "version() <> ''",
    "system.main.now() > '2020-01-01'",
    "main.abs(frame) >= 0",
    "sleep_ms(1) IS NULL",
    "error('x')",
    "repeat('x', 1000000000) <> ''",
    "len(range(1000000000)) > 0",
    "json_serialize_sql('SELECT 1') <> ''",
    "sum(frame) > 0",
    "row_number() OVER () > 0",
    "count(*) > 0",
    "unnest([1, 2]) > 0",
    "COLUMNS(*) IS NOT NULL",
    "* IS NOT NULL",
    "#1 > 0",
    "frame > ?",
    "frame > $n",
    "len(list_filter([1], lambda x: x > 0)) > 0",
    "len([x for x in [1] if x > 0]) > 0",
    "pool IS NOT NULL",
    "rowid > 0",
    '"#" > 0',
]  # fmt: skip


@pytest.mark.parametrize("where", ATTACKS)
def test_a_condition_reads_nothing_but_its_tables(
    where: str, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("keep-this-quiet,1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        shortlist(POOL_60, where.replace("SECRET", str(secret)), {"scores": scores})
    assert "keep-this-quiet" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv"]


def test_a_condition_on_an_empty_column_keeps_nothing() -> None:
    empty = pool_of(lux=pa.nulls(N, pa.float64()))
    with pytest.raises(DataError, match=r"40 of them with empty cells(.|\n)*0 for \(lux > 0\) alone(.|\n)*20 for"):
        shortlist(empty, "lux > 0 AND time_of_day = 'day'")


def test_columns_may_have_any_name(tmp_path: Path) -> None:
    pool = pool_of(**{"#": list(range(N)), "kept": [0] * N, "in scores": [1] * N})
    side = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"image_id": ids(POOL_60), "##": [i % 2 for i in range(N)], "row": list(range(N))}), side)
    found = shortlist(pool, '"#" < 20 AND "##" = 1 AND kept = 0 AND "in scores" = 1', {"scores": side})
    assert found.pool.to_pylist() == pool.take(list(range(1, 20, 2))).to_pylist()
    with pytest.raises(ConfigError, match="###"):
        shortlist(pool, '"###" < 20', {"scores": side})


@pytest.mark.parametrize("sql", [
    "SELECT * FROM read_csv('SECRET')", "SELECT * FROM read_text('SECRET')", "FROM 'SECRET'", "FROM glob('/*')",
    "COPY (SELECT 1) TO 'SECRET.out'", "ATTACH 'SECRET.db' AS other", "INSTALL httpfs", "LOAD spatial",
    "FROM 'https://example.org/x.parquet'", "SET enable_external_access = true", "SET lock_configuration = false",
    "SET memory_limit = '99GB'", "FROM secret_frame", "EXPORT DATABASE 'SECRET.d'", "RESET enable_external_access",
])  # fmt: skip
def test_even_a_query_that_got_past_the_check_would_reach_nothing(sql: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    secret_frame = pa.table({"a": [1]})
    with module.opened(POOL_60, {}) as (connection, _):
        assert connection.execute("SELECT count(*) FROM pool").fetchall() == [(secret_frame.num_rows * N,)]
        with pytest.raises(duckdb.Error):
            connection.execute(sql.replace("SECRET", str(secret))).fetchall()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_every_allowed_function_exists_and_none_is_volatile() -> None:
    with duckdb.connect() as connection:
        found = connection.execute("SELECT function_name, stability, function_type FROM duckdb_functions()").fetchall()
    known = {name for name, _, _ in found}
    # operators of the parser alone
    assert sorted(FUNCTIONS - known - {"!", "**", "position"}) == []
    assert not FUNCTIONS & {name for name, stability, _ in found if stability == "VOLATILE"}
    assert not FUNCTIONS & {name for name, _, kind in found if kind in ("table", "table_macro", "pragma", "window")} - {
        "if"
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([
    "frame", "time_of_day", "pool", ".", ",", ";", "(", ")", "'", '"', "--", "/*", "*/", "\n", "SELECT", "FROM",
    "WHERE", "UNION", "AS", "AND", "NOT", "=", ">", "1", "NULL", "*", "?", "$1", "CASE", "WHEN", "END", "::",
    "[", "]", "{", "}", "read_text", "WITH", "OVER", "IN", "IS", "LIKE", "lambda", ":", "\\", "é", "\u202e", "$$",
    "true", "e'", "0x1",
]), max_size=12))  # fmt: skip
def test_any_text_is_kept_to_or_refused(words: list[str]) -> None:
    with contextlib.suppress(PoolscoutError):  # anything else is a fault
        assert shortlist(POOL_60, " ".join(words)).n_rows == N


def test_nothing_is_said_by_warnings(scores: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shortlist(POOL_60, "mi_max > 0.1", {"scores": scores})


def test_the_parts_of_a_condition() -> None:
    with duckdb.connect() as connection:
        condition = parse_condition(connection, "a = 1 AND (b > 2 AND (c OR d)) AND NOT t.e")
    assert condition.parts == ("(a = 1)", "(b > 2)", "(c OR d)", "(NOT t.e)")
    assert sorted(condition.columns) == [("a",), ("b",), ("c",), ("d",), ("t", "e")]


def side(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "side.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_several_rows_of_one_image_are_refused_with_its_name(tmp_path: Path) -> None:
    path = side(tmp_path, image_id=["clip0/0001.jpg", "clip0/0002.jpg", "clip0/0001.jpg"], x=[1, 2, 3])
    with pytest.raises(DataError, match="several rows of one image") as caught:
        shortlist(POOL_60, "x > 0", {"side": path})
    assert "clip0/0001.jpg (2 rows)" in str(caught.value)
    assert "0002" not in str(caught.value)


def test_a_table_without_image_id_is_refused_with_its_columns(tmp_path: Path) -> None:
    for columns in ({"id": ["clip0/0001.jpg"], "x": [1]}, {"image_id": [1], "x": [1]}):
        with pytest.raises(DataError, match="no column image_id with texts") as caught:
            shortlist(POOL_60, "x > 0", {"side": side(tmp_path, **columns)})
        assert f"{next(iter(columns))} " in str(caught.value)
        assert "x BIGINT" in str(caught.value)


def test_a_table_of_other_images_is_refused_with_ids_of_both(tmp_path: Path) -> None:
    path = side(tmp_path, image_id=["/mnt/clip0/0001.jpg"], x=[1])
    with pytest.raises(DataError, match="none of the pool's images") as caught:
        shortlist(POOL_60, "x IS NULL", {"side": path})
    assert "/mnt/clip0/0001.jpg" in str(caught.value)
    assert "clip0/0000.jpg" in str(caught.value)


@pytest.mark.parametrize("name", ["pool", "POOL", "1a", "a b", 'a"b', "", "a.b", "é"])
def test_names_that_no_table_may_have(name: str, scores: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        shortlist(POOL_60, "true", {name: scores})


def test_tables_that_cannot_be_read_are_named(tmp_path: Path, scores: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(part_path(scores, 0).read_bytes()[:-10])
    (tmp_path / "broken.csv").write_bytes(b"image_id,x\na,1\nb\n")
    (tmp_path / "empty.csv").write_bytes(b"")
    for name, words in (
        ("none.parquet", "is not there"), ("broken.parquet", "cannot be read"), ("broken.csv", "cannot be read"),
        ("empty.csv", "cannot be read"), (".", "has no parts of a table"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            shortlist(POOL_60, "true", {"side": tmp_path / name})
    with pytest.raises(DataError, match=r"one of these in it: scores"):
        shortlist(POOL_60, "true", {"side": scores.parent})


def test_a_table_damaged_in_its_middle_is_no_traceback(tmp_path: Path) -> None:
    path = side(tmp_path, image_id=ids(POOL_60), x=np.random.default_rng(0).random(N))
    data = bytearray(path.read_bytes())
    data[40:400] = bytes(360)
    path.write_bytes(data)
    with pytest.raises(PoolscoutError):
        shortlist(POOL_60, "x > 0.5", {"side": path})


# In a run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    write_table(part_path(folder.pool, 0), POOL, POOL_60)
    return folder


def test_without_a_condition_there_is_no_stage(run: RunFolder) -> None:
    config = ShortlistConfig()
    assert shortlisted(run, POOL_60, config, print) is POOL_60
    assert pool_path(run, config) == run.pool
    assert list(run.path.rglob("*.manifest.json")) == []


def test_the_stage_is_done_once_and_stale_when_its_condition_or_a_table_changes(run: RunFolder, tmp_path: Path) -> None:
    path, said = side(tmp_path, image_id=ids(POOL_60), x=list(range(N))), []
    config = ShortlistConfig(where="x < 10", tables={"side": path})
    first = shortlisted(run, POOL_60, config, said.append)
    assert ids(first) == ids(POOL_60)[:10]
    assert said == ["short-list: 10 of 60 images kept, 60 of all are in side"]
    assert read_table(pool_path(run, config), POOL).equals(first)
    assert read_manifest(run.path / "pool", "shortlist")["config"] == {"where": "x < 10"}
    assert shortlisted(run, POOL_60, config, said.append).equals(first)
    assert len(said) == 1
    other = config.model_copy(update={"where": "x < 20"})
    with pytest.raises(RunError, match="where"):
        shortlisted(run, POOL_60, other, said.append)
    assert read_table(pool_path(run, config), POOL).equals(first)
    again = RunFolder(run.path, redo_stale=True)
    assert shortlisted(again, POOL_60, other, said.append).num_rows == 20
    side(tmp_path, image_id=ids(POOL_60), x=list(range(1, N + 1)))
    with pytest.raises(RunError, match="table side"):
        shortlisted(run, POOL_60, other, said.append)


def test_a_table_that_is_gone_is_named(run: RunFolder, tmp_path: Path) -> None:
    config = ShortlistConfig(where="x < 10", tables={"side": tmp_path / "gone.parquet"})
    with pytest.raises(DataError, match="is not there"):
        shortlisted(run, POOL_60, config, print)


def test_the_configs_tables_lie_relative_to_it(tmp_path: Path) -> None:
    values = {"pool": {"source": "frames"}, "shortlist": {"where": "x > 1", "tables": {"s": "a/scores", "t": "/b.csv"}}}
    config = build_config(values, base=tmp_path)
    assert config.shortlist.tables == {"s": tmp_path / "a/scores", "t": Path("/b.csv")}
    with pytest.raises(ConfigError, match=r"add shortlist\.where"):
        build_config({"pool": {"source": "frames"}, "shortlist": {"tables": {"s": "a"}}})
    with pytest.raises(ConfigError):
        build_config({"pool": {"source": "frames"}, "shortlist": {"tables": ["a"]}})
