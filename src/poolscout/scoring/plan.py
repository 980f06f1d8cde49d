"""What a pass has to compute: the scorers and aggregates of a config, looked up and checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from poolscout.config import ScorerChoice
from poolscout.detector.gives import HOW, Gives
from poolscout.errors import CapabilityError, ConfigError, some
from poolscout.scoring.boxes import lay_out
from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import OF_FIRST, Aggregator, Input, Mean, Scorer, Statistic, aggregates, scorers


@dataclass(frozen=True)
class Plan:
    """Scorers × aggregates.

    Attributes:
        choices: as in the config; one score column each.
    """

    choices: tuple[ScorerChoice, ...]

    @cached_property
    def scorers(self) -> dict[str, Scorer]:
        """The chosen scorers by name, each once."""
        return {choice.scorer: scorers.get(choice.scorer) for choice in self.choices}

    @cached_property
    def _aggregators(self) -> dict[str, tuple[Aggregator, tuple[int, ...]]]:
        """Score column → its reduction and what that takes beside values and counts."""
        found = {choice.column: (aggregates.get(choice.aggregate), choice.k) for choice in self.choices}
        return {column: (one, (k,) if one.takes_k and k else ()) for column, (one, k) in found.items()}

    @cached_property
    def inputs(self) -> frozenset[Input]:
        return frozenset(one for scorer in self.scorers.values() for one in scorer.inputs)

    def statistics(self, over: str) -> list[Statistic]:
        """What to average over members, or over dropout passes."""
        return [one.statistic for one in sorted(self.inputs, key=lambda i: i.name) if isinstance(one, Mean)
                and one.over == over]  # fmt: skip

    @property
    def is_blurred_by_bf16(self) -> bool:
        """Whether the first choice, by which images are ranked, ranks otherwise in bfloat16 than in float32."""
        first = self.choices[0]
        return first.scorer in scorers.names() and first.aggregate in scorers.get(first.scorer).blurred

    def check(self, gives: Gives) -> None:
        """Refuse what cannot be computed from what the detector gives.

        Raises:
            ConfigError: no such scorer or aggregate (names the nearest); an aggregate that does not go with a scorer.
            CapabilityError: names the scorer, what it needs, and the detector.
        """
        for choice in self.choices:
            scorer = scorers.get(choice.scorer)
            _check_aggregate(scorer, aggregates.get(choice.aggregate), choice.k)
            missing = [need for need in scorer.needs if need not in gives.kinds]
            if missing:
                raise CapabilityError(
                    f"scorer {choice.scorer!r} needs {some(missing)}",
                    got=f"{gives.name}, which gives {some(sorted(gives.kinds), 9)} ({gives.provenance})",
                    expected=f"a detector that gives {some(scorer.needs, 9)}",
                    fix=HOW[missing[0]],
                )

    @cached_property
    def halves(self) -> tuple[Plan, Plan]:
        """The scorers that look at the first member alone, and the others."""
        early = {name for name, scorer in self.scorers.items() if OF_FIRST.issuperset(scorer.inputs)}
        first = tuple(choice for choice in self.choices if choice.scorer in early)
        return Plan(first), Plan(tuple(choice for choice in self.choices if choice.scorer not in early))

    def figures(self, given: Mapping[Input, Any], n_valid: torch.Tensor) -> dict[str, PerClass]:
        """Score column → [images, classes], from the inputs of all scorers.

        Args:
            given: a value for each of `inputs`.
            n_valid: map positions that show any of the image, [images].
        """
        figures: dict[str, PerClass] = {}
        for name, scorer in self.scorers.items():
            value = scorer.function(*[given[one] for one in scorer.inputs])
            if scorer.gives == "map":
                values, counts = value.flatten(2), n_valid[:, None]
            elif scorer.gives == "image":
                values, counts = value[:, :, None], torch.ones_like(n_valid)[:, None]
            else:
                values, counts = lay_out(value, len(n_valid), given[N_CLASSES])
            for choice in self.choices:
                if choice.scorer == name:
                    aggregator, more = self._aggregators[choice.column]
                    figures[choice.column] = aggregator.function(values, counts, *more)
        return figures


GIVES = {"map": "a figure per position", "boxes": "a figure per box", "image": "a figure per image"}
N_CLASSES = Input("the number of classes", ())


def _check_aggregate(scorer: Scorer, aggregator: Aggregator, k: int | None) -> None:
    if scorer.gives not in aggregator.of:
        able = [name for name in aggregates.names() if scorer.gives in aggregates.get(name).of]
        raise ConfigError(
            f"scorer {scorer.name!r} does not go with aggregate {aggregator.name!r}",
            got=f"a scorer that gives {GIVES[scorer.gives]}",
            expected=f"aggregate: {' or '.join(able)}",
            fix=f"write {{scorer: {scorer.name}, aggregate: {able[0]}}}",
        )
    if aggregator.takes_k and k is None:
        raise ConfigError(
            f"aggregate {aggregator.name!r} needs a number", got="no k", expected="k: how many of the highest count",
            fix=f"write {{scorer: {scorer.name}, aggregate: {aggregator.name}, k: 10}}",
        )  # fmt: skip
    if k is not None and not aggregator.takes_k:
        raise ConfigError(
            f"aggregate {aggregator.name!r} takes no number", got=f"k: {k}", expected="k with aggregate: top_k only",
            fix="remove k",
        )  # fmt: skip


def check_scoring(choices: Sequence[ScorerChoice], gives: Gives) -> None:
    """Refuse, before anything is trained or read, what could not be scored; see `Plan.check`."""
    Plan(tuple(choices)).check(gives)
