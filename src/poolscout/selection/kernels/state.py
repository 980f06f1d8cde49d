"""What the greedy samplers know of each point, and by which rule they rank it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from poolscout.selection.registry import Known


@dataclass(frozen=True)
class Rule:
    """How points are ranked: a *priority*, lower = sooner, that only rises as more centres are met.

    Core-set (greedy k-center): −weight · d_min.

    k-means++ as a race: a point whose hazard is weight · d_min(t) fires when ∫ d_min dt reaches `theta` = E / weight,
    with E ~ Exp(1); that time, its *event*, is its priority. The next event of all belongs to point x with probability
    weight · d_min / Σ weight · d_min, whatever happened before (exponentials have no memory): exactly k-means++ (Arthur
    and Vassilvitskii 2007), and a function of one random number a point.

    Attributes:
        weight: [n] score^power.
        theta, exponentials: [n], or None for core-set.
    """

    weight: Float64[np.ndarray, " n"]
    theta: Float64[np.ndarray, " n"] | None = None
    exponentials: Float64[np.ndarray, " n"] | None = None

    @classmethod
    def race(cls, weight: Float64[np.ndarray, " n"], exponentials: Float64[np.ndarray, " n"]) -> Rule:
        """k-means++ with a draw of Exp(1) for each point; one without weight never fires."""
        with np.errstate(divide="ignore"):
            return cls(weight, exponentials / weight, exponentials)

    def part(self, points: slice) -> Rule:
        """The rule over these points alone."""
        theta, exponentials = (None if of is None else of[points] for of in (self.theta, self.exponentials))
        return Rule(self.weight[points], theta, exponentials)

    @property
    def is_race(self) -> bool:
        return self.theta is not None


@dataclass
class Knowledge:
    """One entry a point; for core-set the last four are single dummies.

    Attributes:
        d: least squared distance (exact, float64) to the centres met; infinite before the first.
        near: which centre that is; −1 before the first.
        seen: the point has met centres 0 … seen−1 (and maybe some later ones, for core-set).
        priority: lower bound of the point's priority now; infinite when picked.
        area: ∫ d dt up to `last`, when d last fell.
        event: when the point fires if d stays as it is.
        ring: the reading of its group's clock before which the point cannot fire.
    """

    d: Float64[np.ndarray, " n"]
    near: Int32[np.ndarray, " n"]
    seen: Int64[np.ndarray, " n"]
    priority: Float64[np.ndarray, " n"]
    area: Float64[np.ndarray, " m"]
    last: Float64[np.ndarray, " m"]
    event: Float64[np.ndarray, " m"]
    ring: Float64[np.ndarray, " m"]

    @classmethod
    def blank(cls, n: int, rule: Rule) -> Knowledge:
        m = n if rule.is_race else 1
        return cls(
            d=np.full(n, np.inf), near=np.full(n, -1, np.int32), seen=np.zeros(n, np.int64),
            priority=np.full(n, -np.inf), area=np.zeros(m), last=np.zeros(m), event=np.zeros(m), ring=np.zeros(m),
        )  # fmt: skip

    @classmethod
    def of(cls, known: Known, rule: Rule) -> Knowledge:
        """What an earlier selection has found out about the distances to the first of the given centres."""
        knowledge = cls.blank(len(known.d), rule)
        knowledge.d[:], knowledge.near[:], knowledge.seen[:] = known.d, known.near, known.seen
        met = known.d < np.inf
        if rule.theta is None:
            knowledge.priority[met] = -rule.weight[met] * known.d[met]
        else:
            with np.errstate(divide="ignore"):
                knowledge.event[met] = np.where(known.d[met] > 0, rule.theta[met] / known.d[met], np.inf)
            knowledge.priority[met] = knowledge.event[met]
        return knowledge


@dataclass(frozen=True)
class Centres:
    """What points keep away from: labelled images first, then the picks in order.

    Attributes:
        raw: [k, d] rows as stored; scales: [k].
        times: [k] when each was picked; 0 for those given.
    """

    raw: np.ndarray
    scales: Float64[np.ndarray, " k"]
    times: Float64[np.ndarray, " k"]

    def __len__(self) -> int:
        return len(self.raw)


class Growing:
    """Rows that are appended often: twice the room whenever it runs out."""

    def __init__(self) -> None:
        self.n, self._room = 0, np.empty(0)

    @property
    def rows(self) -> np.ndarray:
        return self._room[: self.n]

    def append(self, new: np.ndarray) -> None:
        if self.n + len(new) > len(self._room) or self._room.shape[1:] != new.shape[1:]:
            kind = np.result_type(self._room, new) if self.n else new.dtype  # never narrower than what is there
            room = np.empty((max(2 * self.n, self.n + len(new), 256), *new.shape[1:]), kind)
            if self.n:
                room[: self.n] = self.rows
            self._room = room
        self._room[self.n : self.n + len(new)] = new
        self.n += len(new)


@dataclass
class Block:
    """Candidates that are up to date, on their way through the picking; arrays as in `Knowledge`."""

    slots: Int64[np.ndarray, " t"]
    positions: Int64[np.ndarray, " t"]
    raw: np.ndarray
    scales: Float64[np.ndarray, " t"]
    weight: Float64[np.ndarray, " t"]
    theta: Float64[np.ndarray, " m"]
    d: Float64[np.ndarray, " t"]
    near: Int32[np.ndarray, " t"]
    priority: Float64[np.ndarray, " t"]
    area: Float64[np.ndarray, " m"]
    last: Float64[np.ndarray, " m"]
    event: Float64[np.ndarray, " m"]
    met: Int64[np.ndarray, " t"] = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.slots)


@runtime_checkable
class Shard(Protocol):
    """Points that one process or device holds."""

    n: int
    evaluated: int

    def threshold(self, width: int, now: float) -> float:
        """A priority that about `width` points may reach; infinite when no point is left."""

    def candidates(self, bound: float, now: float) -> Block:
        """The points whose priority is at most `bound`, no more than the last threshold, when they are up to date."""

    def settle(self, block: Block) -> None:
        """Take back what a block's points learned from the picks made since they were handed out."""

    def add(self, centres: Centres, taken: Int64[np.ndarray, " p"], now: float, later: float) -> None:
        """New centres; `taken` are those of this shard's own points that are picked. Time moves on to `later`."""

    def known(self) -> Known:
        """What the points know of their distances, by position."""

    def unpicked(self) -> Bool[np.ndarray, " n"]:
        """Which points are left, by position."""


@runtime_checkable
class Fleet(Protocol):
    """Shards that hold all points, one after another: a point's position is counted through all of them.

    Attributes:
        sizes: points of each shard.
        n_met: how many centres the shards have been given.
        evaluated: distances they have calculated.
        bytes: exchanged with other processes.
    """

    sizes: Sequence[int]
    n_met: int
    bytes: int

    @property
    def evaluated(self) -> int: ...

    def meet(self, centres: Centres, picked: int | None = None) -> None:
        """Centres that are there from the beginning; `picked`: it is the point at this position."""

    def thresholds(self, width: int, now: float) -> list[float]:
        """`Shard.threshold` of each."""

    def candidates(self, bound: float, now: float) -> list[Block]:
        """`Shard.candidates` of each."""

    def take(
        self,
        blocks: Sequence[Block],
        centres: Centres,
        taken: Sequence[Int64[np.ndarray, " _"]],
        now: float,
        later: float,
    ) -> None:
        """`Shard.settle` of the candidates where there were any, and `Shard.add` of each."""

    def known(self) -> Known:
        """What the points know of their distances, by position."""

    def unpicked(self) -> Bool[np.ndarray, " n"]:
        """Which points are left, by position."""
