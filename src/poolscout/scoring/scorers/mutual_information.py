"""Mutual information between the prediction and the choice of member."""

from poolscout.detector.gives import MEMBERS
from poolscout.scoring.maps import LN_2, Maps, bernoulli_entropy, probability
from poolscout.scoring.registry import mean, scorer


@scorer(mean(probability), mean(bernoulli_entropy), also=(MEMBERS,), unit="nats", most=LN_2)
def mutual_information(mean_p: Maps, mean_entropy: Maps) -> Maps:
    """MI = H(p̄) − mean_e H(p_e): how much the members disagree, whatever each is undecided about by itself.

    Range 0…ln 2 nats per class and position; 0 where all members agree. By Jensen's inequality it is never negative,
    so the clamp cuts float32 rounding only (below 5e-7). Source: Haussmann et al. 2020, eq. 2 and 3.
    """
    return (bernoulli_entropy(mean_p) - mean_entropy).clamp_min_(0)
