"""How long work tells what it does: the library reports, the command line draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable


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
