"""Mutual information between the prediction and the choice of member."""

from poolscout.scoring.maps import Maps, bernoulli_entropy, probability
from poolscout.scoring.registry import scorer


@scorer(needs=("maps", "members"), unit="nats", means=(probability, bernoulli_entropy))
def mutual_information(mean_p: Maps, mean_entropy: Maps) -> Maps:
    """MI = H(p̄) − mean_e H(p_e): how much the members disagree, whatever each is undecided about by itself.

    Range 0…ln 2 per class and position; 0 where all members agree. By Jensen's inequality it is never negative, so
    the clamp cuts float32 rounding only (below 5e-7). Source: Haussmann et al. 2020, eq. 2 and 3.
    """
    return (bernoulli_entropy(mean_p) - mean_entropy).clamp_min_(0)
