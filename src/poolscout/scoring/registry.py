"""Scorers and aggregates by name. One file in scorers/ or aggregates/ adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from poolscout.detector.gives import BOXES, DROPOUT, HIDDEN, MAPS
from poolscout.registry import Registry
from poolscout.scoring.maps import Maps, PerClass

Statistic = Callable[[Maps], Maps]
Values = Float[Tensor, "images classes n"]
Counts = Float[Tensor, "images #classes"]
Aggregate = Callable[..., PerClass]


@dataclass(frozen=True)
class Input:
    """What a scorer may be given.

    Attributes:
        name: for people.
        needs: what the detector must give for it; see `detector.gives`.
    """

    name: str
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Mean(Input):
    """A mean over maps of a function of one map: all that is kept of the ensemble, however many members it has."""

    statistic: Statistic
    over: Literal["members", "dropout"]


def mean(statistic: Statistic) -> Mean:
    """The mean over members, a map: [images, classes, height, width]."""
    return Mean(f"mean {statistic.__name__}", (MAPS,), statistic, "members")


def dropout_mean(statistic: Statistic) -> Mean:
    """The mean over passes of the first member with dropout on."""
    return Mean(f"mean {statistic.__name__} with dropout", (MAPS, DROPOUT), statistic, "dropout")


FIRST_MAP = Input("the first member's map", (MAPS,))  # Maps
HIDDEN_OF_FIRST = Input("what the first member's output layer multiplies", (HIDDEN,))  # [images, channels, h, w]
OF_FIRST = frozenset({FIRST_MAP, HIDDEN_OF_FIRST})
ENSEMBLE_BOXES = Input("the ensemble's boxes", (BOXES,))  # Detections
MEMBER_BOXES = Input("each member's boxes", (BOXES,))  # list[Detections]


@dataclass(frozen=True)
class Scorer:
    """A scoring function, higher = more informative, never below 0.

    Attributes:
        name: as in the config and in the score table's columns.
        function: of its inputs, in their order.
        inputs: what it is given.
        also: further needs than those of its inputs, e.g. several members.
        unit: of the score.
        most: the highest value there can be at one position or box; infinity where there is no bound.
        gives: "map": a figure per position; "boxes": `BoxScores`; "image": one figure per image and class.
        blurred: aggregates under which bfloat16 ranks images otherwise than float32 does: Spearman's ρ below 0.999
            on real frames (docs/results.md).
    """

    name: str
    function: Callable
    inputs: tuple[Input, ...]
    also: tuple[str, ...]
    unit: str
    most: float
    gives: Literal["map", "boxes", "image"]
    blurred: tuple[str, ...]

    @cached_property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(need for one in self.inputs for need in one.needs), *self.also]))


@dataclass(frozen=True)
class Aggregator:
    """A reduction of the figures of an image and class to one.

    Attributes:
        function: of values [images, classes, n], where what is no figure is 0, and how many are figures
            [images, classes or 1]; and of k where `takes_k`.
        takes_k: whether the config gives it a number.
        of: which kinds of scorers it reduces.
    """

    name: str
    function: Aggregate
    takes_k: bool
    of: tuple[str, ...]


scorers: Registry[Scorer] = Registry("scorer", "poolscout.scoring.scorers")
aggregates: Registry[Aggregator] = Registry("aggregate", "poolscout.scoring.aggregates")


def scorer(
    *inputs: Input,
    unit: str,
    most: float,
    also: tuple[str, ...] = (),
    gives: Literal["map", "boxes", "image"] = "map",
    blurred: tuple[str, ...] = (),
) -> Callable[[Callable], Callable]:
    """Register a function of `inputs` as the scorer of its own name; see `Scorer`."""

    def register(function: Callable) -> Callable:
        name = function.__name__
        scorers.add(name, Scorer(name, function, inputs, also, unit, most, gives, blurred))
        return function

    return register


def aggregate(
    name: str, *, takes_k: bool = False, of: tuple[str, ...] = ("map", "boxes")
) -> Callable[[Aggregate], Aggregate]:
    """Register a reduction to one figure per image and class; see `Aggregator`."""

    def register(function: Aggregate) -> Aggregate:
        aggregates.add(name, Aggregator(name, function, takes_k, of))
        return function

    return register
