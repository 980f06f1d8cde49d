"""Whole sequences on either side of a split, and those that look alike on the same one."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.errors import DataError
from poolscout.experiments import look_alikes
from poolscout.experiments.look_alikes import closest, difference_hash, families, hashes
from poolscout.experiments.split import check_named, check_sequences, split_by_sequence, unseen_sequences
from poolscout.pool import ImageReader, RejectedImage


class Pictures(ImageReader):
    """Images that are told by a number each: the same number, the same picture."""

    def __init__(self, numbers: dict[str, int]) -> None:
        super().__init__({image_id: image_id for image_id in numbers}, max_pixels=10**6)
        self.numbers = numbers

    def read(self, image_id: str) -> np.ndarray:
        if self.numbers[image_id] < 0:
            raise RejectedImage("missing", "")
        return np.random.default_rng(self.numbers[image_id]).integers(0, 256, (16, 17, 3), dtype=np.uint8)


def pool_of(sequences: list[str | None]) -> pa.Table:
    ids = pa.array([f"{i:03d}" for i in range(len(sequences))], pa.string())
    return pa.table({"image_id": ids, "sequence": pa.array(sequences, pa.string())})


def test_a_hash_by_hand_and_the_pairs_that_are_close() -> None:
    rising = np.repeat(np.arange(17, dtype=np.uint8)[None, :, None] * 10, 16, 0).repeat(3, 2)
    assert bits_of(rising) == 256
    assert bits_of(rising[:, ::-1]) == 0
    ids, found = hashes(["a", "b", "d", "c"], Pictures({"a": 1, "b": 2, "c": 1, "d": -1}))
    assert ids == ["a", "b", "c"], "an image that cannot be read has none"
    assert closest(found[:2], found[2:3], 12) == [(0, 0, 0)]


def bits_of(pixels: np.ndarray) -> int:
    found = difference_hash(pixels)
    assert found is not None
    return int(np.bitwise_count(found).sum())


def test_images_without_contrast_look_like_nothing() -> None:
    for value in (0, 90, 254):
        plain = np.full((20, 20, 3), value, np.uint8)
        plain[3:9, 3:9] += 1  # a little noise
        assert difference_hash(plain) is None


def test_pairs_are_the_same_whatever_is_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = hashes(list("abcdefg"), Pictures(dict(zip("abcdefg", (1, 2, 1, 3, 2, 2, 4), strict=True))))
    whole = closest(found, found, 12)
    assert len(whole) == 2 * 2 + 3 * 3 + 2
    monkeypatch.setattr(look_alikes, "_BLOCK_BYTES", 1)
    assert closest(found, found, 12) == whole


def test_a_pool_that_names_no_recordings_is_not_split_frame_by_frame() -> None:
    named = pool_of(["a", "a", "b"])
    nameless = pool_of(["000", "001", "002"])  # as listing has it
    check_named(named, independent=False)
    check_named(nameless, independent=True)
    with pytest.raises(DataError, match="3 of 3 images, each a sequence of its own[^$]*name the recordings; or"):
        check_named(nameless, independent=False)
    mostly = pool_of(["a", "001", "002"]).append_column("clip", pa.array(["x", "y", "y"]))
    with pytest.raises(DataError, match="2 of 3 images[^$]*set pool.sequence to one of clip;"):
        check_named(mostly, independent=False)
    check_named(pool_of(["a", "a", "002"]), independent=False)


def test_what_the_guard_of_sequences_cannot_see_is_said() -> None:
    named, nameless = pool_of(["a", "a", "b"]), pool_of(["000", "001", "002"])
    assert unseen_sequences(named, named, None) is None
    assert (unseen_sequences(named, nameless, "clip") or "").startswith("the test images name no recordings")
    assert (unseen_sequences(nameless, nameless, None) or "").startswith("the pool and test images name no recordings")
    # equal file names in two folders are not one recording
    check_sequences(nameless, nameless, None, "pool and test images")
    with pytest.raises(DataError, match="2 sequences are on both sides"):
        check_sequences(named, named, None, "pool and test images")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_families_are_the_connected_components(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 24))
    sequences = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", None]), min_size=n, max_size=n))
    numbers = data.draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    pool = pool_of(sequences)
    reader = Pictures(dict(zip(pool["image_id"].to_pylist(), numbers, strict=True)))
    graph = nx.Graph()
    graph.add_nodes_from(s for s in sequences if s)
    graph.add_edges_from(
        (s, t)
        for s, i in zip(sequences, numbers, strict=True)
        for t, j in zip(sequences, numbers, strict=True)
        if s and t and i == j
    )
    expected = {name: min(component) for component in nx.connected_components(graph) for name in component}
    assert families(pool, reader, 12) == expected
    assert families(pool, reader, -1) == {name: name for name in expected}


@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=12), share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99), links=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=3),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_neither_sequences_nor_families_are_parted(
    lengths: list[int], share: float, seed: int, links: list[tuple[int, int]]
) -> None:
    pool = pool_of([f"s{i:02d}" for i, length in enumerate(lengths) for _ in range(length)])
    family = {f"s{max(pair):02d}": f"s{min(pair):02d}" for pair in links}
    family = {name: to for name, to in family.items() if to not in family}  # heads lead to themselves
    heads = {family.get(f"s{i:02d}", f"s{i:02d}") for i in range(len(lengths))}
    if len(heads) < 2:
        with pytest.raises(DataError, match="a split takes whole sequences"):
            split_by_sequence(pool, share, seed, family)
        return
    learnt, held = split_by_sequence(pool, share, seed, family)
    assert sorted(learnt["image_id"].to_pylist() + held["image_id"].to_pylist()) == pool["image_id"].to_pylist()
    sides = [{family.get(name, name) for name in side["sequence"].to_pylist()} for side in (learnt, held)]
    assert not sides[0] & sides[1]
    assert min(map(len, sides)) >= 1


def test_what_cannot_be_split_says_why() -> None:
    with pytest.raises(DataError, match="1 images belong to no known sequence"):
        split_by_sequence(pool_of(["a", "b", None]), 0.5, 0)
    with pytest.raises(DataError, match="2 sequences that all look alike"):
        split_by_sequence(pool_of(["a", "b"]), 0.5, 0, {"a": "a", "b": "a"})
