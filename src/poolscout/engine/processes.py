"""Processes on this machine: no worker waits for another's interpreter lock, and one that dies takes none along."""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.managers import SyncManager
from typing import Any, ClassVar, Generic

from poolscout.config import EngineConfig
from poolscout.engine.base import Item, Listener, Result, WithoutActors, call_telling, register_executor
from poolscout.engine.local import available_cores, ready
from poolscout.engine.memory import keep_freed_memory
from poolscout.errors import WorkerLostError

PRELOADED = ["poolscout.detector.sharded"]  # brings torch; workers are forked from a server that has it


@dataclass
class _Ahead(Generic[Item, Result]):
    item: Item
    future: Future[Result] | None = None
    lost: int = 0


@dataclass(frozen=True)
class ProcessExecutor(WithoutActors):
    """A pool of processes, forked from a server without threads; functions and items are pickled."""

    workers: int
    retries: int = 3
    shares_memory: ClassVar[bool] = False

    def map(
        self, function: Callable[..., Result], items: Iterable[Item], *, setup: Callable[[], object] | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        source = iter(items)
        first = list(islice(source, 2 * self.workers))
        if not first:
            return
        # The plain pickler sends tensors by value. That of multiprocessing would send each as a file descriptor, of
        # which a new process takes 256 at most: an ensemble of three, or the labels of 130 images.
        parcel = pickle.dumps((function, setup), pickle.HIGHEST_PROTOCOL)
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        with _alive(context) as alive, _heard(listener, context, alive) as queue:
            start = partial(
                ProcessPoolExecutor, self.workers, context, initializer=_begin, initargs=(parcel, queue, alive)
            )
            pool, ahead = start(), deque(_Ahead[Any, Any](item) for item in first)
            try:
                while ahead:
                    _submit(ahead, pool)
                    try:
                        if ahead[0].future is None:
                            raise BrokenProcessPool
                        result = ahead[0].future.result()
                    except BrokenProcessPool:
                        pool.shutdown(cancel_futures=True)
                        pool = start()
                        self._take_back(ahead)
                        continue
                    ahead.popleft()
                    ahead.extend(_Ahead(item) for item in islice(source, 1))
                    _submit(ahead, pool)  # before the reader takes its time
                    yield result
            finally:
                pool.shutdown(cancel_futures=True)

    def _take_back(self, ahead: Iterable[_Ahead]) -> None:
        """What a dead process has taken along is to be done again; it was busy with one of the first of it."""
        lost = [one for one in ahead if one.future is None or not _is_there(one.future)]
        for number, one in enumerate(lost):
            one.future = None
            one.lost += number < self.workers
            if one.lost > self.retries:
                raise WorkerLostError(
                    "worker processes die again and again",
                    got=f"{one.lost} of them while the same work was under way",
                    expected="workers that live",
                    fix="look into the system's log: often memory has run out (fewer engine.workers, a smaller "
                    "scoring.batch_size); what is finished is kept, the same command goes on from here",
                )


def _submit(ahead: Iterable[_Ahead], pool: ProcessPoolExecutor) -> None:
    """Hand out what nobody does; a broken pool takes no more, which whoever waits for a result finds out."""
    try:
        for one in ahead:
            if one.future is None:
                one.future = pool.submit(_work, one.item)
    except BrokenProcessPool:
        return


def _is_there(future: Future[Any]) -> bool:
    """Whether a result, or the function's own error, has come."""
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


_function: Callable[[], Callable[[Any], Any]]
_ready: Callable[[Any], Any] | None = None


def _begin(parcel: bytes, queue: Any, alive: Connection) -> None:
    global _function
    _end_with(alive)
    keep_freed_memory()
    listener = None if queue is None else (lambda message: queue.put((message,)))

    def made() -> Callable[[Any], Any]:
        return partial(call_telling, listener, ready(*pickle.loads(parcel)))

    _function = made


def _work(item: Any) -> Any:
    global _ready
    if _ready is None:  # here and not in `_begin`, where an error would only break the pool
        _ready = _function()
    return _ready(item)


@contextmanager
def _alive(context: BaseContext) -> Iterator[Connection]:
    """The end of a pipe that breaks when this process is gone, however it went."""
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours:
        yield theirs


def _end_with(alive: Connection) -> None:
    """End this process when that one does: killed, it cannot tell its workers to."""

    def watch() -> None:
        try:
            alive.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _heard(listener: Listener | None, context: BaseContext, alive: Connection) -> Iterator[Any]:
    """A queue whose messages reach the listener until the block ends; None without a listener.

    The queue lives in a process of its own: of a plain one, a worker killed while it writes would keep the lock.
    """
    if listener is None:
        yield None
        return
    manager = SyncManager(ctx=context)
    manager.start(_end_with, (alive,))
    with manager:
        queue = manager.Queue()

        def hear() -> None:
            for (message,) in iter(queue.get, ()):
                listener(message)

        thread = threading.Thread(target=hear, daemon=True)
        thread.start()
        try:
            yield queue
        finally:
            queue.put(())
            thread.join(timeout=10)


@register_executor("processes")
def _processes(settings: EngineConfig) -> ProcessExecutor:
    return ProcessExecutor(settings.workers or available_cores(), settings.retries)
