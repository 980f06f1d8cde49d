"""Mutual information over passes of one member with dropout on."""

from poolscout.scoring.maps import LN_2, Maps, bernoulli_entropy, probability
from poolscout.scoring.registry import dropout_mean, scorer
from poolscout.scoring.scorers.mutual_information import mutual_information


@scorer(dropout_mean(probability), dropout_mean(bernoulli_entropy), unit="nats", most=LN_2)
def mc_dropout(mean_p: Maps, mean_entropy: Maps) -> Maps:
    """H(p̄) − mean_t H(p_t) over T passes of the first member, each with other units dropped.

    Pass t drops the same units for every image (Kirsch et al. 2019), so a score does not depend on the batch.
    Range 0…ln 2 nats per class and position. Source: Haussmann et al. 2020, section IV-B, after Gal & Ghahramani 2016.
    """
    return mutual_information(mean_p, mean_entropy)
