"""Orthogonal matching pursuit on a Gaussian similarity, for batches larger than the embedding has dimensions."""

import numpy as np
from jaxtyping import Float, Float64

from poolscout.errors import CapabilityError
from poolscout.selection.kernels.omp_gaussian import omp_gaussian
from poolscout.selection.kernels.omp_words import picked
from poolscout.selection.ranking import weights
from poolscout.selection.registry import Candidates, Picked, sampler

MOST = 500_000  # candidates and labelled images; their kernel takes some 6 KB each, and minutes


@sampler("omp-gaussian", needs=("scores", "embeddings"), weighs=True)
def omp_of_gaussians(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """min ‖Kx − s‖² with n weights 0…1, s = score^power, K_ij = exp(−‖e_i − e_j‖² / 2h²); ties by lowest position.

    With the cosine metric e is of length 1, and zeros stay zeros. h is the median distance to the 8th nearest other
    candidate. Labelled images count as picked already.

    Raises:
        CapabilityError: more than 500,000 candidates and labelled images.
    """
    assert candidates.embeddings is not None
    given = candidates.labelled_embeddings
    n_images = candidates.n + (0 if given is None else len(given))
    if n_images > MOST:
        raise CapabilityError(
            "sampler 'omp-gaussian' holds the similarities of near images", got=f"{n_images:,} candidates and labelled",
            expected=f"{MOST:,} at most", fix="pre-filter to the best by score (constraints.prefilter), or use omp",
        )  # fmt: skip
    embeddings = candidates.embeddings if candidates.rows is None else candidates.embeddings[candidates.rows]
    if candidates.metric == "cosine":
        embeddings, given = _unit(embeddings), None if given is None else _unit(given)
    return picked(omp_gaussian(embeddings, weights(candidates), n, given=given))


def _unit(rows: Float[np.ndarray, "k d"]) -> Float64[np.ndarray, "k d"]:
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    lengths[lengths == 0] = 1.0
    return rows / lengths[:, None]
