"""k-means++: drawn in proportion to score times squared distance (Arthur and Vassilvitskii 2007)."""

import numpy as np

from poolscout.selection.kernels.diverse import pick_diverse
from poolscout.selection.kernels.state import Rule
from poolscout.selection.ranking import weights
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("kmeans++", needs=("scores", "embeddings"), weighs=True, keeps=True)
def kmeans_plus_plus(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """The next pick is x with probability ∝ score^power · d_min(x) (Haussmann et al. 2020, section III-B), exactly.

    Without labelled images the first is drawn ∝ score^power. A larger n with the same seed keeps a smaller one's picks.
    """
    return pick_diverse(candidates, Rule.race(weights(candidates), generator.exponential(size=candidates.n)), n)
