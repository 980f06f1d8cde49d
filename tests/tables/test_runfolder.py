"""Stages are done once, continued after a crash, and never silently mixed with other settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from poolscout.errors import CorruptPartError, RunError, RunLockedError, TableError
from poolscout.tables.manifest import Work, manifest_path, read_manifest
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


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from poolscout.tables.runfolder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunLockedError, match=f"process {other.pid} on "), RunFolder(tmp_path).lock():
            pytest.fail("two writers")
        other.kill()
    with RunFolder(tmp_path).lock():
        assert (tmp_path / ".lock").exists()
