"""Whose turn it is when a batch is picked for several classes: round-robin, also with unequal shares."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np


def next_turn(taken: Sequence[int], weights: Sequence[float], waiting: Collection[int]) -> int:
    """Of those waiting, the one that lags most behind its share; the first of equals.

    The divisors are Webster's (Sainte-Laguë): with equal weights this is A, B, C, A, B, C …, and after any number of
    turns each is about as near to its share as whole numbers allow.

    Args:
        taken: turns each has had.
        weights: above 0.
        waiting: indices, at least one.
    """
    return min(waiting, key=lambda index: ((2 * taken[index] + 1) / weights[index], index))


def turns_ahead(
    taken: Sequence[int], weights: Sequence[float], most: Sequence[int | None], waiting: Collection[int], n: int
) -> list[int]:
    """How many of the next n turns each will have, if no one runs out of candidates.

    Args:
        taken, weights, waiting: as in `next_turn`.
        most: turns after which each is done; None: never.
    """
    then, left = list(taken), set(waiting)
    ends = [np.inf if end is None else end for end in most]
    while n and left:
        turns = 1 if len(left) > 1 else n  # the last one has all that are left
        index = next_turn(then, weights, left)
        turns = int(min(turns, ends[index] - then[index]))
        then[index] += turns
        n -= turns
        if then[index] >= ends[index]:
            left.discard(index)
    return [after - before for after, before in zip(then, taken, strict=True)]
