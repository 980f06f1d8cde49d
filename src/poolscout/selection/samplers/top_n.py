"""The most informative images, one by one."""

import numpy as np

from poolscout.selection.ranking import by_score
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("top-n", needs=("scores",))
def top_n(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """The n highest scores, descending; ties by lowest position (Haussmann et al. 2020, section III-B)."""
    assert candidates.scores is not None
    return Picked(by_score(candidates.scores)[:n])
