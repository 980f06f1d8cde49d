"""Scorers and aggregates by name. One file in scorers/ or aggregates/ adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poolscout.registry import Registry
from poolscout.scoring.maps import Maps, PerClass, Valid

Statistic = Callable[[Maps], Maps]
Aggregate = Callable[[Maps, Valid], PerClass]


@dataclass(frozen=True)
class Scorer:
    """A scoring function: the members' means of `means` → informativeness per position, higher = more informative.

    Attributes:
        name: as in the config and in the score table's columns.
        function: takes the mean over members of each of `means`, in their order.
        means: functions of one member's map; their means over members are all that is kept of the ensemble.
        needs: what the detector must give: "maps", "members" (more than one).
        unit: of the score.
    """

    name: str
    function: Callable[..., Maps]
    means: tuple[Statistic, ...]
    needs: tuple[str, ...]
    unit: str


scorers: Registry[Scorer] = Registry("scorer", "poolscout.scoring.scorers")
aggregates: Registry[Aggregate] = Registry("aggregate", "poolscout.scoring.aggregates")


def scorer(
    *, needs: tuple[str, ...], unit: str, means: tuple[Statistic, ...]
) -> Callable[[Callable[..., Maps]], Callable[..., Maps]]:
    """Register a function of the members' means as the scorer of its own name; see `Scorer`."""

    def register(function: Callable[..., Maps]) -> Callable[..., Maps]:
        scorers.add(function.__name__, Scorer(function.__name__, function, means, needs, unit))
        return function

    return register


def aggregate(name: str) -> Callable[[Aggregate], Aggregate]:
    """Register a reduction of valid positions to one figure per image and class."""

    def register(function: Aggregate) -> Aggregate:
        aggregates.add(name, function)
        return function

    return register
