"""The baseline: every image is as likely as any other."""

import numpy as np

from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("random")
def random(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """The first n of a random order, so that a larger n with the same seed keeps the picks of a smaller one."""
    return Picked(generator.permutation(candidates.n)[:n])
