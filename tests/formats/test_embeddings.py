"""Anybody's embeddings: matched by image id, never held twice, every fault explained."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poolscout.errors import DataError, TableError
from poolscout.formats import embedding_files
from poolscout.formats.embeddings import read_embeddings
from poolscout.tables.declared import EMBEDDINGS, SCORES
from poolscout.tables.parquet import float_lists, part_path, write_table

IDS = ["a.png", "b/c.png", "d.png"]
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def table(ids: list, values, kind: pa.DataType | None = None, name: str = "embedding") -> pa.Table:
    return pa.table({"image_id": ids, name: pa.array([list(row) for row in values], kind or pa.list_(pa.float32()))})


def parquet(path: Path, *args, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(*args, **more), path)
    return path


def npy(path: Path, values: np.ndarray, ids: list[str] | None = None) -> Path:
    np.save(path, values)
    if ids is not None:
        path.with_suffix(".ids.txt").write_text("".join(f"{image_id}\n" for image_id in ids))
    return path


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    n=st.integers(1, 30), d=st.integers(1, 5), n_parts=st.integers(1, 4), seed=st.integers(0, 99),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]), fixed=st.booleans(), rows_at_once=st.integers(1, 9),
    form=st.sampled_from(["parts", "file", "npy"]), more=st.integers(0, 5), asked=st.booleans(),
)  # fmt: skip
def test_what_was_written_is_read_in_the_order_that_was_asked_for(
    n, d, n_parts, seed, dtype, fixed, rows_at_once, form, more, asked
) -> None:
    generator = np.random.default_rng(seed)
    ids = [f"ü/{number}.jpg" for number in generator.permutation(n + more)]
    values = generator.normal(size=(n + more, d)).astype(dtype)
    kind = pa.list_(pa.from_numpy_dtype(dtype), d if fixed else -1)
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_files, "_BATCH_ROWS", rows_at_once)
        folder = Path(name)
        if form == "npy":
            path = npy(folder / "e.npy", values, ids)
        elif form == "file":
            path = parquet(folder / "e.parquet", ids, values, kind, name="vector")
        else:
            path = folder / "embeddings"
            for number, rows in enumerate(np.array_split(np.arange(n + more), n_parts)):
                parquet(part_path(path, number), [ids[row] for row in rows], values[rows], kind)
        order = generator.permutation(n + more)[:n] if asked else np.arange(n + more)
        wanted = [ids[row] for row in order]
        found = read_embeddings(path, wanted if asked else None)
        assert found.image_ids.to_pylist() == wanted
        assert found.values.dtype == dtype
        assert found.values.flags.c_contiguous
        np.testing.assert_array_equal(found.values, values[order])
        left_out = f"{more} embeddings of images that are not asked for"
        assert (left_out in "".join(found.notes)) == (asked and more > 0)


def test_npy_is_mapped_and_its_rows_are_the_pools(tmp_path: Path) -> None:
    path = npy(tmp_path / "e.npy", VALUES)
    found = read_embeddings(path, pa.chunked_array([IDS]))
    assert isinstance(found.values, np.memmap)
    assert not found.values.flags.writeable
    assert (found.image_ids.to_pylist(), found.source) == (IDS, path)
    path.with_suffix(".ids.txt").write_bytes("\ufeffa.png\r\nb/c.png\r\nd.png".encode())
    assert isinstance(read_embeddings(path, IDS).values, np.memmap), "the same order needs no copy"
    np.testing.assert_array_equal(read_embeddings(path, IDS[::-1]).values, VALUES[::-1])


def test_what_a_pass_writes_is_read(tmp_path: Path) -> None:
    write_table(part_path(tmp_path, 0), EMBEDDINGS, {"image_id": IDS, "embedding": float_lists(VALUES)})
    write_table(part_path(tmp_path, 1), EMBEDDINGS, {"image_id": [], "embedding": float_lists(VALUES[:0])})
    np.testing.assert_array_equal(read_embeddings(tmp_path).values, VALUES)


def test_nan_is_left_for_those_who_know_what_to_do(tmp_path: Path) -> None:
    bad = np.array([[np.nan], [np.inf]], np.float32)
    np.testing.assert_array_equal(read_embeddings(parquet(tmp_path / "e.parquet", IDS[:2], bad)).values, bad)


def test_one_array_and_a_few_rows_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40_000, 200), np.float32)  # 32 MB, one row group
    ids = [str(number) for number in range(len(values))]
    pq.write_table(pa.table({"image_id": ids, "embedding": float_lists(values)}), tmp_path / "e.parquet")
    batches, held = embedding_files.EmbeddingFiles._batches, []
    before = pa.total_allocated_bytes()

    def watched(self, columns: list[str]):
        for path, batch in batches(self, columns):
            held.append(pa.total_allocated_bytes() - before)
            yield path, batch

    monkeypatch.setattr(embedding_files.EmbeddingFiles, "_batches", watched)
    tracemalloc.start()
    found = read_embeddings(tmp_path / "e.parquet", ids[::-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found.values[::-1], values)
    assert values.nbytes <= peak <= 1.2 * values.nbytes, "the array, the ids' positions"
    assert len(held) > 15
    assert max(held) < 0.65 * values.nbytes, "a few pages and batches of Parquet"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(["a.png", "a.png", "d.png"], VALUES), r"1 image ids are there more than once[\s\S]*a\.png"),
        (table(IDS, [[1, 2], [1, 2], [1]]), r"another length than the first[\s\S]*1 numbers; images d\.png[\s\S]*2 n"),
        (table(IDS, [[1, 2], [1, None], [1, 2]]), r"has empty cells[\s\S]*images b/c\.png"),
        (table(IDS, [[1, 2], [1, None], [1, 2]], pa.list_(pa.float32(), 2)), r"has empty cells[\s\S]*images b/c\.png"),
        (table(IDS, [[], [], []]), "at least one number"),
        (table(IDS, [[1], [2], [3]], pa.list_(pa.int64())), r"no column of vectors[\s\S]*list<[\s\S]*int64"),
        (table([1, 2, 3], VALUES), r"no text column image_id[\s\S]*int64"),
        (table(["a.png", None, "d.png"], VALUES), "1 rows without an image_id"),
        (table(IDS, VALUES).rename_columns(["image", "embedding"]), "did you mean 'image'"),
        (table(IDS, VALUES, name="x").append_column("y", table(IDS, VALUES)["embedding"]), "or more than one"),
        (table(IDS, VALUES).slice(0, 0), "no embeddings"),
        (table([], []), "no embeddings"),
        (pa.table({"image_id": IDS, "embedding": pa.array([[1.0], None, [2.0]], pa.list_(pa.float32()))}), "b/c.png"),
        (pa.table({"image_id": IDS, "embedding": pa.array([[1.0], None, [2.0]], pa.list_(pa.float32(), 1))}), "b/c"),
    ],
)  # fmt: skip
def test_faults_of_a_parquet_file(tmp_path: Path, rows: pa.Table, message: str) -> None:
    pq.write_table(rows, tmp_path / "e.parquet")
    with pytest.raises(DataError, match=message) as raised:
        read_embeddings(tmp_path / "e.parquet")
    assert raised.value.fix


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (VALUES[0], r"float32 \[4\]"),
        (VALUES.astype(np.int64), r"int64 \[3, 4\]"),
        (VALUES.astype(">f4"), ">f4"),
        (np.asfortranarray(VALUES), "column after column"),
        (VALUES[:, :0], "cannot be read|d at least 1"),
        (np.array([["a"]], object), "Python objects are never loaded"),
        (VALUES[:2], r"got:      2 rows\n  expected: 3 images"),
    ],
)
def test_faults_of_an_npy(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "e.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=message) as raised:
        read_embeddings(tmp_path / "e.npy", IDS)
    assert raised.value.fix


def test_faults_of_the_ids_beside(tmp_path: Path) -> None:
    path = npy(tmp_path / "e.npy", VALUES)
    with pytest.raises(DataError, match=r"which row is which[\s\S]*e\.ids\.txt"):
        read_embeddings(path)
    for ids, message in (
        (["a", "b"], r"3 rows\n  expected: 2 lines in e\.ids\.txt"),
        (["a", "", "c"], "line 2"),
        (["a", "b", "b"], r"e\.ids\.txt: 1 image ids are there more than once[\s\S]*b"),
    ):
        npy(path, VALUES, ids)
        with pytest.raises(DataError, match=message):
            read_embeddings(path)
    path.with_suffix(".ids.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="not text"):
        read_embeddings(path)


def test_faults_of_files_and_folders(tmp_path: Path) -> None:
    parquet(tmp_path / "out" / "embeddings" / "part-00001.parquet", IDS, VALUES)
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    (tmp_path / "x.npy").write_bytes(b"no array")
    np.savez(tmp_path / "x.npz", VALUES)
    for name, error, message in (
        ("none.parquet", DataError, "not there"),
        ("none.npy", DataError, "not there"),
        ("x.parquet", DataError, "cannot be read as Parquet"),
        ("x.npy", DataError, "cannot be read as .npy"),
        ("x.npz", DataError, r"numpy\.save the one array"),
        ("out", DataError, "did you mean .*out/embeddings"),
        ("out/embeddings", TableError, "parts are missing"),
    ):
        with pytest.raises(error, match=message):
            read_embeddings(tmp_path / name, IDS)
    scores = {"image_id": IDS, "x_max": [0.0] * 3, "x_max_per_class": [[0.0]] * 3}
    write_table(tmp_path / "scores.parquet", SCORES, scores)
    with pytest.raises(TableError, match="not a poolscout 'embeddings' table"):
        read_embeddings(tmp_path / "scores.parquet")
    parquet(tmp_path / "two" / "1.parquet", IDS, VALUES)
    parquet(tmp_path / "two" / "2.parquet", ["e"], VALUES[:1], pa.list_(pa.float64()))
    with pytest.raises(DataError, match=r"its parts differ[\s\S]*2\.parquet"):
        read_embeddings(tmp_path / "two")
    parquet(tmp_path / "two" / "2.parquet", ["e"], VALUES[:1, :3])
    with pytest.raises(DataError, match=r"3 numbers; images e\n  expected: 4"):
        read_embeddings(tmp_path / "two")


def test_images_without_an_embedding_are_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "e.parquet", IDS, VALUES)
    with pytest.raises(DataError, match=r"2 of 3 images have no embedding[\s\S]*x, y[\s\S]*such as 'a\.png'"):
        read_embeddings(path, ["x", "a.png", "y"])
    with pytest.raises(DataError, match="images that need embeddings: 1 image ids"):
        read_embeddings(path, ["a.png", "a.png"])
