"""The log of a run: what is written, what a kill leaves, how much there is of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.engine import journal as module
from poolscout.engine.journal import LOG, JournalProgress, JournalReader, journal
from poolscout.engine.progress import Progress, SilentProgress
from poolscout.errors import DataError, StorageError


class Told:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    @contextmanager
    def task(self, title: str, total: int):
        self.told.append((title, total))
        yield self

    def update(self, done: int, note: str = "") -> None:
        self.told.append((done, note))

    def say(self, text: str) -> None:
        self.told.append(text)


def read(folder: Path) -> list[dict]:
    return JournalReader(folder / LOG).read()


def test_what_is_told_is_passed_on_and_written(tmp_path: Path) -> None:
    told = Told()
    with journal(told, tmp_path, "run", config="abc", versions={"torch": "2"}) as log:
        assert isinstance(log, Progress)
        log.say("two images · set aside")
        with log.task("scoring", 10) as task:
            for done in range(11):
                task.update(done, f"at {done}")
        log.outcome["waiting_for"] = "to_label"
    assert told.told == ["two images · set aside", ("scoring", 10), *((done, f"at {done}") for done in range(11))]
    events = read(tmp_path)
    assert [event["event"] for event in events] == ["started", "note", "begin", "end", "ended"]
    started, note, begin, end, ended = events
    assert (started["command"], started["config"], started["versions"]) == ("run", "abc", {"torch": "2"})
    assert note["text"] == "two images · set aside"
    assert (begin["title"], begin["total"]) == ("scoring", 10)
    assert (end["title"], end["done"], end["note"]) == ("scoring", 10, "at 10")
    assert end["seconds"] >= 0
    assert end["peak_bytes"] >= end["resident_bytes"] > 10 * 2**20
    assert ended["waiting_for"] == "to_label"
    assert all(event["pid"] == os.getpid() and event["time"].endswith("+00:00") for event in events)


def test_progress_is_written_every_few_seconds_only(tmp_path: Path) -> None:
    now = [0.0]
    log = JournalProgress(SilentProgress(), tmp_path / LOG, clock=lambda: now[0])
    with log.task("training", 10_000) as task:
        for done in range(10_000):
            now[0] += 0.01  # 100 s in all
            task.update(done)
    log.close()
    lines = [event for event in read(tmp_path) if event["event"] == "progress"]
    assert 19 <= len(lines) <= 20
    assert [line["done"] for line in lines] == sorted({line["done"] for line in lines})
    assert lines[-1]["rate"] == pytest.approx(100, rel=0.01)
    assert lines[-1]["left_s"] == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize(
    ("error", "event", "kind"),
    [
        (DataError("no such file", got="nothing"), "error", "DataError"),
        (ZeroDivisionError("by zero"), "error", "ZeroDivisionError"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_how_it_ended_is_the_last_line(tmp_path: Path, error: BaseException, event: str, kind: str) -> None:
    with pytest.raises(type(error)), journal(SilentProgress(), tmp_path, "run") as log, log.task("listing", 3):
        raise error
    last = read(tmp_path)[-1]
    assert (last["event"], last["type"]) == (event, kind)
    assert last.get("message", "") == str(error)
    assert "end" not in [line["event"] for line in read(tmp_path)]


def test_warnings_are_written_and_still_shown(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with journal(SilentProgress(), tmp_path, "run"):
            warnings.warn("a slow path", UserWarning, stacklevel=1)
        warnings.warn("afterwards", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["a slow path", "afterwards"]
    (written,) = [event for event in read(tmp_path) if event["event"] == "warning"]
    assert (written["type"], written["message"]) == ("UserWarning", "a slow path")
    assert "test_journal.py:" in written["where"]


def test_sigkill_costs_at_most_the_line_being_written(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from poolscout.engine.journal import journal
from poolscout.engine.progress import SilentProgress
with journal(SilentProgress(), Path(sys.argv[1]), "run") as log:
    for number in range(500):
        log.say(f"note {number}")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [event.get("text") for event in read(tmp_path)] == [None, *(f"note {n}" for n in range(500))]


@given(cut=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_torn_log_goes_on_and_loses_the_torn_line_only(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("log")
    with journal(SilentProgress(), folder, "run") as log:
        for number in range(5):
            log.say(f"note {number} …")
    whole = (folder / LOG).read_bytes()
    cut %= len(whole) + 1
    (folder / LOG).write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n") + (0 < cut < len(whole) and whole[cut : cut + 1] == b"\n")
    assert len(read(folder)) == whole[:cut].count(b"\n")
    with journal(SilentProgress(), folder, "run"):
        pass
    events = read(folder)
    assert len(events) == kept + 2
    assert [event["event"] for event in events[-2:]] == ["started", "ended"]


def test_a_reader_sees_each_event_once(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path / LOG)
    assert reader.read() == []
    log = JournalProgress(SilentProgress(), tmp_path / LOG)
    log.say("one")
    log.say("two")
    assert [event["text"] for event in reader.read()] == ["one", "two"]
    assert reader.read() == []
    with (tmp_path / LOG).open("a") as file:
        file.write('{"event": "note", ')
        file.flush()
        assert reader.read() == []
        file.write('"text": "three"}\n[1]\nnonsense\n')
    assert [event["text"] for event in reader.read()] == ["three"]
    log.close()


def test_odd_text_and_a_lost_disk_do_not_stop_the_work(tmp_path: Path) -> None:
    log = JournalProgress(SilentProgress(), tmp_path / LOG)
    log.say("\ud800 \x00 \u2028 " + "x" * 10_000)
    (event,) = read(tmp_path)
    assert len(event["text"]) == module.LONGEST_TEXT
    assert (tmp_path / LOG).read_bytes().count(b"\n") == 1
    log._file.close()
    log._file = Path("/dev/full").open("a", buffering=1)  # noqa: SIM115  (closed by the log)
    log.say("nobody can write this")
    log.close()


def test_a_log_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir()
    with pytest.raises(StorageError, match=r"log\.jsonl"), journal(SilentProgress(), tmp_path, "run"):
        pass


def test_every_line_is_an_object(tmp_path: Path) -> None:
    with journal(SilentProgress(), tmp_path, "run", where=Path("x")) as log, log.task("a", 1) as task:
        task.update(1)
    for line in (tmp_path / LOG).read_text().splitlines():
        assert {"time", "event", "pid", "host"} <= json.loads(line).keys()
