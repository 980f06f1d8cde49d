"""The mean of the k most informative positions or boxes."""

from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import Counts, Values, aggregate


@aggregate("top_k", takes_k=True)
def top_k_mean(values: Values, counts: Counts, k: int) -> PerClass:
    """Mean of the k highest, or of all where there are fewer: between maximum (k = 1) and average (k = all).

    The maximum of many positions is decided by a single outlier (Haussmann et al. 2020, section III-A); a mean of the
    highest is not.
    """
    highest = values.topk(min(k, values.shape[2]), dim=2, sorted=False).values
    return highest.sum(2) / counts.clamp(1, k)
