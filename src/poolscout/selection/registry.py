"""Samplers by name, and what one is given. One file in samplers/ adds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64

from poolscout.engine import Executor
from poolscout.errors import CapabilityError, some
from poolscout.registry import Registry

Positions = Int64[np.ndarray, " k"]
Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Known:
    """Distances that a selection has calculated, for the next one to go on from.

    Attributes:
        d: [n] least squared distance to the centres met, of scaled rows (`kernels.vectors`); infinite if none.
        near: [n] which centre that is; −1 if none.
        seen: [n] the point has met the centres 0 … seen−1.
    """

    d: Float64[np.ndarray, " n"]
    near: Int32[np.ndarray, " n"]
    seen: Int64[np.ndarray, " n"]

    def up_to(self, n_centres: int) -> Known:
        """What is still valid when only the first centres are there.

        A least distance to one of these is that to all of these that were met; one to a later centre says nothing.
        """
        lost = self.near >= n_centres
        return Known(
            np.where(lost, np.inf, self.d),
            np.where(lost, -1, self.near),
            np.where(lost, 0, self.seen.clip(max=n_centres)),
        )


@dataclass(frozen=True)
class Candidates:
    """The images a sampler may pick from, in an order that does not depend on how they were stored.

    Attributes:
        n: how many there are.
        scores: higher = more informative.
        embeddings: [m, d]; never copied as a whole.
        rows: the row in `embeddings` of each candidate; None where candidate i is row i.
        sequences: a number for each recording; equal numbers = same recording.
        metric: distance between embeddings: euclidean is squared, cosine is 1 − cos.
        labelled_embeddings: of the images labelled already, for samplers that keep away from them.
        score_power: samplers that weigh distances by scores use score^power; 0 = they look at distances alone.
        known: distances to the first labelled embeddings, from an earlier selection with the same metric.
        device: where samplers that can use a GPU calculate; the picks are the same everywhere.
        executor: whose actors hold the embeddings of a large pool, for samplers that can do so; likewise.
    """

    n: int
    scores: Float64[np.ndarray, " n"] | None = None
    embeddings: Float[np.ndarray, "m d"] | None = None
    rows: Int64[np.ndarray, " n"] | None = None
    sequences: Int64[np.ndarray, " n"] | None = None
    metric: Metric = "euclidean"
    labelled_embeddings: Float[np.ndarray, "labelled d"] | None = None
    score_power: float = 1.0
    known: Known | None = None
    device: str = "cpu"
    executor: Executor | None = None

    def only(self, kept: Positions) -> Candidates:
        """These candidates alone; kept[i] is the position here of the new candidate i."""
        return replace(
            self,
            n=len(kept),
            scores=None if self.scores is None else self.scores[kept],
            sequences=None if self.sequences is None else self.sequences[kept],
            rows=None if self.embeddings is None else self.rows_of(kept),
            known=None
            if self.known is None
            else Known(self.known.d[kept], self.known.near[kept], self.known.seen[kept]),
        )

    def away_from(self, picked: Positions) -> Candidates:
        """The same candidates for a sampler that shall also keep away from these."""
        if self.embeddings is None or not len(picked):
            return self
        more = self.embeddings[self.rows_of(picked)]
        given = self.labelled_embeddings
        return replace(self, labelled_embeddings=more if given is None or not len(given) else np.vstack([given, more]))

    def rows_of(self, positions: Positions) -> Positions:
        return positions if self.rows is None else self.rows[positions]


@dataclass(frozen=True)
class Picked:
    """What a sampler has picked.

    Attributes:
        positions: distinct, in pick order.
        distances: to the nearest centre when picked, in the metric; NaN where none was measured, None if none ever is.
        notes: in words, what the user should know of the whole batch, e.g. that a solution has saturated.
        because: for each pick, what set it apart from the others, "" where nothing did; None if nothing ever does.
        known: of all candidates, with the labelled embeddings and then the picks as centres; None if none is measured.
        work: what it took, for benchmarks: counts, and seconds by part.
    """

    positions: Positions
    distances: Float64[np.ndarray, " k"] | None = None
    notes: tuple[str, ...] = ()
    because: Sequence[str] | None = None
    known: Known | None = None
    work: Mapping[str, float] = field(default_factory=dict)


Pick = Callable[[Candidates, int, np.random.Generator], Picked]


@dataclass(frozen=True)
class Sampler:
    """A way to pick a batch.

    Attributes:
        name: as in the config.
        pick: (candidates, n ≤ candidates.n, generator) → n distinct picks.
        needs: which of "scores", "embeddings", "sequences" the candidates must have.
        keeps: what it learns of distances can be kept for the next selection (`Picked.known`).
        weighs: scores do nothing but weigh distances, by score^power; with power 0 they are not needed.
    """

    name: str
    pick: Pick
    needs: tuple[str, ...]
    weighs: bool = False
    keeps: bool = False

    def needs_with(self, score_power: float) -> tuple[str, ...]:
        """What the candidates must have when scores weigh by this power."""
        return tuple(need for need in self.needs if need != "scores" or not self.weighs or score_power > 0)


samplers: Registry[Sampler] = Registry("sampler", "poolscout.selection.samplers")


def sampler(
    name: str, *, needs: tuple[str, ...] = (), weighs: bool = False, keeps: bool = False
) -> Callable[[Pick], Pick]:
    """Register a function that picks; it may assume finite numbers and 0 < n ≤ candidates.n."""

    def register(pick: Pick) -> Pick:
        samplers.add(name, Sampler(name, pick, needs, weighs, keeps))
        return pick

    return register


def run_sampler(chosen: Sampler, candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """`n` picks, or all there are when n is larger.

    Raises:
        CapabilityError: the candidates lack what the sampler needs.
    """
    needs = chosen.needs_with(candidates.score_power)
    missing = [need for need in needs if getattr(candidates, need) is None]
    if missing:
        raise CapabilityError(
            f"sampler {chosen.name!r} needs {some(missing)}",
            got=f"candidates without {some(missing)}",
            expected=some(needs),
            fix=f"pass {some(missing)}, or choose another sampler",
        )
    n = min(n, candidates.n)
    if n == 0:
        return Picked(np.empty(0, np.int64))
    return chosen.pick(candidates, n, generator)
