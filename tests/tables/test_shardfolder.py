"""A shard is done when it is committed and its bytes are those that were written; a damaged one is named."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.tables.declared import QUARANTINE
from poolscout.tables.parquet import part_path, read_table
from poolscout.tables.shardfolder import ShardFolder, record_path, records
from tests.tables.passes import ORDER, SHARDS, passed_over, tables_of


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_shard_is_written_once_and_found_done(tmp_path: Path) -> None:
    assert passed_over(ShardFolder(tmp_path, "a", ORDER)) == [0, 1, 2]
    again = ShardFolder(tmp_path, "a", ORDER)
    assert passed_over(again) == []
    assert again.damaged == []
    assert read_table(tmp_path / "quarantine", QUARANTINE)["reason"].to_pylist() == [f"reason {i}" for i in range(3)]
    part = json.loads(record_path(tmp_path / "quarantine", 1).read_text())["parts"]["detections/part-00001.parquet"]
    assert part["rows"] == 1
    assert part["bytes"] == part_path(tmp_path / "detections", 1).stat().st_size


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit": (_flip, "detections/part-00001.parquet has other bytes than were written"),
    "a cut end": (_cut, r"detections/part-00001.parquet has [0-9,]+ of [0-9,]+ bytes"),
    "nothing": (Path.unlink, "detections/part-00001.parquet is missing"),
    "no bytes": (lambda path: path.write_bytes(b""), "detections/part-00001.parquet has 0 of"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_part_is_named_and_its_shard_alone_is_done_again(tmp_path: Path, kind: str) -> None:
    passed_over(ShardFolder(tmp_path, "a", ORDER))
    before = content(tmp_path)
    spoil, words = DAMAGE[kind]
    spoil(part_path(tmp_path / "detections", 1))
    found = ShardFolder(tmp_path, "a", ORDER)
    assert len(found.damaged) == 1
    assert re.fullmatch(f"shard 1 is damaged and done again: {words}.*", found.damaged[0])
    assert passed_over(found) == [1]
    assert content(tmp_path) == before
    assert ShardFolder(tmp_path, "a", ORDER).damaged == []


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_no_change_of_any_byte_goes_unnoticed(data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        passed_over(ShardFolder(folder, "a", ORDER))
        before = content(folder)
        parts = sorted(name for name in before if name.endswith(".parquet"))
        part = data.draw(st.sampled_from(parts))
        at = data.draw(st.integers(0, len(before[part]) - 1))
        mask = data.draw(st.integers(1, 255))
        (folder / part).write_bytes(bytes(byte ^ mask * (i == at) for i, byte in enumerate(before[part])))
        assert passed_over(ShardFolder(folder, "a", ORDER)) == [int(part[-13:-8])]
        assert content(folder) == before


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"made_from": "", "parts": {}}', b"\xff\xfe"])
def test_a_record_that_makes_no_sense_does_not_commit(tmp_path: Path, record: bytes) -> None:
    passed_over(ShardFolder(tmp_path, "a", ORDER))
    before = content(tmp_path)
    record_path(tmp_path / "quarantine", 2).write_bytes(record)
    found = ShardFolder(tmp_path, "a", ORDER)
    assert len(found.damaged) == 1
    assert "shard 2" in found.damaged[0]
    assert passed_over(found) == [2]
    assert content(tmp_path) == before


def test_parts_without_a_record_are_not_done(tmp_path: Path) -> None:
    passed_over(ShardFolder(tmp_path, "a", ORDER))
    record_path(tmp_path / "quarantine", 0).unlink()
    found = ShardFolder(tmp_path, "a", ORDER)
    assert found.damaged == [], "a pass that was killed there is nothing to talk about"
    assert passed_over(found) == [0]


def test_parts_computed_from_something_else_are_removed(tmp_path: Path) -> None:
    passed_over(ShardFolder(tmp_path, "a", ORDER))
    (tmp_path / "embeddings").mkdir()
    further = part_path(tmp_path / "embeddings", 0)
    further.touch()
    found = ShardFolder(tmp_path, "b", ORDER, also=("embeddings",))
    assert sorted(content(tmp_path)) == ["parts.json"]
    assert passed_over(found, 2) == [0, 1]
    assert records(tmp_path / "quarantine").keys() == {0, 1}


def test_a_shard_whose_own_digest_has_changed_is_done_again_alone(tmp_path: Path) -> None:
    passed_over(ShardFolder(tmp_path, "a", ORDER, shards=("x", "y", "z")))
    found = ShardFolder(tmp_path, "a", ORDER, shards=("x", "Y", "z"))
    assert passed_over(found) == [1]
    assert found.damaged == []
    assert passed_over(ShardFolder(tmp_path, "a", ORDER, shards=("x", "Y", "z"))) == []


def test_shards_that_the_pool_no_longer_has_are_removed(tmp_path: Path) -> None:
    passed_over(ShardFolder(tmp_path, "a", ORDER, shards=("x", "y", "z")))
    assert passed_over(ShardFolder(tmp_path, "a", ORDER, shards=("x", "y")), 2) == []
    assert read_table(tmp_path / "quarantine", QUARANTINE).num_rows == 2
    assert records(tmp_path / "quarantine").keys() == {0, 1}


def _write_one(folder: ShardFolder, shard: int) -> None:
    folder.write(shard, tables_of(shard))


def test_other_processes_write_other_shards_at_the_same_time(tmp_path: Path) -> None:
    passed_over(ShardFolder(tmp_path / "one", "a", ORDER))
    folder = ShardFolder(tmp_path / "many", "a", ORDER)
    assert len(pickle.dumps(folder)) < 10_000
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["poolscout.tables.shardfolder"])
    workers = [processes.Process(target=_write_one, args=(folder, shard)) for shard in range(SHARDS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * SHARDS
    assert passed_over(ShardFolder(tmp_path / "many", "a", ORDER)) == []
    assert content(tmp_path / "many") == content(tmp_path / "one")
