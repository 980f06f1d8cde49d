"""`poolscout status`: what it says of runs in every state, and that it disturbs none."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from poolscout.cli.console import size_words, time_words
from poolscout.cli.status import draw
from poolscout.engine.journal import LOG, JournalReader
from poolscout.errors import DataError, RunError
from poolscout.loop import run
from poolscout.status import RunWatch, lock_holder
from poolscout.tables.runfolder import RunFolder
from tests.cli.typed import poolscout
from tests.loop.tiny import CLASSES, tiny_config, write_data

# A writer that ends, fails, is interrupted, is killed or goes on when it is told so.
WRITER = """
import os, signal, sys
from pathlib import Path
from poolscout.engine.journal import journal
from poolscout.engine.progress import SilentProgress
from poolscout.errors import DataError
from poolscout.tables.manifest import Work
from poolscout.tables.runfolder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
def do():
    with log.task("scoring", 1000) as task:
        task.update(0)
        task.update(250, "at work")
        log.write("progress", **task.facts(), left_s=30.0)
        print("ready", flush=True)
        word = input()
        if word == "fail":
            raise DataError("no such image", got="nothing")
        if word == "interrupt":
            raise KeyboardInterrupt
        if word == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        task.update(1000)
with folder.lock(), journal(SilentProgress(), folder.path, "score") as log:
    log.say("two images set aside")
    folder.stage(folder.path, Work("score", {}, {}), [], do)
