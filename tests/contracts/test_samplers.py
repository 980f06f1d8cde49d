"""What every registered sampler promises; a new one is tested unasked."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from poolscout.config import SelectionConfig, build_selection
from poolscout.errors import ConfigError, NonFiniteError
from poolscout.selection import select, select_images
from poolscout.selection.registry import samplers

SAMPLERS = samplers.names()
every = pytest.mark.parametrize("sampler", SAMPLERS)
N_IMAGES, D = 60, 6


def arrays(n_images: int = N_IMAGES, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores, embeddings and sequences: all that any sampler may look at."""
    generator = np.random.default_rng(seed)
    return {
        "scores": generator.random(n_images) ** 4,
        "embeddings": generator.standard_normal((n_images, D)).astype(np.float32),
        "sequences": generator.integers(0, 7, n_images),
    }


def tables(n_images: int = N_IMAGES) -> tuple[pa.Table, pa.Table]:
    """The same as candidate and embedding tables."""
    given = arrays(n_images)
    ids = pa.array([f"seq/{position:04d}.jpg" for position in range(n_images)], pa.string())
    candidates = pa.table(
        {
            "image_id": ids,
            "sequence": pa.array([f"clip {number}" for number in given["sequences"]], pa.string()),
            "s": pa.array(given["scores"], pa.float32()),
            "s_per_class": pa.array([[float(score), 0.0] for score in given["scores"]], pa.list_(pa.float32())),
        }
    )
    return candidates, pa.table({"image_id": ids, "embedding": pa.array(list(given["embeddings"]))})


def pick(sampler: str, n: int, candidates: pa.Table, embeddings: pa.Table, seed: int = 0) -> list[str]:
    table = select_images(
        candidates,
        embeddings,
        SelectionConfig(sampler=sampler),
        n,
        seed,
        labelled=set(),
        rank_by="s",
        classes=("a", "b"),
    )
    return table["image_id"].to_pylist()


@every
@pytest.mark.parametrize("n", [0, 1, 17, N_IMAGES, N_IMAGES + 1, 10 * N_IMAGES])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_exactly_n_distinct_positions_or_all_there_are(sampler: str, n: int, metric: str) -> None:
    picks = select(n=n, sampler=sampler, metric=metric, **arrays())
    assert picks.dtype == np.int64
    assert picks.shape == (min(n, N_IMAGES),)
    assert len(set(picks.tolist())) == len(picks)
    assert set(picks.tolist()) <= set(range(N_IMAGES))


@every
@pytest.mark.parametrize("n", [0, 5])
def test_an_empty_pool_gives_nothing(sampler: str, n: int) -> None:
    assert select(n=n, sampler=sampler, **arrays(0)).tolist() == []
    candidates, embeddings = tables()
    assert pick(sampler, n, candidates.slice(0, 0), embeddings) == []


@every
def test_the_same_seed_gives_the_same_picks(sampler: str) -> None:
    first = select(n=20, sampler=sampler, seed=3, **arrays())
    np.random.seed(99)  # noqa: NPY002 - global state must not matter
    assert first.tolist() == select(n=20, sampler=sampler, seed=3, **arrays()).tolist()


@every
def test_the_order_of_the_rows_does_not_matter(sampler: str) -> None:
    candidates, embeddings = tables()
    order, other = np.random.default_rng(5).permutation(N_IMAGES), np.random.default_rng(6).permutation(N_IMAGES)
    picks = pick(sampler, 25, candidates, embeddings)
    assert pick(sampler, 25, candidates.take(order), embeddings.take(other)) == picks


@every
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_equal_scores_are_no_obstacle(sampler: str, value: float) -> None:
    given = arrays() | {"scores": np.full(N_IMAGES, value)}
    assert len(set(select(n=30, sampler=sampler, **given).tolist())) == 30


@every
def test_duplicate_rows_are_picked_once_each(sampler: str) -> None:
    given = {name: array[np.zeros(N_IMAGES, np.int64)] for name, array in arrays().items()}
    assert sorted(select(n=N_IMAGES, sampler=sampler, **given).tolist()) == list(range(N_IMAGES))


@every
def test_half_precision_and_labelled_embeddings_are_taken(sampler: str) -> None:
    given = arrays() | {"embeddings": arrays()["embeddings"].astype(np.float16)}
    picks = select(n=9, sampler=sampler, labelled_embeddings=given["embeddings"][:4], **given)
    assert len(set(picks.tolist())) == 9


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["scores", "embeddings"])
def test_what_is_not_finite_is_refused_by_position(sampler: str, where: str, bad: float) -> None:
    given = arrays()
    given[where][[4, 31]] = bad
    with pytest.raises(NonFiniteError, match=rf"{where}[\s\S]*positions 4, 31"):
        select(n=3, sampler=sampler, **given)


