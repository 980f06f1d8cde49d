"""Stages are done once, continued after a crash, and never silently mixed with other settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from poolscout.errors import CorruptPartError, RunError, TableError
from poolscout.tables.atomic import write_text
from poolscout.tables.manifest import Work, file_hash, fingerprint, manifest_path, read_manifest
from poolscout.tables.runfolder import RunFolder, read_json


def make(folder: RunFolder, work: Work, names: tuple[str, ...] = ("out.txt",)) -> list[str]:
    """Run a stage that writes each of `names` unless it is there; returns those written."""
    written: list[str] = []

    def do() -> None:
        for name in names:
            path = folder.path / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(work.config))
                written.append(name)

    folder.stage(folder.path, work, [folder.path / name for name in names], do)
    return written


WORK = Work("score", {"batch": {"size": 4}}, {"models": "abc"})


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    assert make(RunFolder(tmp_path), WORK) == ["out.txt"]
    assert make(RunFolder(tmp_path), WORK) == []
    assert read_manifest(tmp_path, "score")["finished"]


def test_a_damaged_output_alone_is_made_again(tmp_path: Path) -> None:
    make(RunFolder(tmp_path), WORK, ("a", "b"))
    (tmp_path / "b").write_text("flipped bits")
    assert make(RunFolder(tmp_path), WORK, ("a", "b")) == ["b"]


def test_an_interrupted_stage_keeps_what_was_finished(tmp_path: Path) -> None:
    def killed() -> None:
        (tmp_path / "a").write_text("done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).stage(tmp_path, WORK, [tmp_path / "a", tmp_path / "b"], killed)
    assert make(RunFolder(tmp_path), WORK, ("a", "b")) == ["b"]


@pytest.mark.parametrize("finished", [True, False])
def test_changed_settings_stop_the_run_and_say_what_changed(tmp_path: Path, finished: bool) -> None:
    make(RunFolder(tmp_path), WORK)
    if not finished:
        path = manifest_path(tmp_path, "score")
        path.write_text(json.dumps({**json.loads(path.read_text()), "finished": False}))
    changed = Work("score", {"batch": {"size": 8}}, {"models": "abd"})
    with pytest.raises(RunError, match=r"batch.size: 4 → 8, models \(its contents changed\)"):
        make(RunFolder(tmp_path), changed)
    assert (tmp_path / "out.txt").read_text() == json.dumps(WORK.config), "nothing is deleted without being asked"
    assert make(RunFolder(tmp_path, redo_stale=True), changed) == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == json.dumps(changed.config)


def test_an_unknown_manifest_version_and_garbage_are_refused(tmp_path: Path) -> None:
    make(RunFolder(tmp_path), WORK)
    path = manifest_path(tmp_path, "score")
    path.write_text(json.dumps({"manifest_version": 99}))
    with pytest.raises(TableError, match="unknown manifest version"):
        make(RunFolder(tmp_path), WORK)
    path.write_text("{")
    with pytest.raises(CorruptPartError, match="not a manifest"):
        make(RunFolder(tmp_path), WORK)
    with pytest.raises(CorruptPartError, match="cannot be read"):
        read_json(path)


def chain(folder: RunFolder, size: int = 4, tail: int = 1) -> list[str]:
    """A small run: listing → scores of two rounds → picks of the first; returns the stages that were done."""
    done: list[str] = []

    def stage(where: str, name: str, config: dict, inputs: dict[str, str], output: str) -> str:
        at = folder.path / where
        path = at / output

        def do() -> None:
            done.append(f"{where} {name}")
            write_text(path / "part" if name == "list" else path, f"{where} {name} {config} {inputs}")

        folder.stage(at, Work(name, config, inputs), [path], do)
        return file_hash(path)

    pool = stage("pool", "list", {"source": "x"}, {"source": "1"}, "images")
    scores = stage("round-000", "score", {"size": size}, {"pool": pool}, "scores")
    stage("round-000", "evaluate", {"tail": tail}, {"pool": "unrelated"}, "metrics.json")
    picks = stage("round-000", "select", {"size": 9}, {"scores": scores}, "picks")
    stage("labels", "delivery-00000", {}, {"picks": "first"}, "delivered-0")
    stage("labels", "delivery-00001", {}, {"picks": picks}, "delivered-1")
    delivered = [file_hash(folder.path / "labels" / f"delivered-{i}") for i in (0, 1)]
    stage("round-001", "labels", {}, {"labels": fingerprint(delivered)}, "labels.json")
    stage("round-001", "score", {"size": size}, {"pool": pool}, "scores")
    stage("round-001", "evaluate", {"tail": tail}, {"pool": "unrelated too"}, "metrics.json")
    return done


STALE_SCORES = "round-000 score, round-000 select, labels delivery-00001, round-001 labels, round-001 score (5 stages)"


def test_a_change_says_all_that_would_be_done_again_before_anything_is(tmp_path: Path) -> None:
    chain(RunFolder(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=re.escape(STALE_SCORES)):
        chain(RunFolder(tmp_path), size=5)
    with pytest.raises(RunError, match=re.escape("again round-000 evaluate, round-001 evaluate (2 stages)")):
        chain(RunFolder(tmp_path), tail=2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert chain(RunFolder(tmp_path)) == [], "the old settings go on as if nothing had been asked"


def test_redoing_says_the_same_list_once_and_does_these_stages(tmp_path: Path) -> None:
    chain(RunFolder(tmp_path))
    notes: list[str] = []
    done = chain(RunFolder(tmp_path, redo_stale=True, say=notes.append), size=5)
    assert [note for note in notes if "done again" in note] == [f"done again, as size: 4 → 5: {STALE_SCORES}"]
    assert ", ".join(done) == STALE_SCORES.removesuffix(" (5 stages)")
    assert chain(RunFolder(tmp_path), size=5) == []


def test_a_redoing_that_stops_midway_can_be_gone_on_with(tmp_path: Path) -> None:
    chain(RunFolder(tmp_path))
    folder = RunFolder(tmp_path, redo_stale=True)

    def killed() -> None:
        raise KeyboardInterrupt

    old = read_manifest(tmp_path / "round-000", "score")
    with pytest.raises(KeyboardInterrupt):
        folder.stage(
            tmp_path / "round-000",
            Work("score", {"size": 5}, old["inputs"]),
            [tmp_path / "round-000" / "scores"],
            killed,
        )
    assert "round-000 score" in chain(RunFolder(tmp_path, redo_stale=True), size=5)


def test_a_damaged_output_is_named(tmp_path: Path) -> None:
    make(RunFolder(tmp_path), WORK, ("a", "b", "c"))
    (tmp_path / "b").write_text("flipped bits")
    (tmp_path / "c").unlink()
    notes: list[str] = []
    make(RunFolder(tmp_path, say=notes.append), WORK, ("a", "b", "c"))
    assert notes == [
        "score: b has other bytes than were written: it is made again",
        "score: c is missing: it is made again",
    ]


def test_what_a_killed_writer_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "round-000").mkdir()
    left = tmp_path / "round-000" / ".scores.parquet.0123456789ab.tmp"
    left.touch()
    (tmp_path / "round-000" / "notes.tmp").touch()
    with RunFolder(tmp_path).lock():
        assert not left.exists()
        assert (tmp_path / "round-000" / "notes.tmp").exists(), "not one of ours"
