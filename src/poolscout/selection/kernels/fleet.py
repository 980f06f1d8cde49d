"""Shards together: in this process, or each in an actor of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from poolscout.engine import Actors
from poolscout.selection.kernels.state import Block, Centres, Shard
from poolscout.selection.registry import Known

NO_ROWS = np.empty((0, 0), np.float32)


class LocalFleet:
    """Shards of this process; see `state.Fleet`."""

    bytes = 0

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards, self.n_met = shards, 0
        self.sizes: Sequence[int] = [shard.n for shard in shards]

    @property
    def evaluated(self) -> int:
        return sum(shard.evaluated for shard in self._shards)

    def thresholds(self, width: int, now: float) -> list[float]:
        return [shard.threshold(width, now) for shard in self._shards]

    def candidates(self, bound: float, now: float) -> list[Block]:
        return [shard.candidates(bound, now) for shard in self._shards]

    def take(
        self, blocks: Sequence[Block], centres: Centres, taken: Sequence[Int64[np.ndarray, " _"]], now: float,
        later: float,
    ) -> None:  # fmt: skip
        for shard, block, own in zip(self._shards, blocks, taken, strict=True):
            _settle_and_add(shard, block, centres, own, now, later)
        self.n_met += len(centres)

    def meet(self, centres: Centres, picked: int | None = None) -> None:
        """Centres that are there from the beginning; `picked`: it is the point at this position."""
        for shard, own in zip(self._shards, _owned(self.sizes, picked), strict=True):
            shard.add(centres, own, 0.0, 0.0)
        self.n_met += len(centres)

    def known(self) -> Known:
        return _joined(shard.known() for shard in self._shards)

    def unpicked(self) -> Bool[np.ndarray, " n"]:
        return np.concatenate([shard.unpicked() for shard in self._shards])


class ActorFleet:
    """Shards that actors hold, each with its points' rows; see `state.Fleet`.

    What is exchanged: per sweep a bound, the candidates' rows and states, and the picks.

    Args:
        actors: one a shard; each answers `answer`.
        sizes: points of each.
    """

    def __init__(self, actors: Actors, sizes: Sequence[int]) -> None:
        self._actors, self.sizes = actors, sizes
        self.n_met, self.bytes, self._evaluated = 0, 0, [0] * len(sizes)

    @property
    def evaluated(self) -> int:
        return sum(self._evaluated)

    def thresholds(self, width: int, now: float) -> list[float]:
        return self._all(lambda i: ("threshold", width, now))

    def candidates(self, bound: float, now: float) -> list[Block]:
        blocks = self._all(lambda i: ("candidates", bound, now))
        for block in blocks:  # they may lie in shared memory that cannot be written to, which picking does
            for field in fields(block):
                setattr(block, field.name, np.array(getattr(block, field.name)))
        return blocks

    def take(
        self, blocks: Sequence[Block], centres: Centres, taken: Sequence[Int64[np.ndarray, " _"]], now: float,
        later: float,
    ) -> None:  # fmt: skip
        slim = [replace(block, raw=NO_ROWS) for block in blocks]  # the rows are known there
        self._all(lambda i: ("take", slim[i], centres, taken[i], now, later))
        self.n_met += len(centres)

    def meet(self, centres: Centres, picked: int | None = None) -> None:
        """Centres that are there from the beginning; `picked`: it is the point at this position."""
        own = _owned(self.sizes, picked)
        self._all(lambda i: ("add", centres, own[i], 0.0, 0.0))
        self.n_met += len(centres)

    def known(self) -> Known:
        return _joined(self._all(lambda i: ("known",)))

    def unpicked(self) -> Bool[np.ndarray, " n"]:
        return np.concatenate(self._all(lambda i: ("unpicked",)))

    def _all(self, message: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        sent = [message(i) for i in range(len(self.sizes))]
        replies = self._actors.call(sent)
        self.bytes += sum(_n_bytes(one) for one in (*sent, *replies))
        self._evaluated = [evaluated for _, evaluated in replies]
        return [result for result, _ in replies]


def answer(shard: Shard, message: tuple[Any, ...]) -> tuple[Any, int]:
    """What an actor does with a message of `ActorFleet`: (the result, distances its shard has calculated in all)."""
    what, *arguments = message
    do = partial(_settle_and_add, shard) if what == "take" else getattr(shard, what)
    return do(*arguments), shard.evaluated


def _settle_and_add(
    shard: Shard, block: Block, centres: Centres, taken: Int64[np.ndarray, " _"], now: float, later: float
) -> None:
    shard.settle(block)
    shard.add(centres, taken, now, later)


def _owned(sizes: Sequence[int], position: int | None) -> list[Int64[np.ndarray, " _"]]:
    """For each shard, the point at this position as one of its own, or none."""
    positions = np.array([] if position is None else [position], np.int64)
    return [
        positions[(lo <= positions) & (positions < hi)] - lo for lo, hi in pairwise(np.cumsum([0, *sizes]).tolist())
    ]


def _joined(parts: Iterable[Known]) -> Known:
    d, near, seen = zip(*((part.d, part.near, part.seen) for part in parts), strict=True)
    return Known(np.concatenate(d), np.concatenate(near), np.concatenate(seen))


def _n_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if is_dataclass(value) and not isinstance(value, type):
        return sum(_n_bytes(getattr(value, field.name)) for field in fields(value))
    return sum(_n_bytes(one) for one in value) if isinstance(value, tuple) else 8
