"""Maps seen through running sums: what is kept does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from poolscout.scoring.maps import Maps
from poolscout.scoring.registry import Statistic


class RunningMeans:
    """Means of functions of a map, over members or over dropout passes; each function is taken once.

    Args:
        statistics: functions of one map.
    """

    def __init__(self, statistics: Iterable[Statistic]) -> None:
        self._statistics = list(dict.fromkeys(statistics))
        self._sums: dict[Statistic, Tensor] = {}
        self.n = 0

    def add(self, p: Maps, known: Mapping[Statistic, Maps | None] | None = None) -> None:
        """Take in one map; `p` itself is left as it is.

        Args:
            p: the map.
            known: values of statistics that need not be calculated from it; they may be overwritten.
        """
        for statistic in self._statistics:
            value = (known or {}).get(statistic)
            value = statistic(p) if value is None else value
            if statistic in self._sums:
                self._sums[statistic].add_(value)
            else:
                self._sums[statistic] = value.clone() if value is p else value
        self.n += 1

    def finish(self) -> Mapping[Statistic, Maps]:
        """The means, once all maps are taken in."""
        return {statistic: total.div_(self.n) for statistic, total in self._sums.items()}
