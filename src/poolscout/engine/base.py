"""What an executor promises: a plain function mapped over items, in this process or many, results in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from poolscout.config import EngineConfig
from poolscout.registry import Registry

Item = TypeVar("Item")
Result = TypeVar("Result")
Listener = Callable[[Any], object]


@runtime_checkable
class Executor(Protocol):
    """Maps a function over items.

    The results come in the order of the items; at most two items a worker are taken ahead of the result that was read
    last. An exception of the function reaches the reader and no further item is started. An item whose worker is lost
    is given to another one, a bounded number of times.

    Attributes:
        workers: how many items are worked on at the same time.
        shares_memory: functions and items stay in this process; elsewhere they are pickled.
        has_actors: it can keep things in workers; see `actors`.
        uses_gpus: every worker holds a GPU, or a part of one, that this process may not have.
    """

    @property
    def workers(self) -> int: ...
    @property
    def shares_memory(self) -> bool: ...
    @property
    def has_actors(self) -> bool: ...
    @property
    def uses_gpus(self) -> bool: ...

    def map(
        self,
        function: Callable[..., Result],
        items: Iterable[Item],
        *,
        setup: Callable[[], object] | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Result]:
        """function(item) of each item; with a setup, function(setup(), item).

        Args:
            function: does the work.
            items: taken as workers become free.
            setup: called once in every process that works, e.g. to load models.
            listener: gets what the function says by `tell`, in this process, in no strict order.

        Raises:
            WorkerLostError: an item's workers were lost more often than may be.
        """

    def actors(self, function: Callable[..., Any], setups: Iterable[Callable[[], object]]) -> Actors:
        """A worker for each setup, which keeps what that gives, for work in which every worker has a part.

        Only where `has_actors`.
        """

    def room(self) -> int:
        """How many actors there is room for now."""

    def close(self) -> None:
        """Let go of the workers."""


@runtime_checkable
class Actors(Protocol):
    """Workers that each hold a part of something."""

    def call(self, items: Sequence[Any]) -> list[Any]:
        """function(what the worker holds, item), on all workers at the same time, one item each.

        Raises:
            WorkerLostError: one of them is gone, and what it held with it.
        """

    def close(self) -> None:
        """Let go of the workers and what they hold."""


class WithoutActors:
    """What executors have in common whose workers end with a map, and hold nothing beyond it."""

    has_actors: ClassVar[bool] = False
    uses_gpus: ClassVar[bool] = False

    def actors(self, function: Callable[..., Any], setups: Iterable[Callable[[], object]]) -> Actors:
        raise NotImplementedError("has_actors is false")

    def room(self) -> int:
        return 0

    def close(self) -> None:
        """There is nothing to let go of."""


_EXECUTORS: Registry[Callable[[EngineConfig], Executor]] = Registry("executor", "poolscout.engine")
Factory = Callable[[EngineConfig], Executor]


def register_executor(name: str) -> Callable[[Factory], Factory]:
    """Make an executor known by `name`; it is made from the settings of the engine."""

    def register(factory: Factory) -> Factory:
        _EXECUTORS.add(name, factory)
        return factory

    return register


def executor_names() -> list[str]:
    return _EXECUTORS.names()


@contextmanager
def open_executor(settings: EngineConfig) -> Iterator[Executor]:
    """The executor that the settings name; its workers are let go of at the end.

    Raises:
        ConfigError: no executor of that name; names the nearest.
        CapabilityError: a package that it needs is not installed.
    """
    executor = _EXECUTORS.get(settings.name)(settings)
    try:
        yield executor
    finally:
        executor.close()


_channel = threading.local()


def tell(message: object) -> None:
    """Say something to the listener of the map that this function is called in; without one it is lost."""
    listener = getattr(_channel, "listener", None)
    if listener is not None:
        listener(message)


def call_telling(listener: Listener | None, function: Callable[..., Result], *arguments: object) -> Result:
    """function(*arguments) while `tell`, in this thread, reaches the listener."""
    before = getattr(_channel, "listener", None)
    _channel.listener = listener
    try:
        return function(*arguments)
    finally:
        _channel.listener = before
