"""Samplers as slow, obvious loops."""

from __future__ import annotations

from collections import Counter


def top_n(scores: list[float], n: int) -> list[int]:
    """Take the best that is left, the first of equals, n times."""
    left, picks = list(range(len(scores))), []
    while left and len(picks) < n:
        best = left[0]
        for position in left:
            if scores[position] > scores[best]:
                best = position
        picks.append(best)
        left.remove(best)
    return picks


def is_round_robin(sequences: list[str], picks: list[int]) -> bool:
    """Whether the picks visit the sequences in one fixed order again and again, passing over used-up ones."""
    order = list(dict.fromkeys(sequences[pick] for pick in picks))
    left, expected = Counter(sequences), []
    while len(expected) < len(picks):
        for sequence in order:
            if left[sequence]:
                left[sequence] -= 1
                expected.append(sequence)
    n_laps_complete = len(order) == len(set(sequences)) or len(order) == len(picks)
    return n_laps_complete and [sequences[pick] for pick in picks] == expected[: len(picks)]
