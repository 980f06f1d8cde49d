"""Half of the best and half of the worst (Haussmann et al. 2020, table II)."""

import numpy as np

from poolscout.selection.ranking import by_score
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("half-half", needs=("scores",))
def half_half(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """The ⌈n/2⌉ highest and the ⌊n/2⌋ lowest scores, in turn: best, worst, second best, …"""
    assert candidates.scores is not None
    order = by_score(candidates.scores)
    picks = np.empty(n, np.int64)
    picks[::2], picks[1::2] = order[: -(-n // 2)], order[::-1][: n // 2]
    return Picked(picks)
