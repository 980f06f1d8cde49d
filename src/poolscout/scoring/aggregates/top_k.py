"""The mean of the k most informative positions or boxes."""

from torch import Tensor

from poolscout.scoring.maps import PerClass
from poolscout.scoring.registry import Counts, Values, aggregate

ROWS = 16  # how many values of a map are first reduced to their maximum


@aggregate("top_k", takes_k=True)
def top_k_mean(values: Values, counts: Counts, k: int) -> PerClass:
    """Mean of the k highest, or of all where there are fewer: between maximum (k = 1) and average (k = all).

    The maximum of many positions is decided by a single outlier (Haussmann et al. 2020, section III-A); a mean of the
    highest is not.
    """
    return _highest(values, min(k, values.shape[2])).sum(2) / counts.clamp(1, k)


def _highest(values: Values, k: int) -> Tensor:
    """The k highest, in any order. They lie in the k blocks with the highest maxima, so most values are seen once."""
    n = values.shape[2]
    if n % ROWS or 4 * k * ROWS > n:
        return values.topk(k, dim=2, sorted=False).values
    blocks = values.unflatten(2, (ROWS, n // ROWS))
    best = blocks.amax(2).topk(k, dim=2, sorted=False).indices[:, :, None].expand(-1, -1, ROWS, -1)
    return blocks.gather(3, best).flatten(2).topk(k, dim=2, sorted=False).values
