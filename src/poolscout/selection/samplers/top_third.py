"""Spread over the best third: informative, and less alike than the very best (Haussmann et al. 2020, table II)."""

import numpy as np

from poolscout.selection.ranking import by_score
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("top-third", needs=("scores",))
def top_third(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """n images at equal distances in the ranking of the best third, the best first.

    A batch of more than a third of the candidates is the n best: then there is nothing to spread over.
    """
    assert candidates.scores is not None
    third = max(-(-candidates.n // 3), n)
    return Picked(by_score(candidates.scores)[np.arange(n) * third // n])
