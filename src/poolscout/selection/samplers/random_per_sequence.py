"""A stratified baseline: random frames, spread evenly over the recordings."""

import numpy as np

from poolscout.selection.registry import Candidates, Picked, sampler


@sampler("random-per-sequence", needs=("sequences",))
def random_per_sequence(candidates: Candidates, n: int, generator: np.random.Generator) -> Picked:
    """One random frame of each sequence, then a second one of each, and so on.

    The sequences are put in random order once and visited in that order again and again; each visit takes one frame
    at random from those the sequence has left, and a sequence without any is passed over. So two sequences' numbers
    of picks differ by more than one only when the one with fewer is used up.
    """
    assert candidates.sequences is not None
    _, sequence = np.unique(candidates.sequences, return_inverse=True)
    frames = generator.permutation(candidates.n)
    place = generator.permutation(int(sequence.max()) + 1)[sequence[frames]]  # of the frame's sequence in the order
    grouped = np.argsort(place, kind="stable")
    first = np.searchsorted(place[grouped], place[grouped])  # where the frame's group begins
    lap = np.empty_like(place)
    lap[grouped] = np.arange(candidates.n) - first
    return Picked(frames[np.lexsort((place, lap))[:n]])
