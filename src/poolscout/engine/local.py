"""Executors inside this process: one item after the other, or several threads at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import ClassVar

from poolscout.config import EngineConfig
from poolscout.engine.base import Item, Listener, Result, WithoutActors, call_telling, register_executor


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class SerialExecutor(WithoutActors):
    """Everything in the calling thread: the reference the others must agree with."""

    workers: int = 1
    shares_memory: ClassVar[bool] = True

    def map(
        self, function: Callable[..., Result], items: Iterable[Item], *, setup: Callable[[], object] | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        work = partial(call_telling, listener, ready(function, setup))
        return map(work, items)


@dataclass(frozen=True)
class ThreadExecutor(WithoutActors):
    """A pool of threads, for work that releases the interpreter's lock: image decoding, files, tensor kernels."""

    workers: int
    begin: Callable[[], object] | None = None  # called once in each thread, before its first item
    shares_memory: ClassVar[bool] = True

    def map(
        self, function: Callable[..., Result], items: Iterable[Item], *, setup: Callable[[], object] | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        source = iter(items)
        work = partial(call_telling, listener, ready(function, setup))
        with ThreadPoolExecutor(self.workers, "poolscout", self.begin) as threads:
            ahead: deque[Future[Result]] = deque()
            try:
                # Twice the workers keeps all busy while the reader handles one result, and bounds what is held.
                for item in islice(source, 2 * self.workers):
                    ahead.append(threads.submit(work, item))
                while ahead:
                    result = ahead.popleft().result()
                    for item in islice(source, 1):
                        ahead.append(threads.submit(work, item))
                    yield result
            finally:
                for future in ahead:
                    future.cancel()


def ready(function: Callable[..., Result], setup: Callable[[], object] | None) -> Callable[..., Result]:
    """The function of an item alone."""
    return function if setup is None else partial(function, setup())


@register_executor("serial")
def _serial(settings: EngineConfig) -> SerialExecutor:
    return SerialExecutor()


@register_executor("threads")
def _threads(settings: EngineConfig) -> ThreadExecutor:
    return ThreadExecutor(settings.workers or available_cores())
