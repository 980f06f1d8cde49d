"""The sum over positions or boxes."""

from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import Counts, Values, aggregate


@aggregate("sum")
def total(values: Values, counts: Counts) -> PerClass:
    """Sum over positions or boxes (Haussmann et al. 2020, footnote 1): favours many objects, which cost more to label.

    Over positions it ranks images of one size as the average does.
    """
    return values.sum(2)
