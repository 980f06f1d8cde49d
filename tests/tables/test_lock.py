"""One writer at a time; a live one is named, a dead one is taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import pytest

from poolscout.errors import RunLockedError
from poolscout.tables import lock
from poolscout.tables.runfolder import RunFolder

HOLD = """
import errno, fcntl, sys, time
from pathlib import Path
from poolscout.tables.runfolder import RunFolder
def unsupported(*_): raise OSError(errno.ENOLCK, "No locks available")
if sys.argv[2:]: fcntl.flock = unsupported
with RunFolder(Path(sys.argv[1])).lock(): print("held", flush=True); time.sleep(60)
"""


@pytest.fixture(params=["the kernel's lock", "no locks on this file system"])
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "the kernel's lock":
        return False

    def unsupported(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    return True


def test_a_live_holder_is_named_and_a_killed_one_taken_over(tmp_path: Path, without_flock: bool) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), *["x"] * without_flock]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        words = f"process {other.pid} on {socket.gethostname()}, since 20.* UTC \\(-c {tmp_path}"
        with pytest.raises(RunLockedError, match=words), RunFolder(tmp_path).lock():
            pytest.fail("two writers")
        other.kill()
    notes: list[str] = []
    with RunFolder(tmp_path, say=notes.append).lock():
        assert len(notes) == 1
        assert f"the last writer, process {other.pid} on" in notes[0]
        with pytest.raises(RunLockedError, match=f"process {os.getpid()} on"), RunFolder(tmp_path).lock():
            pytest.fail("two writers")
    with RunFolder(tmp_path, say=notes.append).lock():
        assert len(notes) == 1, "one that let go is not mentioned"


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff\xfe", b'{"pid": 1e999, "host": 1, "started": 1}', b"null"]
)
def test_garbage_in_a_lock_file_nobody_holds_is_no_hindrance(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / lock.LOCK).write_bytes(garbage)
    notes: list[str] = []
    with RunFolder(tmp_path, say=notes.append).lock():
        holder = lock.Holder.read(tmp_path / lock.LOCK)
        assert holder is not None
        assert holder.pid == os.getpid()
        assert not holder.is_gone()
    assert notes == []


def test_a_held_lock_that_does_not_say_whose_it_is(tmp_path: Path) -> None:
    with RunFolder(tmp_path).lock():
        (tmp_path / lock.LOCK).write_bytes(b"garbage")
        with pytest.raises(RunLockedError, match="an unknown process"), RunFolder(tmp_path).lock():
            pytest.fail("two writers")


def _holder(**changes: object) -> lock.Holder:
    values = {**json.loads(lock._this_process()), **changes}
    return lock.Holder(**values)


def test_who_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert not _holder().is_gone()
    assert _holder(pid=ended.pid).is_gone()
    assert _holder(started="1").is_gone(), "this number belongs to another program now"
    for elsewhere in ("boot", "pid_namespace"):
        assert not _holder(pid=ended.pid, **{elsewhere: "another"}).is_gone(), "nothing is known of processes elsewhere"
        assert not _holder(pid=ended.pid, **{elsewhere: ""}).is_gone(), "as earlier releases wrote it"
    assert not _holder(pid=0).is_gone()
    assert not _holder(pid=10**30).is_gone()


def test_without_kernel_locks_a_holder_elsewhere_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> NoReturn:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    held = tmp_path / f"{lock.LOCK}.held"
    held.write_text(json.dumps(asdict(_holder(boot="another", host="elsewhere", pid=4))))
    with (
        pytest.raises(RunLockedError, match=r"process 4 on elsewhere[^$]*delete .*\.lock\.held"),
        RunFolder(tmp_path).lock(),
    ):
        pytest.fail("two writers")
    held.unlink()
    with RunFolder(tmp_path).lock():
        assert held.exists()
    assert not held.exists()


def test_a_held_lock_is_not_taken_from_another_container(tmp_path: Path) -> None:
    """It may have this host's name, and its processes' numbers mean nothing here."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    path = tmp_path / lock.LOCK
    path.write_text(json.dumps(asdict(_holder(pid=ended.pid, pid_namespace="pid:[1]"))))
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        words = f"process {ended.pid} on [^$]*choose another --out; it runs in another container"
        with pytest.raises(RunLockedError, match=words), RunFolder(tmp_path).lock():
            pytest.fail("two writers")
        assert path.exists()
    with RunFolder(tmp_path).lock():
        pass  # nobody has it open any more


def test_of_several_that_find_a_lock_left_behind_one_takes_it(
    tmp_path: Path, without_flock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All look at the same time, where they can, and then remove what was left behind one after the other."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = tmp_path / (f"{lock.LOCK}.held" if without_flock else lock.LOCK)
    left.write_text(json.dumps(asdict(_holder(pid=ended.pid))))
    together, is_gone = threading.Barrier(3), lock.Holder.is_gone
    tried, writers, refused = threading.Barrier(3), [], []

    def look_together(holder: lock.Holder) -> bool:
        gone = is_gone(holder)
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3)
        return gone

    def take(number: int) -> None:
        try:
            with RunFolder(tmp_path, say=lambda _: time.sleep(0.2 * number)).lock():
                writers.append(number)
                tried.wait(30)
        except RunLockedError:
            refused.append(number)
            tried.wait(30)

    monkeypatch.setattr(lock.Holder, "is_gone", look_together)
    with left.open() as child, ThreadPoolExecutor(3) as threads:
        if not without_flock:
            fcntl.flock(child, fcntl.LOCK_EX)
        list(threads.map(take, range(3)))
    assert (len(writers), len(refused)) == (1, 2)


def test_a_lock_that_is_just_being_taken_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    with (tmp_path / f"{lock.LOCK}.guard").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match=r"\.lock\.guard"), RunFolder(tmp_path).lock():
            pytest.fail("taken")
    with RunFolder(tmp_path).lock():
        pass


def _hold_and_leave_a_child(folder: Path, pid_file: Path) -> None:
    with RunFolder(folder).lock():
        child = os.fork()
        if child == 0:
            signal.pause()  # still has the lock's file open
        pid_file.write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_child_that_outlives_the_writer_is_not_in_the_way(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process(
        target=_hold_and_leave_a_child, args=(tmp_path / "run", tmp_path / "pid")
    )
    process.start()
    process.join(60)
    child = int((tmp_path / "pid").read_text())
    try:
        notes: list[str] = []
        with RunFolder(tmp_path / "run", say=notes.append).lock():
            assert len(notes) == 1
            assert f"process {process.pid} on" in notes[0]
            with pytest.raises(RunLockedError), RunFolder(tmp_path / "run").lock():
                pytest.fail("two writers")
    finally:
        os.kill(child, signal.SIGKILL)
