"""Entropy of the ensemble's mean probability."""

from poolscout.scoring.maps import LN_2, Maps, bernoulli_entropy, probability
from poolscout.scoring.registry import mean, scorer


@scorer(mean(probability), unit="nats", most=LN_2, blurred=("max",))
def entropy(mean_p: Maps) -> Maps:
    """H(p̄) with p̄ = mean_e p_e: how undecided the ensemble as a whole is.

    Range 0…ln 2 nats per class and position. Source: Haussmann et al. 2020, eq. 1 (which lacks the minus sign).
    """
    return bernoulli_entropy(mean_p)
