"""Orthogonal matching pursuit: images whose similarities together make up the scores (Haussmann et al. 2020, eq. 6)."""

import numpy as np

from poolscout.selection.kernels.omp import omp
from poolscout.selection.kernels.omp_words import picked
from poolscout.selection.ranking import weights
from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("omp", needs=("scores", "embeddings"), weighs=True)
def omp_low_rank(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """min ‖Dx − s‖² with n weights 0…1, s = score^power, D = the metric's similarity; ties by lowest position.

    D has no more rank than the embedding has dimensions, so that eq. 6 decides over about as many picks and restarts
    over the rest (`kernels.omp`); for large batches use "omp-gaussian". Labelled images count as picked already.
    """
    assert candidates.embeddings is not None
    return picked(
        omp(
            candidates.embeddings,
            weights(candidates),
            n,
            similarity=candidates.metric,
            rows=candidates.rows,
            given=candidates.labelled_embeddings,
        )
    )
