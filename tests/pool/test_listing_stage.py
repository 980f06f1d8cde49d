"""A listing as a stage: killed in its midst it goes on from what it has checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poolscout.config import PoolConfig
from poolscout.engine import SerialExecutor
from poolscout.engine.progress import SilentProgress
from poolscout.errors import DataError
from poolscout.pool import PoolListing, listing
from poolscout.pool.listing_stage import listed_in
from poolscout.pool.sources import shards
from poolscout.tables.runfolder import RunFolder
from tests.pool.images import corners, encoded
from tests.pool.shards import tar_of

N_BATCHES, A_BATCH = 6, 3


class Killed(BaseException):
    """Nothing after it is done, as after a kill."""


def tars(folder: Path) -> Path:
    """A broken image in the third shard, and a sidecar in the first."""
    for number in range(N_BATCHES):
        images: dict[str, Any] = {f"{image}.png": None for image in range(A_BATCH)}
        if number == 0:
            images["0.json"] = {"speed_kmh": 7.5}
        if number == 2:
            images["1.png"] = encoded(corners())[:40]
        folder.mkdir(exist_ok=True)
        (folder / f"shard-{number}.tar").write_bytes(tar_of(images))
    return folder


def images(folder: Path) -> Path:
    for number in range(N_BATCHES * A_BATCH):
        path = folder / f"clip-{number // A_BATCH}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(corners())[: 40 if number == 7 else None])
    return folder


class Dying:
    """A function that is killed at its n-th call; counts the calls that ended well."""

    def __init__(self, function: Any, dies_at: int) -> None:
        self.function, self.dies_at, self.calls, self.done = function, dies_at, 0, 0

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        self.calls += 1
        if self.calls == self.dies_at:
            raise Killed
        result = self.function(*arguments, **more)
        self.done += 1
        return result


# What makes a batch, and how its source is written.
SLOW_PARTS = [(shards, "_list_shard", tars), (listing, "_looked_at", images)]


def listed(out: Path, source: Path, **settings: Any) -> PoolListing:
    folder = RunFolder(out)
    with folder.lock():
        return listed_in(folder, out / "pool", PoolConfig(source=source, **settings), SilentProgress())


def dying(patch: pytest.MonkeyPatch, module: Any, name: str, at: int) -> Dying:
    # One after the other, so that the calls have an order.
    patch.setattr(f"{module.__name__}.ThreadExecutor", lambda _: SerialExecutor())
    function = Dying(getattr(module, name), at)
    patch.setattr(module, name, function)
    return function


def done_before_it_dies(module: Any, name: str, at: int, out: Path, source: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        function = dying(patch, module, name, at)
        with pytest.raises(Killed):
            listed(out, source)
    return function.done


@pytest.mark.parametrize(("module", "name", "write"), SLOW_PARTS, ids=["tar", "headers"])
def test_killed_at_each_batch_it_goes_on_from_there(
    module: Any, name: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write(tmp_path / "source"), tmp_path / "out"
    monkeypatch.setattr("poolscout.pool.sources.folder.BATCH_ROWS", A_BATCH)
    whole = listed(tmp_path / "whole", source)
    assert (whole.pool.num_rows, whole.quarantine.num_rows) == (N_BATCHES * A_BATCH - 1, 1)
    done = 0
    for _ in range(N_BATCHES):
        done += done_before_it_dies(module, name, 2, out, source)
        if done == N_BATCHES - 1:
            break
    with pytest.MonkeyPatch.context() as patch:
        function = dying(patch, module, name, at=99)
        found = listed(out, source)
    assert done + function.done == N_BATCHES, "a batch is checked once, however often the listing is killed"
    assert found.pool.equals(whole.pool)
    assert found.quarantine.equals(whole.quarantine)
    assert not (out / "pool" / ".found").exists()


def test_what_was_kept_counts_for_the_same_settings_and_whole_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tars(tmp_path / "source"), tmp_path / "out"
    assert done_before_it_dies(shards, "_list_shard", 4, out, source) == 3
    kept = sorted((out / "pool" / ".found").iterdir())
    assert len(kept) == 3
    kept[1].write_bytes(kept[1].read_bytes()[:-9])
    function = dying(monkeypatch, shards, "_list_shard", at=99)
    listed(out, source)
    assert function.done == N_BATCHES - 2

    done_before_it_dies(shards, "_list_shard", 4, tmp_path / "other", source)
    function = dying(monkeypatch, shards, "_list_shard", at=99)
    listed(tmp_path / "other", source, max_pixels=10**6)
    assert function.done == N_BATCHES


def test_images_that_all_were_missing_are_looked_for_again(tmp_path: Path) -> None:
    names = ["a.png", "b.png"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    for _ in range(2):
        with pytest.raises(DataError, match="2 missing"):
            listed(tmp_path / "out", tmp_path / "list.txt")
    for name in names:
        (tmp_path / name).write_bytes(encoded(corners()))
    assert listed(tmp_path / "out", tmp_path / "list.txt").pool.num_rows == 2


def test_a_shard_that_joins_or_changes_is_all_that_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tars(tmp_path / "source"), tmp_path / "out"
    assert done_before_it_dies(shards, "_list_shard", 5, out, source) == 4
    (source / "shard-9.tar").write_bytes(tar_of({"0.png": None}))
    (source / "shard-0.tar").write_bytes(tar_of({"0.png": None}))
    function = dying(monkeypatch, shards, "_list_shard", at=99)
    assert listed(out, source).pool.num_rows == N_BATCHES * A_BATCH - 1 + 1 - 2
    assert function.done == N_BATCHES - 4 + 2


def test_what_could_not_be_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.png" for number in range(N_BATCHES * A_BATCH)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    for name in names[1:]:
        (tmp_path / name).write_bytes(encoded(corners()))
    monkeypatch.setattr("poolscout.pool.sources.file_list.BATCH_ROWS", A_BATCH)
    assert done_before_it_dies(listing, "_looked_at", 4, tmp_path / "out", tmp_path / "list.txt") == 3
    (tmp_path / names[0]).write_bytes(encoded(corners()))
    assert listed(tmp_path / "out", tmp_path / "list.txt").quarantine.num_rows == 0
