"""Samplers by name, and what one is given. One file in samplers/ adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

from poolscout.errors import CapabilityError, some
from poolscout.registry import Registry

Positions = Int64[np.ndarray, " k"]
Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Candidates:
    """The images a sampler may pick from, in an order that does not depend on how they were stored.

    Attributes:
        n: how many there are.
        scores: higher = more informative.
        embeddings: one row per image.
        sequences: a number for each recording; equal numbers = same recording.
        metric: distance between embeddings.
        labelled_embeddings: of the images labelled already, for samplers that keep away from them.
    """

    n: int
    scores: Float64[np.ndarray, " n"] | None = None
    embeddings: Float[np.ndarray, "n d"] | None = None
    sequences: Int64[np.ndarray, " n"] | None = None
    metric: Metric = "euclidean"
    labelled_embeddings: Float[np.ndarray, "labelled d"] | None = None


Pick = Callable[[Candidates, int, np.random.Generator], Positions]


@dataclass(frozen=True)
class Sampler:
    """A way to pick a batch.

    Attributes:
        name: as in the config.
        pick: (candidates, n ≤ candidates.n, generator) → n distinct positions in pick order.
        needs: which of "scores", "embeddings", "sequences" the candidates must have.
    """

    name: str
    pick: Pick
    needs: tuple[str, ...]


samplers: Registry[Sampler] = Registry("sampler", "poolscout.selection.samplers")


def sampler(name: str, *, needs: tuple[str, ...] = ()) -> Callable[[Pick], Pick]:
    """Register a function that picks; it may assume finite numbers and 0 < n ≤ candidates.n."""

    def register(pick: Pick) -> Pick:
        samplers.add(name, Sampler(name, pick, needs))
        return pick

    return register


def run_sampler(chosen: Sampler, candidates: Candidates, n: int, seed: int) -> Positions:
    """`n` positions, or all there are when n is larger.

    Raises:
        CapabilityError: the candidates lack what the sampler needs.
    """
    missing = [need for need in chosen.needs if getattr(candidates, need) is None]
    if missing:
        raise CapabilityError(
            f"sampler {chosen.name!r} needs {some(missing)}",
            got=f"candidates without {some(missing)}",
            expected=some(chosen.needs),
            fix=f"pass {some(missing)}, or choose another sampler",
        )
    n = min(n, candidates.n)
    if n == 0:
        return np.empty(0, np.int64)
    return chosen.pick(candidates, n, np.random.default_rng(seed))
