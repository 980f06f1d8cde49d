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
from typing import TextIO

from poolscout.errors import RunLockedError
from poolscout.tables.atomic import make_folder, storage_errors

LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_PATIENCE_S, _LOOK_EVERY_S = 10.0, 0.02  # with others that are just taking the lock, which takes milliseconds


@dataclass(frozen=True)
class Holder:
    """A process that writes.

    Attributes:
        started: when it was started, as the system counts; tells it from a later process of the same number; empty
            where the system does not say.
        since: when it took the lock, UTC.
        boot: which start of which machine it runs under; empty where the system does not say.
        pid_namespace: where `pid` is its number, a container's or the machine's own; empty where that is not known.
    """

    pid: int
    host: str
    started: str
    since: str
    command: str
    boot: str = ""
    pid_namespace: str = ""

    @staticmethod
    def this_process() -> Holder:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])  # not its settings: they may be confidential
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        return Holder(
            os.getpid(), socket.gethostname(), _started(os.getpid()), now, command, _boot(), _pid_namespace()
        )  # fmt: skip

    @staticmethod
    def read(path: Path) -> Holder | None:
        """Who a lock file says holds it; None when it says nothing, or nothing that makes sense."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            texts = {name: str(values[name]) for name in ("host", "started", "since", "command")}
            # Earlier releases did not write where a number counts; then nothing is known of the process.
            where = {name: str(values.get(name, "")) for name in ("boot", "pid_namespace")}
            return Holder(int(values["pid"]), **texts, **where)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    @property
    def is_visible(self) -> bool:
        """Whether its number means the same process here: same start of the same machine, same namespace of numbers.

        A host's name would not do: two containers may share it, and count their processes each from one.
        """
        here = (_boot(), _pid_namespace())
        return (self.boot, self.pid_namespace) == here and all(here)

    def is_gone(self) -> bool:
        """Whether it is sure that this process has ended: it ran here, and is no more or is another program now."""
        if not self.is_visible or self.pid <= 0:
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
    try:
        with _alone_at(path):
            file = _locked(path, say)
            _say_left(Holder.read(path), say)
            file.truncate(0)
            file.write(_this_process())
            file.flush()
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return _take_by_making(path.with_name(f"{path.name}.held"), say)
        raise

    def let_go() -> None:
        with file:
            file.truncate(0)

    return let_go


@contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    """Between the look at who holds the lock and the name of the new holder nobody else takes it.

    Without this a process could find a lock left behind, and remove the one that another has taken in the meantime.
    """
    guard = path.with_name(f"{path.name}.guard")
    give_up = time.monotonic() + _PATIENCE_S
    with guard.open("a", encoding="utf-8") as file:
        while not _is_taken(file):
            if time.monotonic() > give_up:
                raise _refused(path, f"start again; if this stays, a process has {guard} open and does not end: end it")
            time.sleep(_LOOK_EVERY_S)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # also for children that were made meanwhile and have it open


def _locked(path: Path, say: Callable[[str], object]) -> TextIO:
    """The file at `path`, locked by this process; a lock whose holder is surely gone is replaced by a new file."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            if _is_taken(file):
                return file
            holder = _check_left_behind(path, "wait until it has ended, or choose another --out")
            _say_left(holder, say)
            path.unlink(missing_ok=True)  # a child of a process that is gone still has the old file open
        except BaseException:
            file.close()
            raise
        file.close()


def _is_taken(file: TextIO) -> bool:
    """Take the kernel's lock on an open file, unless another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_by_making(path: Path, say: Callable[[str], object]) -> Callable[[], None]:
    """The lock where the kernel has none: `path` is made by one process, and removed when it has done."""
    fix = f"wait until it has ended; if it was killed in another place, delete {path}"
    while True:
        try:
            _make(path)
        except FileExistsError:
            _check_left_behind(path, fix)
        else:
            return lambda: path.unlink(missing_ok=True)
        taking = path.with_name(f"{path.name}.taking")
        try:
            _make(taking)
        except FileExistsError as error:
            raise _refused(taking, f"start again; if this stays and nobody is at work, delete {taking}") from error
        try:
            # Only who has made that file removes a lock left behind, and only one that still is when seen from here.
            _say_left(_check_left_behind(path, fix), say)
            path.unlink(missing_ok=True)
        finally:
            taking.unlink(missing_ok=True)


def _make(path: Path) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(_this_process())


def _check_left_behind(path: Path, fix: str) -> Holder:
    """The process that a lock file names, which is surely gone; anything else means that the lock is held."""
    holder = Holder.read(path)
    if holder is None or not holder.is_gone():
        raise _refused(path, fix)
    return holder


def _refused(path: Path, fix: str) -> RunLockedError:
    holder = Holder.read(path)
    if holder is not None and not holder.is_visible:
        fix = (
            f"{fix}; it runs in another container or on another machine: there it, or what is left of it, can be ended"
        )
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


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    """The namespace of this process's number; empty where /proc is missing or shows another one's processes."""
    try:
        shows_this = str(Path("/proc/self").readlink()) == str(os.getpid())
        return str(Path("/proc/self/ns/pid").readlink()) if shows_this else ""
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in the system's ticks since it booted; empty where that cannot be told."""
    try:
        # The second field, the program's name, may hold spaces and brackets; the 22nd is the time.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
