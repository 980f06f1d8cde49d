"""The public function's messages, and tables in and out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch

import poolscout
from poolscout.config import SelectionConfig
from poolscout.errors import CapabilityError, ConfigError, DataError, NonFiniteError, TableError
from poolscout.selection import candidate_rows, check_sampler, select, select_images
from poolscout.selection.registry import Candidates, Picked, Sampler, samplers
from poolscout.tables.declared import SELECTION

SCORES = [0.1, 0.7, 0.4]


def candidates(order: tuple[int, ...] = (0, 1, 2)) -> pa.Table:
    return pa.table(
        {
            "image_id": ["a.jpg", "b.jpg", "c.jpg"],
            "sequence": ["x", "x", "y"],
            "entropy_max": pa.array(SCORES, pa.float32()),
            "entropy_max_per_class": pa.array([[0.1, 0.0], [0.2, 0.7], [0.4, 0.4]], pa.list_(pa.float32())),
        }
    ).take(list(order))


def choose(n: int, sampler: str = "top-n", table: pa.Table | None = None, **more) -> pa.Table:
    given = {"labelled": set(), "rank_by": "entropy_max", "classes": ("car", "person")} | more
    return select_images(
        candidates() if table is None else table, None, SelectionConfig(sampler=sampler), n, 0, **given
    )


@pytest.fixture
def far_from_labelled() -> Iterator[None]:
    """A sampler that looks at embeddings, registered for one test."""

    def pick(given: Candidates, n: int, generator: np.random.Generator) -> Picked:
        assert given.embeddings is not None
        assert given.labelled_embeddings is not None
        own = given.embeddings[given.rows_of(np.arange(given.n))]
        gaps = np.linalg.norm(own[:, None] - given.labelled_embeddings[None], axis=2).min(1)
        return Picked(np.argsort(-gaps, kind="stable")[:n])

    samplers.add("far", Sampler("far", pick, ("embeddings",)))
    yield
    del samplers._entries["far"]


def test_the_public_name_and_its_defaults() -> None:
    assert poolscout.select(SCORES, None, 2).tolist() == [1, 2]
    assert poolscout.select(torch.tensor(SCORES), np.zeros((3, 2)), 2).tolist() == [1, 2]
    assert poolscout.select(np.array(SCORES), None, np.int64(1)).tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sampler": "topn"}, ConfigError, r"no sampler 'topn'[\s\S]*random, random-per-sequence, top-n[\s\S]*'top-n'"),
        ({"metric": "cosin"}, ConfigError, r"no metric[\s\S]*euclidean or cosine[\s\S]*'cosine'"),
        ({"scores": None, "embeddings": np.zeros((3, 2))}, CapabilityError, r"'top-n' needs scores"),
        ({"sampler": "random-per-sequence"}, CapabilityError, r"needs sequences"),
        ({"scores": [[0.1, 0.2]]}, DataError, r"scores have another shape[\s\S]*\(1, 2\)[\s\S]*scores.max"),
        ({"embeddings": np.zeros(3)}, DataError, r"embeddings have another shape[\s\S]*\[n_images, d\]"),
        ({"sequences": [[1], [2], [3]]}, DataError, r"sequences have another shape"),
        ({"embeddings": np.zeros((4, 2))}, DataError, r"differ in length[\s\S]*scores: 3, embeddings: 4"),
        ({"scores": ["high", "low"]}, DataError, r"scores are no numbers"),
        ({"scores": None, "sampler": "random"}, DataError, r"nothing to select from"),
        (
            {"embeddings": np.zeros((3, 2)), "labelled_embeddings": np.zeros((1, 5))},
            DataError,
            r"another length[\s\S]*d = 5[\s\S]*d = 2",
        ),
        ({"labelled_embeddings": [[np.nan]]}, NonFiniteError, r"labelled_embeddings[\s\S]*positions 0"),
        ({"n": True}, ConfigError, r"no number of images[\s\S]*True"),
    ],
)
def test_bad_input(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        select(**({"scores": SCORES, "embeddings": None, "n": 1} | arguments))


def test_the_selection_table_gives_reasons() -> None:
    table = choose(2, labelled={"c.jpg", "elsewhere.jpg"})
    assert SELECTION.check(table, "test").num_rows == 2
    first, second = table.to_pylist()
    assert first == {
        "rank": 0, "image_id": "b.jpg", "score": pytest.approx(0.7), "class": "person", "distance": None,
        "reason": "top-n by entropy_max", "labelled_already": False,
    }  # fmt: skip
    assert (second["rank"], second["image_id"], second["class"]) == (1, "c.jpg", "car")
    assert second["labelled_already"]


def test_a_sampler_that_ignores_scores_claims_none() -> None:
    for row in choose(3, "random").to_pylist():
        assert (row["score"], row["class"], row["reason"]) == (None, None, "random")


def test_a_budget_beyond_the_pool_is_said_so() -> None:
    table = choose(5)
    assert table.num_rows == 3
    assert set(table["reason"].to_pylist()) == {"top-n by entropy_max; 5 asked, 3 there"}


def test_ties_go_to_the_lowest_image_id() -> None:
    even = candidates((2, 0, 1)).set_column(2, "entropy_max", pa.array([0.5] * 3, pa.float32()))
    assert choose(3, table=even)["image_id"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]


def test_samplers_without_scores_need_none() -> None:
    bare = candidates().select(["image_id", "sequence"])
    assert choose(2, "random-per-sequence", bare, rank_by=None).num_rows == 2
    with pytest.raises(CapabilityError, match="'top-n' needs scores"):
        choose(2, "top-n", bare, rank_by=None)
    with pytest.raises(TableError, match=r"no score column 'entropy_max'"):
        choose(2, "top-n", bare)


def test_an_image_twice_is_refused() -> None:
    with pytest.raises(TableError, match=r"twice[\s\S]*b.jpg"):
        choose(1, table=candidates((0, 1, 1, 2)))


def test_embeddings_reach_the_sampler_by_image_id(far_from_labelled: None) -> None:
    embeddings = pa.table(
        {
            "image_id": ["c.jpg", "z.jpg", "a.jpg", "b.jpg"],
            "embedding": pa.array([[9.0, 0.0], [8.0, 0.0], [0.0, 0.0], [5.0, 0.0]], pa.list_(pa.float32())),
        }
    )
    arguments = {"labelled": {"z.jpg", "without.jpg"}, "rank_by": None}
    config = SelectionConfig(sampler="far")
    table = select_images(candidates((2, 0, 1)), embeddings, config, 3, 0, **arguments)
    assert table["image_id"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]  # 8, 3 and 1 away from z
    with pytest.raises(TableError, match=r"1 candidates have no embedding[\s\S]*b.jpg"):
        select_images(candidates(), embeddings.slice(0, 3), config, 3, 0, **arguments)
    sick = embeddings.set_column(1, "embedding", pa.array([[9.0, 0.0], [8.0, 0.0], [0.0, np.nan], [5.0, 0.0]]))
    with pytest.raises(NonFiniteError, match=r"a.jpg"):
        select_images(candidates(), sick, config, 3, 0, **arguments)
    with pytest.raises(CapabilityError, match="'far' needs embeddings"):
        select_images(candidates(), None, config, 3, 0, **arguments)
    with pytest.raises(CapabilityError, match=r"'far' needs embeddings[\s\S]*'random'"):
        check_sampler("far", scored=False)


def test_samplers_are_checked_before_anything_is_scored() -> None:
    check_sampler("random-per-sequence", scored=False)
    check_sampler("top-n")
    with pytest.raises(CapabilityError, match=r"'top-n' needs scores, and nothing is scored"):
        check_sampler("top-n", scored=False)
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        check_sampler("randon")


def test_candidate_rows_are_the_scored_images_of_the_pool() -> None:
    pool = pa.table({"image_id": ["a.jpg", "b.jpg", "c.jpg"], "sequence": ["x", "x", "y"]})
    scores = candidates((2, 0)).drop_columns("sequence")
    rows = candidate_rows(pool, pa.concat_tables([scores.slice(0, 1), scores.slice(1, 1)]))
    assert rows.to_pylist() == candidates((0, 2)).to_pylist()
    assert candidate_rows(pool, scores.slice(0, 0)).num_rows == 0
