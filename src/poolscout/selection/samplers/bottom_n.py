"""The least informative images: the control that must lose (Haussmann et al. 2020, table II)."""

import numpy as np

from poolscout.selection.ranking import by_score
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("bottom-n", needs=("scores",))
def bottom_n(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """The n lowest scores, ascending; ties by lowest position."""
    assert candidates.scores is not None
    return Picked(by_score(-candidates.scores)[:n])
