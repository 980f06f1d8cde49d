"""The figure of a scorer that looks at an image as a whole."""

from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import Counts, Values, aggregate


@aggregate("whole", of=("image",))
def whole(values: Values, counts: Counts) -> PerClass:
    """The scorer's own figure for image and class: there is nothing to reduce."""
    return values[:, :, 0]
