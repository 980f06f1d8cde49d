"""Cells carried out by an executor, with a bar that counts their trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from poolscout.engine import Executor, SerialExecutor
from poolscout.engine.progress import Progress


def play_through(
    executor: Executor, progress: Progress, title: str, total: int,
    passes: Iterable[tuple[Callable[[Any, Any], None], list[Any]]], opened: Callable[[], object],
) -> None:  # fmt: skip
    """All items of one pass, then those of the next; each goes on where it was.

    Args:
        title: of the bar.
        total: how often the cells `tell`, each time in words, that something is done.
        passes: a function, and the items that it is called with.
        opened: gives what the function gets before its item; called once in every process that works.
    """
    if executor.shares_memory:  # one after the other: a training keeps this process's cores, or its GPU, busy
        executor = SerialExecutor()
    done = count(1)
    with progress.task(title, total) as task:

        def told(words: Any) -> None:
            task.update(next(done), str(words))

        for function, items in passes:
            for _ in executor.map(function, items, setup=opened, listener=told):
                pass
