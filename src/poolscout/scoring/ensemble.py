"""An ensemble seen through running sums: what is kept does not grow with the number of members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from poolscout.scoring.maps import Maps, probability
from poolscout.scoring.registry import Scorer, Statistic


class RunningMeans:
    """Means over members of the probability and of all that some scorers need, each statistic taken once.

    Args:
        wanted: the scorers that will be asked for.
    """

    def __init__(self, wanted: Iterable[Scorer]) -> None:
        self._statistics = list(dict.fromkeys([probability, *(s for scorer in wanted for s in scorer.means)]))
        self._sums: dict[Statistic, Tensor] = {}
        self._members = 0

    def add(self, p: Maps) -> None:
        """Take in one member's map; `p` itself is left as it is."""
        for statistic in self._statistics:
            value = statistic(p)
            if statistic in self._sums:
                self._sums[statistic].add_(value)
            else:
                self._sums[statistic] = value.clone() if value is p else value
        self._members += 1

    def finish(self) -> Mapping[Statistic, Maps]:
        """The means, once all members are taken in."""
        return {statistic: total.div_(self._members) for statistic, total in self._sums.items()}


def score(scorer: Scorer, means: Mapping[Statistic, Maps]) -> Maps:
    """A scorer's map from the members' means."""
    return scorer.function(*[means[statistic] for statistic in scorer.means])
