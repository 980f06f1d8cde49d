"""What an executor promises: a plain function mapped over items, results in the items' order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from poolscout.errors import ConfigError, nearest

Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Executor(Protocol):
    """Maps a function over items.

    The results come in the order of the items; at most a bounded number of items is taken ahead of the result
    that was read last; the first exception of the function reaches the reader, and no further item is started.
    """

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]: ...


_EXECUTORS: dict[str, Callable[[int], Executor]] = {}


def register_executor(name: str) -> Callable[[Callable[[int], Executor]], Callable[[int], Executor]]:
    """Make an executor known by `name`; it is called with the number of workers."""

    def register(factory: Callable[[int], Executor]) -> Callable[[int], Executor]:
        _EXECUTORS[name] = factory
        return factory

    return register


def executor_names() -> list[str]:
    return sorted(_EXECUTORS)


def make_executor(name: str, workers: int) -> Executor:
    """The executor called `name` with that many workers.

    Raises:
        ConfigError: no executor of that name, or fewer than one worker.
    """
    if name not in _EXECUTORS:
        known = executor_names()
        raise ConfigError(
            f"no executor {name!r}", got=name, expected=", ".join(known), fix=nearest(name, known) or None
        )
    if workers < 1:
        raise ConfigError("an executor needs workers", got=workers, expected="at least 1")
    return _EXECUTORS[name](workers)
