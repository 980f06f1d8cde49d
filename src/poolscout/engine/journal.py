"""The log of a run: one JSON object a line, for people and programs that look on from elsewhere."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from poolscout.engine.progress import Meter, Progress, Task
from poolscout.tables.atomic import storage_errors

LOG = "log.jsonl"
PROGRESS_EVERY_S = 5.0
LONGEST_TEXT = 4000  # characters of a note or message
Event = dict[str, Any]


@contextmanager
def journal(progress: Progress, folder: Path, command: str, **facts: Any) -> Iterator[JournalProgress]:
    """While the block runs, write what it tells `progress` to the log of `folder` too, and how it ends.

    Args:
        progress: who else is told.
        folder: gets `log.jsonl`, or more lines at its end.
        command: what is done, e.g. "run".
        facts: further JSON-able fields of the first line.

    Raises:
        StorageError: the log cannot be opened.
    """
    with storage_errors(Path(folder) / LOG):
        log = JournalProgress(progress, Path(folder) / LOG)
    try:
        log.write("started", command=command, **facts)
        with _warnings_to(log):
            yield log
    except Exception as error:
        log.write("error", type=type(error).__name__, message=str(error))
        raise
    except BaseException as stop:  # Ctrl-C, or the end of the interpreter
        log.write("interrupted", type=type(stop).__name__)
        raise
    else:
        log.write("ended", **log.outcome)
    finally:
        log.close()


class JournalProgress:
    """Passes on what it is told, and writes it to a log as well.

    Each line is handed to the system at once, so that SIGKILL costs at most the line being written. Lines about
    progress come every few seconds at most. A log that can no longer be written does not stop the work.

    Args:
        inner: who is told too.
        path: of the log; lines are added at its end.
        clock: seconds from any start.

    Attributes:
        outcome: fields of the last line.
    """

    def __init__(self, inner: Progress, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.outcome: dict[str, Any] = {}
        self._inner, self._clock, self._lock = inner, clock, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
        if _is_torn(path):  # by a kill: what follows shall not be lost with it
            self._file.write("\n")

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        with self._inner.task(title, total) as drawn:
            task = _JournalTask(self, title, drawn, Meter(total, self._clock))
            self.write("begin", title=title, total=total, resident_bytes=task.meter.resident_bytes)
            yield task
        task.meter.look()
        self.write("end", **task.facts(), peak_bytes=task.meter.peak_bytes)

    def say(self, text: str) -> None:
        self._inner.say(text)
        self.write("note", text=text)

    def write(self, event: str, **fields: Any) -> None:
        """Add one line: what happened, when and where."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {key: value[:LONGEST_TEXT] if isinstance(value, str) else value for key, value in fields.items()}
        line = {"time": when, "event": event, "pid": os.getpid(), "host": socket.gethostname(), **told}
        try:
            with self._lock:
                self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        except OSError:  # a full disk is told by the stage that needs it
            return

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            return


class _JournalTask:
    def __init__(self, log: JournalProgress, title: str, drawn: Task, meter: Meter) -> None:
        self.meter, self._written_s = meter, 0.0
        self._log, self._title, self._drawn = log, title, drawn

    def update(self, done: int, note: str = "") -> None:
        self._drawn.update(done, note)
        self.meter.update(done, note)
        seconds = self.meter.seconds
        if seconds - self._written_s >= PROGRESS_EVERY_S:
            self._written_s = seconds
            self._log.write("progress", **self.facts(), left_s=_rounded(self.meter.left_s))

    def facts(self) -> dict[str, Any]:
        meter = self.meter
        return {
            "title": self._title, "done": meter.done, "total": meter.total, "seconds": round(meter.seconds, 3),
            "rate": _rounded(meter.rate), "resident_bytes": meter.resident_bytes, "note": meter.note,
        }  # fmt: skip


class JournalReader:
    """Reads a log that may still be written: each call gives the events since the last one.

    A line that a kill has torn is left out.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._at = Path(path), 0

    def read(self) -> list[Event]:
        """New events, oldest first; none when there is no log."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        self._at += whole
        events = map(_event, data[:whole].split(b"\n"))
        return [event for event in events if event is not None]


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and _is_sound(event) else None


_BARS = ("begin", "progress", "end")
_NUMBERS = ("total", "done", "seconds", "rate", "left_s", "resident_bytes", "peak_bytes")
_TEXTS = ("event", "time", "title", "note", "text", "message", "type", "command", "waiting_for")


def _is_sound(event: Event) -> bool:
    """Whether a line's values are of the kinds that are written, so that readers need not ask."""
    known = {name: value for name, value in event.items() if value is not None or name in ("done", "note")}
    if "event" not in known or not all(isinstance(known.get(name, ""), str) for name in _TEXTS):
        return False
    if known["event"] in _BARS and not {"title", "total", "time"} <= known.keys():
        return False
    try:
        is_dated = "time" not in known or datetime.fromisoformat(known["time"]).tzinfo is not None
        return is_dated and all(math.isfinite(known.get(name, 0)) for name in _NUMBERS)
    except (TypeError, ValueError, OverflowError):
        return False


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


@contextmanager
def _warnings_to(log: JournalProgress) -> Iterator[None]:
    """Python's warnings go to the log too; they are shown as before."""
    shown = warnings.showwarning

    def show_and_write(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **named: Any) -> None:
        log.write("warning", type=category.__name__, message=str(message), where=f"{filename}:{lineno}")
        shown(message, category, filename, lineno, *rest, **named)

    warnings.showwarning = show_and_write
    try:
        yield
    finally:
        warnings.showwarning = shown
