"""Tables as arrays: the same as slow Python loops, and no copy of the vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.config import SelectionConfig
from poolscout.errors import DataError, NonFiniteError, TableError
from poolscout.formats.embeddings import Embeddings
from poolscout.formats.id_lists import read_image_ids
from poolscout.selection import api, select_images
from poolscout.selection.columns import embedding_rows, predicted_boxes, sequence_codes
from poolscout.selection.compare import coverage, overlap
from poolscout.selection.gates import NO_CODE
from poolscout.selection.registry import Candidates, Picked, Sampler, samplers
from poolscout.tables.parquet import float_lists
from tests.oracles.constraints import distance

IDS = pa.array(["a", "b", "c", "d"])
NONE = pa.array([], pa.string())
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def seen() -> Iterator[list[Candidates]]:
    """What a sampler that looks at embeddings is given."""
    given: list[Candidates] = []

    def pick(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
        given.append(candidates)
        return Picked(np.arange(n))

    samplers.add("spy", Sampler("spy", pick, ("embeddings",)))
    yield given
    del samplers._entries["spy"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_vectors_are_not_copied(seen: list[Candidates], order: list[int]) -> None:
    """Neither those of a table with one chunk nor brought ones; `rows` says where each candidate's is."""
    theirs = IDS.take(pa.array(order))
    column = float_lists(VECTORS[order])
    brought = Embeddings(pa.chunked_array([theirs]), VECTORS[order].copy(), Path("e.npy"))
    for embeddings, memory in (
        (pa.table({"image_id": theirs, "embedding": column}), column.flatten().to_numpy()),
        (brought, brought.values),
    ):
        select_images(pa.table({"image_id": IDS}), embeddings, SelectionConfig(sampler="spy"), 4, 0, labelled=["b"])
        given = seen.pop()
        assert np.shares_memory(given.embeddings, memory)
        assert (given.rows is None) == (order == [0, 1, 2, 3])
        np.testing.assert_array_equal(given.embeddings[given.rows_of(np.arange(4))], VECTORS)
        np.testing.assert_array_equal(given.labelled_embeddings, VECTORS[1:2])


def test_chunks_are_put_together_and_a_slice_is_a_slice() -> None:
    table = pa.table({"image_id": IDS, "embedding": float_lists(VECTORS)})
    pieces = pa.concat_tables([table.slice(2), table.slice(0, 2)])
    values, rows, _ = embedding_rows(pieces, IDS, NONE)
    np.testing.assert_array_equal(values[rows], VECTORS)
    values, rows, _ = embedding_rows(table.slice(1, 2), IDS[1:3], NONE)
    assert rows is None
    np.testing.assert_array_equal(values, VECTORS[1:3])


def test_vectors_that_cannot_be_used() -> None:
    twice = pa.table({"image_id": ["a", "b", "b"], "embedding": float_lists(VECTORS[:3])})
    with pytest.raises(TableError, match=r"1 embeddings are there twice[\s\S]*b"):
        embedding_rows(twice, IDS[:2], NONE)
    uneven = pa.table({"image_id": ["a", "b"], "embedding": pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32()))})
    with pytest.raises(TableError, match="differ in length"):
        embedding_rows(uneven, IDS[:2], NONE)
    sick = VECTORS.copy()
    sick[3, 1] = np.nan
    table = pa.table({"image_id": IDS, "embedding": float_lists(sick)})
    values, rows, _ = embedding_rows(table, IDS[:3], NONE)  # one that is not used does not matter
    assert (len(values), rows.tolist()) == (4, [0, 1, 2])
    with pytest.raises(NonFiniteError, match=r"embedding[\s\S]*d"):
        embedding_rows(table, IDS[:3], IDS[3:])


def test_finite_numbers_are_looked_for_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_NUMBERS_AT_ONCE", 7)
    values = np.zeros((10, 3))
    values[[2, 9], 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"2 rows[\s\S]*positions 2, 9"):
        api.check_finite(values, "x")
    with pytest.raises(NonFiniteError, match=r"2 rows[\s\S]*got:      c, a\n"):
        api.check_finite(values, "x", pa.array(["a", "b", "c", "d"])[::-1], np.array([0, 2, 4, 9]))
    api.check_finite(values, "x", rows=np.array([0, 1, 3]))


