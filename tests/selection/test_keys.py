"""Distances kept from one selection to the next: the same picks, and what is not valid any more is measured again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from poolscout.config import SelectionConfig
from poolscout.errors import ConfigError
from poolscout.selection import keys as module
from poolscout.selection import notes_of, select_images
from poolscout.selection.keys import fingerprints, read_keys
from tests.selection.kernels.pools import clips

OLD, ALL = 250, 400


def tables(n: int, rows: np.ndarray) -> tuple[pa.Table, pa.Table]:
    """The first n frames; their ids sort otherwise than they come, and new ones in between."""
    order = np.random.default_rng(7).permutation(ALL)
    ids = pa.array([f"frame {order[i]:04d}" for i in range(n)], pa.string())
    scores = pa.array(np.random.default_rng(3).random(ALL)[:n], pa.float32())
    return pa.table({"image_id": ids, "s": scores}), pa.table({"image_id": ids, "embedding": pa.array(list(rows[:n]))})


def picked(
    n_frames: int, rows: np.ndarray, sampler: str, labelled: list[str], keys: Path | None, metric: str = "cosine"
) -> pa.Table:
    candidates, embeddings = tables(n_frames, rows)
    there = pc.is_in(candidates["image_id"], value_set=pa.array(labelled, pa.string()))
    return select_images(
        candidates.filter(pc.invert(there)), embeddings, SelectionConfig(sampler=sampler, metric=metric), 40, 0,
        labelled=labelled, rank_by="s", keys=keys,
    )  # fmt: skip


@pytest.mark.parametrize("sampler", ["coreset", "kmeans++"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_grown_pool_is_selected_from_as_if_from_nothing(tmp_path: Path, sampler: str, metric: str) -> None:
    rows, labelled = clips(ALL, 9, per=8), ["frame 0003", "frame 0200"]
    for n_frames in (OLD, ALL, ALL):  # the pool grows, and then only the labels do
        cold = picked(n_frames, rows, sampler, labelled, None, metric)
        warm = picked(n_frames, rows, sampler, labelled, tmp_path, metric)
        assert warm.equals(cold)
        labelled = [*labelled, *warm["image_id"].to_pylist()]


def test_what_is_known_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labelled = clips(ALL, 9, per=8), ["frame 0003"]
    first = picked(OLD, rows, "coreset", labelled, tmp_path)
    kept: list[int] = []
    whole = module.Keys.of

    def spied(self: module.Keys, *arguments: object) -> object:
        known = whole(self, *arguments)
        kept.append(int(np.isfinite(known.d).sum()))
        return known

    monkeypatch.setattr(module.Keys, "of", spied)
    now = [*labelled, *first["image_id"].to_pylist()]
    picked(ALL, rows, "coreset", now, tmp_path)
    assert kept == [OLD - len([i for i in now if i in tables(OLD, rows)[0]["image_id"].to_pylist()])]


@pytest.mark.parametrize("changed", ["a point", "a centre", "no centre left", "metric"])
def test_what_has_changed_is_measured_again(tmp_path: Path, changed: str) -> None:
    rows, labelled = clips(ALL, 9, per=8), ["frame 0003", "frame 0200"]
    first = picked(OLD, rows, "coreset", labelled, tmp_path)
    now = [*labelled, *first["image_id"].to_pylist()]
    ids, metric = tables(ALL, rows)[0]["image_id"].to_pylist(), "cosine"
    if changed == "a point":
        rows[[i for i in range(OLD) if ids[i] not in now][:100]] *= np.array([-1, *[1] * 8], np.float32)
    elif changed == "a centre":
        rows[ids.index(now[5])] += 3
    elif changed == "no centre left":
        now = ["frame 0001"]
    else:
        metric = "euclidean"
    cold = picked(ALL, rows, "coreset", now, None, metric)
    assert picked(ALL, rows, "coreset", now, tmp_path, metric).equals(cold)
    kept = read_keys(tmp_path, metric)
    assert kept is not None
    assert len(kept.centres) == len(now) + 40


@pytest.mark.parametrize("name", ["keys.parquet", "centres.parquet"])
def test_damaged_keys_are_made_anew(tmp_path: Path, name: str) -> None:
    rows = clips(ALL, 9)
    whole = picked(OLD, rows, "coreset", [], tmp_path)
    (tmp_path / name).write_bytes(b"nonsense")
    again = picked(OLD, rows, "coreset", [], tmp_path)
    assert again["image_id"].equals(whole["image_id"])
    assert any("measured again" in note for note in notes_of(again))
    assert notes_of(picked(OLD, rows, "coreset", [], tmp_path)) == notes_of(whole)


def test_keys_that_cannot_be_written_do_not_cost_the_selection(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    table = picked(OLD, clips(ALL, 9), "coreset", [], tmp_path / "file")
    assert table.num_rows == 40
    assert any("could not be kept" in note for note in notes_of(table))


def test_a_sampler_without_distances_keeps_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"top-n[\s\S]*coreset or kmeans"):
        picked(OLD, clips(ALL, 9), "top-n", [], tmp_path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fingerprints_tell_rows_apart(dtype: type) -> None:
    rows = clips(500, 7).astype(dtype)
    prints = fingerprints(rows, np.arange(500))
    assert len(set(prints.tolist())) == len(np.unique(rows, axis=0))
    np.testing.assert_array_equal(fingerprints(rows, np.array([4, 2])), prints[[4, 2]])