@every
def test_nan_scores_in_tables_are_refused_by_image_id(sampler: str) -> None:
    candidates, embeddings = tables()
    scores = candidates["s"].to_numpy().copy()
    scores[7] = math.nan
    sick = candidates.set_column(2, "s", pa.array(scores, pa.float32()))
    with pytest.raises(NonFiniteError, match=r"seq/0007.jpg"):
        pick(sampler, 3, sick.take(np.random.default_rng(1).permutation(N_IMAGES)), embeddings)


@every
def test_a_negative_budget_is_refused(sampler: str) -> None:
    with pytest.raises(ConfigError, match=r"-1[\s\S]*0 or more"):
        select(n=-1, sampler=sampler, **arrays())


@every
def test_the_inputs_are_left_alone(sampler: str) -> None:
    given, before = arrays(), arrays()
    select(n=12, sampler=sampler, **given)
    for name, array in given.items():
        np.testing.assert_array_equal(array, before[name])


CONSTRAINTS = {
    "cap": {"cap_per_sequence": 3},
    "gap": {"min_gap": 9},
    "boxes": {"budget_boxes": 20},
    "minutes": {"budget_minutes": 4},
    "near-duplicates": {"min_distance": 4.0},
    "prefilter": {"prefilter": 1.5},
    "lists": {"include": ["seq/0050.jpg", "seq/0002.jpg"], "exclude": ["seq/0001.jpg"]},
    "classes": {"classes": ["a", "b"], "class_quota": {"a": 0.75, "b": 0.25}},
}


def constrained(sampler: str, n: int, keys: dict, order: np.ndarray | slice = slice(None)) -> pa.Table:
    """Image i has i mod 3 boxes and frame i; both tables in another order of their rows."""
    candidates, embeddings = tables()
    candidates = candidates.append_column("frame", pa.array(range(N_IMAGES)))
    boxes = np.repeat(np.arange(N_IMAGES), np.arange(N_IMAGES) % 3)
    detections = pa.table(
        {
            "image_id": candidates["image_id"].take(pa.array(boxes)),
            "member": pa.array(np.full(len(boxes), -1, np.int32)),
            "probability": pa.array(np.ones(len(boxes), np.float32)),
        }
    )
    places = np.arange(N_IMAGES)[order]
    return select_images(
        candidates.take(places), embeddings.take(places[::-1]),
        build_selection({"sampler": sampler, "constraints": keys, "price": {"seconds_per_box": 10}}), n, 3,
        labelled=set(), rank_by="s", classes=("a", "b"), detections=[detections], pool=candidates,
    )  # fmt: skip


@every
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_hold_around_any_sampler(sampler: str, name: str) -> None:
    if name == "classes" and "scores" not in samplers.get(sampler).needs:
        with pytest.raises(ConfigError, match="does not look at scores"):
            constrained(sampler, 20, CONSTRAINTS[name])
        return
    table = constrained(sampler, 20, CONSTRAINTS[name])
    picks = [int(image_id[4:8]) for image_id in table["image_id"].to_pylist()]
    given, boxes = arrays(), sum(pick % 3 for pick in picks)
    assert len(set(picks)) == len(picks) <= 20
    assert len(picks) == 20 or name in ("gap", "boxes", "minutes", "near-duplicates")
    clips = given["sequences"][picks]
    for one, other in combinations(range(len(picks)), 2):
        apart = ((given["embeddings"][picks[one]] - given["embeddings"][picks[other]]) ** 2).sum()
        assert name != "near-duplicates" or apart >= 4.0
        assert name != "gap" or clips[one] != clips[other] or abs(picks[one] - picks[other]) >= 9
    assert name != "cap" or max(np.bincount(clips)) <= 3
    assert name != "boxes" or boxes <= 20
    assert name != "minutes" or boxes * 10 <= 240
    assert name != "prefilter" or set(picks) <= set(np.argsort(-given["scores"])[:30].tolist())
    assert name != "lists" or (picks[:2] == [50, 2] and 1 not in picks)
    assert name != "classes" or Counter(table["class"].to_pylist()) == {"a": 15, "b": 5}
    again = constrained(sampler, 20, CONSTRAINTS[name], np.random.default_rng(4).permutation(N_IMAGES))
    assert again.equals(table)


@every
def test_a_start_comes_first_and_counts(sampler: str) -> None:
    picks = select(n=9, sampler=sampler, start=[41, 7], **arrays()).tolist()
    assert picks[:2] == [41, 7]
    assert len(set(picks)) == 9
    assert select(n=2, sampler=sampler, start=[41, 7], **arrays()).tolist() == [41, 7]