def test_sequences_are_numbered_by_name() -> None:
    names = ["b", "ü", "a", "b", "Z", "a"]
    rows = pa.table({"sequence": pa.chunked_array([names[:2], names[2:]])})
    codes, others = sequence_codes(rows, pa.chunked_array([["Z", "none", "ü"]]))
    assert codes.tolist() == np.unique(names, return_inverse=True)[1].tolist()
    assert others.tolist() == [0, NO_CODE, 3]
    with pytest.raises(TableError, match="1 candidates have no sequence"):
        sequence_codes(pa.table({"sequence": ["a", None]}))


def test_boxes_are_those_of_the_ensemble() -> None:
    def part(*rows: tuple[str, int, float]) -> pa.Table:
        ids, members, probabilities = zip(*rows, strict=True)
        return pa.table(
            {
                "image_id": ids,
                "member": pa.array(members, pa.int32()),
                "probability": pa.array(probabilities, pa.float32()),
            }
        )

    parts = [part(("a", -1, 0.9), ("c", -1, 0.3), ("a", 0, 0.9)), part(("a", -1, 0.3), ("x", -1, 0.9))]
    assert predicted_boxes(IDS, parts, 0.3).tolist() == [2, 0, 1, 0]
    assert predicted_boxes(IDS, parts, 0.5).tolist() == [1, 0, 0, 0]
    assert predicted_boxes(IDS, [], 0.5).tolist() == [0] * 4
    assert predicted_boxes(IDS, [part(("b", 0, 0.9), ("b", 0, 0.8))], 0.5).tolist() == [0, 2, 0, 0]
    with pytest.raises(TableError, match="no boxes of the ensemble"):
        predicted_boxes(IDS, [part(("b", 0, 0.9), ("b", 1, 0.8))], 0.5)


@pytest.mark.parametrize("name", ["l.txt", "l.csv", "l.parquet", "folder"])
def test_lists_of_images(tmp_path: Path, name: str) -> None:
    path, ids = tmp_path / name, ["0012", "a b.jpg", "ü,1.jpg"]
    table = pa.table({"rank": [0, 1, 2], "image_id": ids})
    if name == "l.txt":
        path.write_text("\ufeff" + "\r\n".join(ids) + "\n\n", encoding="utf-8")
    elif name == "l.csv":
        path.write_text('rank,image_id\n0,0012\n1,a b.jpg\n2,"ü,1.jpg"\n', encoding="utf-8")
    elif name == "folder":
        path.mkdir()
        pq.write_table(table.slice(0, 1), path / "part-00000.parquet")
        pq.write_table(table.slice(1), path / "part-00001.parquet")
    else:
        pq.write_table(table, path)
    assert read_image_ids(path).to_pylist() == ids


def test_lists_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("image,rank\na,1\n")
    (tmp_path / "y.csv").write_text("image_id,rank\n,1\n")
    (tmp_path / "z.parquet").write_text("PAR")
    for name, message in (("x.csv", "no column image_id"), ("y.csv", "empty cells"), ("z.parquet", "cannot be read"),
                          ("none.txt", "cannot be read")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            read_image_ids(tmp_path / name)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_coverage_is_what_a_loop_finds(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolscout.selection.compare._CANDIDATES", 7)
    monkeypatch.setattr("poolscout.selection.compare._PICKS", 2)
    vectors = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    rows, picks = np.arange(30)[::-1].copy(), np.array([3, 8, 20, 21, 29])
    own = vectors[rows]
    nearest = [min(distance(one, own[p], metric) for p in picks) for one in own]
    largest, mean, n = coverage(Candidates(30, embeddings=vectors, rows=rows, metric=metric), picks)
    assert (largest, mean, n) == (pytest.approx(max(nearest)), pytest.approx(np.mean(nearest)), 30)
    assert overlap(np.array([1, 2, 3]), np.array([3, 9])) == 0.5
    assert overlap(np.array([], np.int64), np.array([3])) == 0.0
    monkeypatch.setattr("poolscout.selection.compare.N_SAMPLED", 10)
    largest, _, n = coverage(Candidates(30, embeddings=vectors, rows=rows, metric=metric), picks)
    assert n == 10
    assert largest <= max(nearest) + 1e-9
