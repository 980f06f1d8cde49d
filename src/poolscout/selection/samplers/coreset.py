"""Core-set: far from everything picked or labelled so far, weighted by score (Sener and Savarese 2018, greedy)."""

import numpy as np

from poolscout.selection.kernels.diverse import pick_diverse
from poolscout.selection.kernels.state import Rule
from poolscout.selection.ranking import weights
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("coreset", needs=("scores", "embeddings"), weighs=True, keeps=True)
def coreset(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """argmax score^power · d_min, one after another (Haussmann et al. 2020, section III-B); ties by lowest position.

    Without labelled images the first pick has the highest weight. Exact: the picks of a naive greedy in float64.
    """
    return pick_diverse(candidates, Rule(weights(candidates)), n)
