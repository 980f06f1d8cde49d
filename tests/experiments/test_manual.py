"""The simulated expert: whole stretches of clips that show a wanted class, class by class."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolscout.errors import DataError
from poolscout.experiments.manual import browse


def clips_of(lengths: list[int]) -> pa.Table:
    rows = [(f"c{clip}-{frame}", f"c{clip}", frame) for clip, length in enumerate(lengths) for frame in range(length)]
    columns = zip(("image_id", "sequence", "frame"), zip(*rows[::-1], strict=True), strict=True)
    return pa.table({name: list(values) for name, values in columns})


def test_by_hand() -> None:
    shortlist = clips_of([12, 12, 12])
    shows = {"person": {"c0-3", "c0-5", "c0-11"}, "bicycle": {"c1-2", "c1-4"}}
    picked = browse(shortlist, shows, 12, seed=0)
    assert [(one.wanted, one.sequence) for one in picked] == [("person", "c0"), ("bicycle", "c1")]
    assert picked[0].image_ids == tuple(f"c0-{frame}" for frame in range(3, 12)), "by frame number, not by name"
    assert picked[1].image_ids == ("c1-2", "c1-3", "c1-4")
    cut = browse(shortlist, shows, 10, seed=0)
    assert cut[1].image_ids == ("c1-2",), "the last stretch is cut to fit"
    with pytest.raises(DataError, match="too few images that show person or bicycle"):
        browse(shortlist, shows, 13, seed=0)


def test_classes_take_turns_and_seeds_differ() -> None:
    shortlist = clips_of([2] * 40)
    shows = {
        "person": {f"c{clip}-0" for clip in range(30)},
        "bicycle": {f"c{clip}-1" for clip in range(28, 34)},
    }
    picked = browse(shortlist, shows, 24, seed=1)
    assert [one.wanted for one in picked[:12]] == ["person", "bicycle"] * 6
    assert {one.wanted for one in picked[12:]} == {"person"}, "all six bicycles are taken"
    assert browse(shortlist, shows, 24, seed=1) == picked
    assert browse(shortlist, shows, 24, seed=2) != picked


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 3), st.data())
def test_what_always_holds(lengths: list[int], seed: int, data: st.DataObject) -> None:
    shortlist = clips_of(lengths)
    ids = shortlist["image_id"].to_pylist()
    shows = {name: data.draw(st.sets(st.sampled_from(ids))) for name in ("person", "bicycle")}
    n = data.draw(st.integers(1, len(ids)))
    wanted = shows["person"] | shows["bicycle"]
    try:
        picked = browse(shortlist, shows, n, seed)
    except DataError:
        spans = [
            {f"c{clip}-{f}" for f in range(min(seen), max(seen) + 1)}
            for clip in range(len(lengths))
            for name in shows
            if (seen := [int(i.split("-")[1]) for i in shows[name] if i.startswith(f"c{clip}-")])
        ]
        assert len(set().union(*spans)) < n
        return
    images = [image_id for one in picked for image_id in one.image_ids]
    assert len(images) == len(set(images)) == n
    for one in picked:
        assert {image_id.split("-")[0] for image_id in one.image_ids} == {one.sequence}
        assert {i for i in shows[one.wanted] if i.startswith(f"{one.sequence}-")}, "no clip without the wanted class"
        frames = [int(image_id.split("-")[1]) for image_id in one.image_ids]
        earlier = {i for other in picked[: picked.index(one)] for i in other.image_ids}
        for a, b in pairwise(frames):
            assert all(f"{one.sequence}-{between}" in earlier for between in range(a + 1, b))
    assert wanted & set(images)
