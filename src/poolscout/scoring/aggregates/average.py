"""The mean over positions or boxes."""

from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import Counts, Values, aggregate


@aggregate("average")
def average(values: Values, counts: Counts) -> PerClass:
    """Mean over positions or boxes (Haussmann et al. 2020, section III-A); 0 for an image without boxes.

    Over positions it rewards images that are hard everywhere, and those with many objects.
    """
    return values.sum(2) / counts.clamp_min(1)
