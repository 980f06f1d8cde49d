"""Constraints around any sampler: ask it, walk through its picks, refuse what may not be, ask again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int64

from poolscout.selection.gates import Gate
from poolscout.selection.newcomers import Newcomers, distances_when_picked
from poolscout.selection.registry import Candidates, Known, Picked, Positions, Sampler, run_sampler
from poolscout.selection.turns import next_turn, turns_ahead

START = -1  # the lane of picks that were there before anything was asked
NEARER = 0.5  # of its distance: what a proposal may lose to other lanes' picks before it is put back
MOST_PASSES_PUT_BACK = 8  # after which it may lose more


@dataclass(frozen=True)
class Lane:
    """One of the queues that a batch is taken from in turn; without classes there is only one.

    Attributes:
        candidates: all of them, with the scores that this lane ranks by.
        weight: its share of the turns, beside the others' weights.
        most: picks after which it is done; None: never.
        open: [n] which candidates it looks at; None: all.
    """

    candidates: Candidates
    weight: float = 1.0
    most: int | None = None
    open: Bool[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class Asked:
    """One pass of a sampler that measures distances.

    Attributes:
        positions: [m] of the candidates that it was asked about.
        centres: positions of those that were picked before, then of its picks; the labelled embeddings are before them.
        known: [m] the distances to all of these.
    """

    positions: Int64[np.ndarray, " m"]
    centres: Int64[np.ndarray, " c"]
    known: Known


@dataclass(frozen=True)
class Batch:
    """What was picked within the constraints.

    Attributes:
        positions: distinct, in pick order.
        lanes: whose turn each pick was; `START` for those that were there before.
        distances: to the nearest centre when picked, in the metric; NaN where none was measured.
        because: for each pick, what set it apart from the others; "" where nothing did.
        moved: for each pick, what was refused just before it; "" where nothing was.
        refused: picks of the sampler that each constraint refused.
        ruled_out: candidates that each constraint shut out before they could be picked.
        notes: what the sampler had to say.
        asked: what the first lane's first pass was asked about, and what it learned; None if it measured nothing.
    """

    positions: Positions
    lanes: Int64[np.ndarray, " k"]
    distances: Float64[np.ndarray, " k"]
    because: Sequence[str]
    moved: Sequence[str]
    refused: Counter[str]
    ruled_out: Counter[str]
    notes: Sequence[str]
    asked: Asked | None = None


def pick_batch(
    chosen: Sampler,
    lanes: Sequence[Lane],
    n: int,
    seed: int,
    *,
    gates: Sequence[Gate] = (),
    start: Positions | None = None,
    barred: Bool[np.ndarray, " n"] | None = None,
) -> Batch:
    """`n` picks, `start` first, that every gate admits; fewer when no candidate is left that they admit.

    Each pass asks the sampler for what is missing, of the candidates that may still be picked, with all that is picked
    as centres; the picks are walked through in order. The first of a pass is always admitted, so it ends.

    Args:
        chosen: the sampler.
        lanes: at least one; all of the same candidates.
        n: as many as are wanted, with those of `start`.
        seed: without constraints the sampler draws from `default_rng(seed)`; later passes and lanes have their own.
        gates: asked in this order; the first that refuses is the reason.
        start: distinct, first in the batch, and not asked about.
        barred: [n] candidates that are never picked, except by `start`.

    Raises:
        CapabilityError: the candidates lack what the sampler needs.
    """
    # Asked for nothing, it only says what it needs: also when no candidate is left to be picked.
    run_sampler(chosen, lanes[0].candidates, 0, np.random.default_rng(seed))
    batch = _Growing(chosen, lanes, n, seed, gates, np.ones(lanes[0].candidates.n, bool))
    if barred is not None:
        batch.left &= ~barred
    looked_at = [lane.open for lane in lanes if lane.open is not None]
    if len(looked_at) == len(lanes):
        batch.left &= np.logical_or.reduce(looked_at)
    for position in [] if start is None else start[:n].tolist():
        batch.accept(position, START, np.nan)
    while len(batch.positions) < n and batch.ask():
        batch.walk()
    positions, distances = np.array(batch.positions, np.int64), np.array(batch.distances, np.float64)
    if batch.measures and (batch.refused or len(lanes) > 1 or (len(distances) and batch.of_lane[0] == START)):
        distances = distances_when_picked(lanes[0].candidates, positions)
    return Batch(
        positions, np.array(batch.of_lane, np.int64), distances, batch.because, batch.moved, batch.refused,
        batch.ruled_out, tuple(batch.notes), batch.asked,
    )  # fmt: skip


@dataclass
class _Queue:
    """What the sampler proposed for one lane, and how far the walk has come."""

    positions: list[int]
    distances: list[float]
    because: Sequence[str]
    at: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, picked: Picked) -> _Queue:
        k = len(picked.positions)
        distances = [np.nan] * k if picked.distances is None else picked.distances.tolist()
        return cls(picked.positions.tolist(), distances, [""] * k if picked.because is None else picked.because)


@dataclass
class _Growing:
    """A batch on its way; `left` are the candidates that may still be picked, as far as is known."""

    chosen: Sampler
    lanes: Sequence[Lane]
    n: int
    seed: int
    gates: Sequence[Gate]
    left: Bool[np.ndarray, " n"]
    positions: list[int] = field(default_factory=list)
    of_lane: list[int] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)
    because: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    ruled_out: Counter[str] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)
    queues: dict[int, _Queue] = field(default_factory=dict)
    n_passes: int = 0
    measures: bool = False  # distances, that is
    newcomers: Newcomers | None = None
    asked: Asked | None = None

    def __post_init__(self) -> None:
        self.taken = [0] * len(self.lanes)

    def ask(self) -> bool:
        """Have the sampler propose what is missing; False when no candidate is left."""
        left = np.flatnonzero(self.left)
        for gate in self.gates:
            admitted = gate.admitted(left)
            self.ruled_out[gate.name] += len(left) - int(admitted.sum())
            left = left[admitted]
        self.left[:] = False
        self.left[left] = True
        missing = min([self.n - len(self.positions), *(gate.room(left) for gate in self.gates)])
        kept = {index: self._kept(lane, left) for index, lane in enumerate(self.lanes) if not self._is_done(index)}
        waiting = [index for index, positions in kept.items() if len(positions)]
        weights, most = [lane.weight for lane in self.lanes], [lane.most for lane in self.lanes]
        shares = turns_ahead(self.taken, weights, most, waiting, missing)
        self.queues = {index: self._propose(index, kept[index], shares[index]) for index in waiting}
        self.n_passes += 1
        if self.measures and len(self.lanes) > 1 and self.n_passes <= MOST_PASSES_PUT_BACK:
            self.newcomers = Newcomers(self.lanes[0].candidates, len(self.lanes))
        else:
            self.newcomers = None
        for gate in self.gates:
            gate.ahead(self._expected())
        return bool(waiting)

    def walk(self) -> None:
        """Take the proposals in turn, until the batch is full or the lane whose turn it is has none left."""
        weights = [lane.weight for lane in self.lanes]
        while len(self.positions) < self.n:
            waiting = [index for index in self.queues if not self._is_done(index)]
            if not waiting or not self._take_from(next_turn(self.taken, weights, waiting)):
                return

    def accept(self, position: int, lane: int, distance: float, because: str = "", moved: str = "") -> None:
        self.positions.append(position)
        self.of_lane.append(lane)
        self.distances.append(distance)
        self.because.append(because)
        self.moved.append(moved)
        self.left[position] = False
        if lane != START:
            self.taken[lane] += 1
        for gate in self.gates:
            gate.accept(position)

    def _take_from(self, lane: int) -> bool:
        """Accept the lane's next proposal that is admitted; False when there is none."""
        queue = self.queues[lane]
        while queue.at < len(queue.positions):
            at, position = queue.at, queue.positions[queue.at]
            queue.at += 1
            if not self.left[position]:  # another lane has picked it, or was refused it, in this pass
                continue
            if self._is_overtaken(lane, position, queue.distances[at]):  # put back, for a later pass
                continue
            shut = next((gate.name for gate in self.gates if not gate.admits(position)), None)
            if shut is None:
                moved = _in_words(queue.refused)
                self.accept(position, lane, queue.distances[at], queue.because[at], moved)
                if self.newcomers is not None:
                    self.newcomers.accept(position, lane)
                queue.refused.clear()
                return True
            self.left[position] = False
            self.refused[shut] += 1
            queue.refused[shut] += 1
        return False

    def _is_overtaken(self, lane: int, position: int, distance: float) -> bool:
        """Whether another lane's pick of this pass, unknown to the sampler, has come much nearer than what it knew."""
        return self.newcomers is not None and self.newcomers.distance(position, lane) < NEARER * distance

    def _is_done(self, lane: int) -> bool:
        most = self.lanes[lane].most
        return most is not None and self.taken[lane] >= most

    def _kept(self, lane: Lane, left: Positions) -> Int64[np.ndarray, " kept"]:
        return left if lane.open is None else left[lane.open[left]]

    def _propose(self, index: int, kept: Positions, share: int) -> _Queue:
        candidates = self.lanes[index].candidates
        candidates = candidates.away_from(np.array(self.positions, np.int64))
        if len(kept) < candidates.n:
            candidates = candidates.only(kept)
        picked = run_sampler(self.chosen, candidates, share, self._generator(index))
        self.notes |= dict.fromkeys(picked.notes)
        queue = _Queue.of(picked)
        queue.positions = kept[picked.positions].tolist()
        self.measures |= picked.distances is not None
        if self.n_passes == 0 and self.asked is None and picked.known is not None:
            centres = np.array([*self.positions, *queue.positions], np.int64)
            self.asked = Asked(kept, centres, picked.known)
        return queue

    def _generator(self, lane: int) -> np.random.Generator:
        first = self.n_passes == 0 and lane == 0
        return np.random.default_rng(
            np.random.SeedSequence(self.seed, spawn_key=() if first else (self.n_passes, lane))
        )

    def _expected(self) -> Positions:
        """All proposals, about in the order in which they will be walked through."""
        columns = [np.array(queue.positions, np.int64) for queue in self.queues.values()]
        shares = [np.arange(len(column)) / max(len(column), 1) for column in columns]
        if not columns:
            return np.empty(0, np.int64)
        return np.concatenate(columns)[np.argsort(np.concatenate(shares), kind="stable")]


def _in_words(refused: Counter[str]) -> str:
    """'3 refused: 2 cap per sequence, 1 near-duplicate', the most frequent first."""
    if not refused:
        return ""
    return f"{refused.total():,} refused: " + ", ".join(f"{count:,} {name}" for name, count in refused.most_common())
