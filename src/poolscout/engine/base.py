"""What an executor promises: a plain function mapped over items, results in the items' order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from poolscout.errors import ConfigError
from poolscout.registry import Registry

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Executor(Protocol):
    """Maps a function over items.

    The results come in the order of the items; at most a bounded number of items is taken ahead of the result
    that was read last; the first exception of the function reaches the reader, and no further item is started.
    """

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]: ...


_EXECUTORS: Registry[Callable[[int], Executor]] = Registry("executor", "poolscout.engine")


def register_executor(name: str) -> Callable[[Callable[[int], Executor]], Callable[[int], Executor]]:
    """Make an executor known by `name`; it is called with the number of workers."""

    def register(factory: Callable[[int], Executor]) -> Callable[[int], Executor]:
        _EXECUTORS.add(name, factory)
        return factory

    return register


def executor_names() -> list[str]:
    return _EXECUTORS.names()


def make_executor(name: str, workers: int) -> Executor:
    """The executor called `name` with that many workers.

    Raises:
        ConfigError: no executor of that name, or fewer than one worker.
    """
    factory = _EXECUTORS.get(name)
    if workers < 1:
        raise ConfigError("an executor needs workers", got=workers, expected="at least 1")
    return factory(workers)
