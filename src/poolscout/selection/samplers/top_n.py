"""The most informative images, one by one."""

import numpy as np

from poolscout.selection.registry import Candidates, Positions, sampler


@sampler("top-n", needs=("scores",))
def top_n(candidates: Candidates, n: int, generator: np.random.Generator) -> Positions:
    """The n highest scores, descending; ties by lowest position (Haussmann et al. 2020, section III-B)."""
    assert candidates.scores is not None
    return np.argsort(-candidates.scores, kind="stable")[:n]
