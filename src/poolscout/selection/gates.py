"""What keeps a candidate out of a batch because of what is in it already: budgets, caps and gaps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from poolscout.selection.registry import Positions

NO_CODE = -1  # of a sequence that no candidate belongs to


@runtime_checkable
class Gate(Protocol):
    """A constraint on a batch that grows; once shut to a candidate, it stays shut to it.

    Attributes:
        name: as people are told it.
    """

    name: str

    def ahead(self, proposals: Positions) -> None:
        """These will be asked about soon, in about this order."""

    def admits(self, position: int) -> bool:
        """Whether one of the proposals may join those accepted so far."""

    def accept(self, position: int) -> None:
        """It has joined."""

    def admitted(self, positions: Positions) -> Bool[np.ndarray, " k"]:
        """Which of these may still join; those that may not are never asked about again."""

    def room(self, positions: Positions) -> int:
        """At most so many of these can join."""


class Budget:
    """The costs of a batch add up to no more than there is to spend."""

    def __init__(self, name: str, costs: Float64[np.ndarray, " n"], budget: float) -> None:
        self.name, self.costs, self.budget, self.spent = name, costs, budget, 0.0

    def ahead(self, proposals: Positions) -> None:
        pass

    def admits(self, position: int) -> bool:
        return bool(self.spent + self.costs[position] <= self.budget)

    def accept(self, position: int) -> None:
        self.spent += float(self.costs[position])

    def admitted(self, positions: Positions) -> Bool[np.ndarray, " k"]:
        return self.spent + self.costs[positions] <= self.budget

    def room(self, positions: Positions) -> int:
        cheapest = np.sort(self.costs[positions])
        return int((self.spent + np.cumsum(cheapest) <= self.budget).sum())


class Cap:
    """No more than so many images of one sequence."""

    name = "cap per sequence"

    def __init__(self, sequences: Int64[np.ndarray, " n"], most: int) -> None:
        self.sequences, self.most = sequences, most
        self.counts = np.zeros(int(sequences.max(initial=-1)) + 1, np.int64)

    def ahead(self, proposals: Positions) -> None:
        pass

    def admits(self, position: int) -> bool:
        return bool(self.counts[self.sequences[position]] < self.most)

    def accept(self, position: int) -> None:
        self.counts[self.sequences[position]] += 1

    def admitted(self, positions: Positions) -> Bool[np.ndarray, " k"]:
        return self.counts[self.sequences[positions]] < self.most

    def room(self, positions: Positions) -> int:
        return len(positions)


class Gap:
    """Frames of one sequence lie at least so far apart: |frame − frame'| ≥ gap.

    Args:
        sequences, frames: [n] of the candidates.
        gap: frames.
        labelled: sequences and frames of images that count as picked; a sequence without candidates is `NO_CODE`.
    """

    name = "minimum gap"

    def __init__(
        self,
        sequences: Int64[np.ndarray, " n"],
        frames: Int64[np.ndarray, " n"],
        gap: int,
        labelled: tuple[Int64[np.ndarray, " labelled"], Int64[np.ndarray, " labelled"]] | None = None,
    ) -> None:
        self.sequences, self.frames, self.gap = sequences, frames, gap
        self.open = np.ones(len(sequences), bool)
        self._order = np.lexsort((frames, sequences))
        self._frames = frames[self._order]
        self._starts = np.searchsorted(sequences[self._order], np.arange(int(sequences.max(initial=-1)) + 2))
        for sequence, frame in zip(*(labelled or ((), ())), strict=True):
            if sequence != NO_CODE:
                self._shut(int(sequence), int(frame))

    def ahead(self, proposals: Positions) -> None:
        pass

    def admits(self, position: int) -> bool:
        return bool(self.open[position])

    def accept(self, position: int) -> None:
        self._shut(int(self.sequences[position]), int(self.frames[position]))

    def admitted(self, positions: Positions) -> Bool[np.ndarray, " k"]:
        return self.open[positions]

    def room(self, positions: Positions) -> int:
        return len(positions)

    def _shut(self, sequence: int, frame: int) -> None:
        start, end = self._starts[sequence : sequence + 2]
        own = self._frames[start:end]
        first = start + np.searchsorted(own, frame - self.gap, side="right")
        last = start + np.searchsorted(own, frame + self.gap, side="left")
        self.open[self._order[first:last]] = False
