"""One writer at a time in a folder: the kernel's lock on `.lock`, which says who holds it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from poolscout.errors import RunLockedError
from poolscout.tables.atomic import make_folder, storage_errors

LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_SECOND_LOOK_S = 0.5  # a holder writes who it is right after it has the lock


@dataclass(frozen=True)
class Holder:
    """A process that writes.

    Attributes:
        started: when it was started, as the system counts; tells it from a later process of the same number; empty
            where the system does not say.
        since: when it took the lock, UTC.
    """

    pid: int
    host: str
    started: str
    since: str
    command: str

    @staticmethod
    def this_process() -> Holder:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])  # not its settings: they may be confidential
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        return Holder(os.getpid(), socket.gethostname(), _started(os.getpid()), now, command)

    @staticmethod
    def read(path: Path) -> Holder | None:
        """Who a lock file says holds it; None when it says nothing, or nothing that makes sense."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            texts = {name: str(values[name]) for name in ("host", "started", "since", "command")}
            return Holder(int(values["pid"]), **texts)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def is_gone(self) -> bool:
        """Whether it is sure that this process has ended: it ran here, and is no more or is another program now."""
        if self.host != socket.gethostname() or self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} UTC ({self.command})"


@contextmanager
def hold_lock(folder: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Hold `folder`'s lock; the system lets go of it when this process ends, however it ends.

    Where the file system has no such locks, a file that only one process can make is the lock; one that a killed
    process has left is taken over on the machine it ran on.

    Args:
        say: told when the last holder ended without letting go.

    Raises:
        RunLockedError: another process is writing; says who.
        StorageError: the folder may not be written.
    """
    with storage_errors(folder):
        make_folder(folder)
        let_go = _take(folder / LOCK, say)
    try:
        yield
    finally:
        let_go()


def _take(path: Path, say: Callable[[str], object]) -> Callable[[], None]:
    """Take the kernel's lock on the file at `path`; returns what lets go of it."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno in _UNSUPPORTED:
                return _take_by_making(path.with_name(f"{path.name}.held"), say)
            if not isinstance(error, BlockingIOError):
                raise
            if not _is_left_behind(path):
                raise _refused(path, "wait until it has ended, or choose another --out") from error
            _say_left(Holder.read(path), say)
            path.unlink(missing_ok=True)  # a child of a process that is gone still has the old file open
            continue
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()  # another process has taken over meanwhile
    _say_left(Holder.read(path), say)
    file.truncate(0)
    file.write(_this_process())
    file.flush()

    def let_go() -> None:
        with file:
            file.truncate(0)

    return let_go


def _take_by_making(path: Path, say: Callable[[str], object]) -> Callable[[], None]:
    """The lock where the kernel has none: `path` is made by one process, and removed when it has done."""
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_this_process())
        except FileExistsError as error:
            if not _is_left_behind(path):
                fix = f"wait until it has ended; if it was killed on another machine, delete {path}"
                raise _refused(path, fix) from error
            _say_left(Holder.read(path), say)
            path.unlink(missing_ok=True)
            continue
        return lambda: path.unlink(missing_ok=True)


def _is_left_behind(path: Path) -> bool:
    """Whether the process that a lock file names is surely gone, also at a second look."""
    for wait_s in (0.0, _SECOND_LOOK_S):
        time.sleep(wait_s)
        holder = Holder.read(path)
        if holder is None or not holder.is_gone():
            return False
    return True


def _refused(path: Path, fix: str) -> RunLockedError:
    holder = Holder.read(path)
    return RunLockedError(
        f"{path.parent}: another process is writing to this run",
        got="an unknown process" if holder is None else holder,
        expected="one writer at a time",
        fix=fix,
    )


def _say_left(holder: Holder | None, say: Callable[[str], object]) -> None:
    if holder is not None:
        say(f"the last writer, {holder}, ended without letting go; what it finished is kept")


def _this_process() -> str:
    return json.dumps(asdict(Holder.this_process()))


def _started(pid: int) -> str:
    """When a process was started, in the system's ticks since it booted; empty where that cannot be told."""
    try:
        # The second field, the program's name, may hold spaces and brackets; the 22nd is the time.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