"""


def writer(out: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (data / "images" / "pool-039.png").write_bytes(b"")
    out = tmp_path_factory.mktemp("runs") / "run"
    run(tiny_config(data, rounds=1, references__random=True), out)
    return out


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.md5(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_finished_run(capsys: pytest.CaptureFixture[str], data: Path, finished: Path) -> None:
    before = contents(finished)
    code, out, _ = poolscout(capsys, "status", finished, "--json")
    assert contents(finished) == before
    seen = json.loads(out)
    assert (code, seen["state"], seen["command"]) == (0, "finished", "run")
    assert seen["writer"] is None
    titles = {task["title"]: task for task in seen["tasks"]}
    assert titles["round 0: scoring"]["done"] == titles["round 0: scoring"]["total"] == 31
    listing, selecting = titles[f"listing {data / 'pool.json'}"], titles["round 0: selecting"]
    assert (listing["done"], listing["total"], listing["left_s"], listing["note"]) == (40, 0, None, "40 found")
    assert selecting["done"] == selecting["total"] == 6
    assert all(task["state"] == "done" and task["seconds"] > 0 for task in seen["tasks"])
    assert all(task["peak_bytes"] > 2**20 for task in seen["tasks"])
    stored = json.loads((finished / "round-001" / "metrics.json").read_text())
    main = [figures for figures in seen["rounds"] if figures["reference"] is None]
    assert [figures["images"] for figures in main] == [8, 14]
    assert main[1]["wMAP"] == stored["mean"]["wMAP"]
    assert [figures["round"] for figures in seen["rounds"] if figures["reference"] == "random"] == [1]
    assert seen["quarantine"] == {"pool": 1, "test": 0}
    assert {stage["stage"] for stage in seen["stages"]} >= {"list", "train", "evaluate", "score", "select"}
    assert all(stage["finished"] for stage in seen["stages"])

    code, out, _ = poolscout(capsys, "status", finished, "--watch")
    assert code == 0, "it ends when there is nothing to wait for"
    wmap = f"{main[1]['wMAP']:.4f}"
    for words in ("finished", "round 0: scoring", "random reference, round 1", wmap, "1 of the pool"):
        assert words in out


def test_a_run_without_a_log_is_understood(finished: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    subprocess.run(["cp", "-r", finished, old], check=True)
    (old / LOG).unlink()
    assert RunWatch(old).look().state == "finished"
    assert RunWatch(old).look().tasks == ()
    (old / "report.html").unlink()
    assert RunWatch(old).look().state == "stopped"


def test_curves_are_beside_the_run(finished: Path) -> None:
    members = {str(path.parent.relative_to(finished)) for path in finished.rglob("*tfevents*")}
    both = {f"metrics/round-00{number}/member-{member}" for number in (0, 1) for member in (0, 1)}
    random = {"metrics/references/random/rounds", "metrics/references/random/round-001/member-0"}
    assert members == both | random | {"metrics/rounds"}


@pytest.mark.parametrize(
    ("word", "state"), [("go on", "finished"), ("fail", "failed"), ("interrupt", "interrupted"), ("kill", "killed")]
)
def test_a_run_is_followed_to_its_end(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, word: str, state: str
) -> None:
    out = tmp_path / "out"
    with writer(out) as process:
        watch = RunWatch(out)
        seen = watch.look()
        who = seen.writer
        assert (seen.state, who.pid, who.held, who.alive) == ("running", process.pid, True, True)
        (task,) = seen.tasks
        assert (task.title, task.done, task.total, task.left_s, task.note) == ("scoring", 250, 1000, 30.0, "at work")
        assert task.resident_bytes > 2**20
        assert seen.notes == ("two images set aside",)
        assert [(stage.stage, stage.finished) for stage in seen.stages] == [("score", False)]
        draw(seen, datetime.now(UTC) + timedelta(minutes=2))
        shown = capsys.readouterr().out
        for words in (f"process {process.pid}", "25%", "30 s left", "250/1,000", "heard 2 min", "two images set aside"):
            assert words in shown
        process.communicate(f"{word}\n")
    seen = watch.look()
    assert seen.state == state
    # Only a killed process leaves its name in the lock.
    assert (seen.writer is not None and (seen.writer.pid, seen.writer.held)) == (
        state == "killed" and (process.pid, False)
    )
    assert seen.tasks[0].state == ("done" if state == "finished" else "broken off")
    assert (seen.error is not None) == (state == "failed")
    draw(seen, datetime.now(UTC))
    shown = capsys.readouterr().out
    assert state in shown
    if state == "failed":
        assert seen.error["type"] == "DataError"
        assert "no such image" in shown
    assert RunWatch(out).look().state == state, "also for somebody who did not look before"


def test_time_adds_up_over_sessions(tmp_path: Path) -> None:
    events = [
        {"event": "started", "command": "run"},
        {"event": "begin", "title": "scoring", "total": 10},
        {"event": "progress", "title": "scoring", "total": 10, "done": 4, "seconds": 100.0},
        {"event": "started", "command": "run"},
        {"event": "begin", "title": "scoring", "total": 10},
        {"event": "end", "title": "scoring", "total": 10, "done": 10, "seconds": 20.0, "peak_bytes": 7},
        {"event": "begin", "title": "again", "total": 1},
        {"event": "end", "title": "again", "total": 1, "done": 1, "seconds": 3.0},
        {"event": "begin", "title": "again", "total": 1},  # its settings changed
        {"event": "end", "title": "again", "total": 1, "done": 1, "seconds": 4.0},
        {"event": "ended"},
    ]
    lines = [json.dumps({"time": "2026-01-01T00:00:00.000+00:00", "pid": 1, "host": "h", **event}) for event in events]
    (tmp_path / LOG).write_text("\n".join(lines) + "\n")
    seen = RunWatch(tmp_path).look()
    assert [(task.title, task.seconds, task.done) for task in seen.tasks] == [("scoring", 120.0, 10), ("again", 4.0, 1)]
    assert seen.state == "finished"


def test_work_of_unknown_length_has_a_count_and_no_share(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    task = {"time": "2026-01-01T00:00:00.000+00:00", "pid": 1, "host": "h", "title": "listing pool", "total": 0}
    progress = {**task, "event": "progress", "done": 1500, "seconds": 3.0, "rate": 500.0, "left_s": 0.0}
    events = [{**task, "event": "started", "command": "run"}, {**task, "event": "begin"}, progress]
    (tmp_path / LOG).write_text("".join(json.dumps(event) + "\n" for event in events))
    with RunFolder(tmp_path).lock():
        draw(RunWatch(tmp_path).look(), datetime.now(UTC))
    shown = capsys.readouterr().out
    assert "1,500  500/s" in shown
    draw(RunWatch(tmp_path).look(), datetime.now(UTC))
    shown += capsys.readouterr().out
    assert "listing pool  1,500 " in shown
    for untrue in ("%", " left", "of 0", "/0"):
        assert untrue not in shown


def test_a_run_that_waits_says_for_what(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = run(tiny_config(data, labelling__mode="files", labelling__classes=list(CLASSES)), out)
    seen = RunWatch(out).look()
    assert (seen.state, seen.waiting_for) == ("waiting for labels", str(outcome.waiting_for))
    code, shown, _ = poolscout(capsys, "status", out)
    assert code == 0
    assert str(out / "initial" / "to_label") in shown
    (out / LOG).unlink()
    without = RunWatch(out).look()
    assert (without.state, without.waiting_for) == ("waiting for labels", str(outcome.waiting_for))


def test_an_error_of_a_run_is_in_its_log(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run(tiny_config(data, evaluation__annotations=str(data / "pool.json")), tmp_path / "run")
    assert JournalReader(tmp_path / "run" / LOG).read()[-1]["type"] == "DataError"
    seen = RunWatch(tmp_path / "run").look()
    assert seen.state == "failed"
    assert "in the pool and in the test set" in seen.error["message"]


def test_single_stages_keep_a_log_and_stay_finished(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    values = tiny_config(data).model_dump(mode="json")
    sets = [f"--set={room}={json.dumps(values[room])}" for room in ("detector", "training")]
    pool = data / "pool.json"
    for _ in range(2):
        assert poolscout(capsys, "train", pool, "--out", tmp_path / "m", *sets)[0] == 0
        assert poolscout(capsys, "score", pool, "--models", tmp_path / "m", "--out", tmp_path / "s")[0] == 0
    commands = [event["command"] for event in JournalReader(tmp_path / "m" / LOG).read() if event["event"] == "started"]
    assert commands == ["train", "train"]
    scored = JournalReader(tmp_path / "s" / LOG).read()
    tasks = [event["title"].split()[0] for event in scored if event["event"] == "begin"]
    assert tasks == ["listing", "scoring"], "the second time there is nothing to do"
    assert sum(event["event"] == "ended" for event in scored) == 2
    assert RunWatch(tmp_path / "m").look().state == RunWatch(tmp_path / "s").look().state == "finished"
    assert sorted(path.name for path in (tmp_path / "m" / "metrics").iterdir()) == ["member-0", "member-1"]


def test_looking_never_touches_the_lock_of_this_machine(tmp_path: Path) -> None:
    tried: list[int] = []
    with writer(tmp_path / "out") as process, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", lambda *_: tried.append(1))
        assert lock_holder(tmp_path / "out").held
        process.communicate("kill\n")
        assert not lock_holder(tmp_path / "out").held
    assert not tried
    with RunFolder(tmp_path / "out").lock():
        assert lock_holder(tmp_path / "out").pid == os.getpid()
    assert lock_holder(tmp_path / "out") is None


def test_the_lock_of_another_machine_is_tried_and_given_back(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    elsewhere = {"pid": 1, "host": "elsewhere", "started": "1", "since": "2026-01-01 00:00:00+00:00", "command": "run"}
    lock = tmp_path / ".lock"
    lock.write_text(json.dumps(elsewhere))
    seen = lock_holder(tmp_path)
    assert (seen.held, seen.alive, seen.host) == (False, None, "elsewhere")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which looking has not kept
        assert lock_holder(tmp_path).held
    lock.write_text("")
    (tmp_path / ".lock.held").write_text(json.dumps(elsewhere))  # a file system without locks
    assert lock_holder(tmp_path).held


def test_a_writer_in_another_container_of_the_same_name_is_alive(tmp_path: Path) -> None:
    with writer(tmp_path / "out") as process:
        lock = tmp_path / "out" / ".lock"
        named = {**json.loads(lock.read_text()), "pid": 2**22 + 1, "pid_namespace": "pid:[1]"}  # no such number here
        lock.write_text(json.dumps(named))
        seen = lock_holder(tmp_path / "out")
        assert (seen.held, seen.alive) == (True, None)
        process.communicate("kill\n")


def test_mistakes_end_in_a_message(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        RunWatch(tmp_path)
    assert poolscout(capsys, "status", tmp_path)[0] == 6
    assert poolscout(capsys, "status", finished, "--watch", "--json")[0] == 2


def test_durations_and_sizes_in_words() -> None:
    durations = {0.04: "0.0 s", 9.94: "9.9 s", 59: "59 s", 125: "2 min 5 s", 3600: "1 h 0 min", 172_800: "2 d 0 h"}
    assert {seconds: time_words(seconds) for seconds in durations} == durations
    sizes = {12: "12 B", 1023: "1 KiB", 1536: "1.5 KiB", 200 * 2**20: "200 MiB", 3 * 2**40: "3 TiB"}
    assert {size: size_words(size) for size in sizes} == sizes
