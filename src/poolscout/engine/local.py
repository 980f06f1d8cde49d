"""Executors on this machine: one thread after the other's work, or several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from poolscout.engine.base import Item, Result, register_executor


@register_executor("serial")
@dataclass(frozen=True)
class SerialExecutor:
    """Everything in the calling thread: the reference the others must agree with."""

    workers: int = 1

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        return map(function, items)


@register_executor("threads")
@dataclass(frozen=True)
class ThreadExecutor:
    """A pool of threads, for work that releases the interpreter's lock: image decoding, files, tensor kernels."""

    workers: int
    begin: Callable[[], object] | None = None  # called once in each thread, before its first item

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        source = iter(items)
        with ThreadPoolExecutor(self.workers, "poolscout", self.begin) as threads:
            ahead: deque[Future[Result]] = deque()
            try:
                # Twice the workers keeps all busy while the reader handles one result, and bounds what is held.
                for item in islice(source, 2 * self.workers):
                    ahead.append(threads.submit(function, item))
                while ahead:
                    result = ahead.popleft().result()
                    for item in islice(source, 1):
                        ahead.append(threads.submit(function, item))
                    yield result
            finally:
                for future in ahead:
                    future.cancel()
