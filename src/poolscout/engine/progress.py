"""How long work tells what it does: the library reports, the command line draws, a run's log writes down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

import psutil

# At the memory: asking the system for all children takes milliseconds, and more where many processes are.
LOOK_EVERY_S, LOOK_SHARE = 1.0, 0.005


@runtime_checkable
class Task(Protocol):
    """One bar: how much is done, and a few words such as the loss."""

    def update(self, done: int, note: str = "") -> None: ...


@runtime_checkable
class Progress(Protocol):
    """Where a run tells what it is doing."""

    def task(self, title: str, total: int) -> AbstractContextManager[Task]: ...

    def say(self, text: str) -> None: ...


class _SilentTask:
    def update(self, done: int, note: str = "") -> None:
        """Nobody listens."""


class SilentProgress:
    """For library use and tests: nothing is drawn."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        yield _SilentTask()

    def say(self, text: str) -> None:
        """Nobody listens."""


class Meter:
    """How far a task is, how fast it goes and how much memory it takes, for whoever shows it.

    Args:
        total: units to be done.
        clock: seconds from any start.

    Attributes:
        done: units done, those that an earlier process had finished among them.
        note: the last words that came with them.
        resident_bytes: of this process and its children when looked at last.
        peak_bytes: the most that was seen of it; it is looked at once a second, or less often where that takes long.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done, self.note = total, 0, ""
        self._clock, self._begun = clock, clock()
        self._first: tuple[float, int] | None = None
        self.peak_bytes = 0
        self.look()

    def update(self, done: int, note: str = "") -> None:
        """Take note of `done` units, and of a few words."""
        now = self._clock()
        self.done, self.note = done, note or self.note
        if self._first is None:  # what an earlier process had finished does not count as speed
            self._first = (now, done)
        if now >= self._next_look:
            self.look()

    def look(self) -> None:
        """Look at the memory now."""
        begun = self._clock()
        self.resident_bytes = resident_bytes()
        self.peak_bytes = max(self.peak_bytes, self.resident_bytes)
        self._next_look = begun + max(LOOK_EVERY_S, (self._clock() - begun) / LOOK_SHARE)

    @property
    def seconds(self) -> float:
        """Since the task began."""
        return self._clock() - self._begun

    @property
    def rate(self) -> float | None:
        """Units a second since the first report; None until there is a second one."""
        if self._first is None:
            return None
        seconds, units = self._clock() - self._first[0], self.done - self._first[1]
        return units / seconds if seconds > 0 and units > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate."""
        rate = self.rate
        return None if rate is None or not self.total else max(self.total - self.done, 0) / rate


def resident_bytes() -> int:
    """Memory that this process and its children hold; pages that several share count in each of them."""
    own = psutil.Process()
    n_bytes = 0
    for process in (own, *own.children(recursive=True)):
        try:
            n_bytes += process.memory_info().rss
        except psutil.Error:  # it has ended in the meantime, or is another user's
            continue
    return n_bytes
