"""The most informative position or box."""

from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import Counts, Values, aggregate


@aggregate("max")
def maximum(values: Values, counts: Counts) -> PerClass:
    """max over positions or boxes (Haussmann et al. 2020, eq. 4); 0 for an image without boxes."""
    return values.amax(2)
