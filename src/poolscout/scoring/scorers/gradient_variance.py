"""Variance over members of the gradient under the label that the ensemble as a whole believes."""

from poolscout.detector.gives import MEMBERS
from poolscout.scoring.maps import Maps, probability, squared
from poolscout.scoring.registry import mean, scorer


@scorer(mean(probability), mean(squared), also=(MEMBERS,), unit="1", most=0.25)
def gradient_variance(mean_p: Maps, mean_square: Maps) -> Maps:
    """Var_e(δ_e) with δ_e = p_e − ŷ and the consensus label ŷ = 1[p̄ > ½]; as ŷ is common, this is Var_e(p_e).

    Of the gradient it is the bias's part: full vectors of separately trained members cannot be compared, as their
    features are not aligned. A label for each member would turn the ranking around: p = {.02, .98} would score below
    p = {.45, .55}. Range 0…¼ per class and position, without a unit.
    Source: Haussmann et al. 2020, section III-A ("maximum or mean variance of the gradient vectors").
    """
    return (mean_square - mean_p.square()).clamp_min_(0)
