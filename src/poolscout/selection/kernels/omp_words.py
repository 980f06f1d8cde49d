"""What there is to say of a batch that matching pursuit has picked."""

from __future__ import annotations

import numpy as np

from poolscout.selection.kernels.omp import BY_SCORE, OmpResult
from poolscout.selection.registry import Picked


def picked(result: OmpResult) -> Picked:
    """The picks; what set each apart is the restart that found it, or its score; and notes on the whole batch."""
    because = ["" if layer == 0 else "by score" if layer == BY_SCORE else f"restart {layer}" for layer in result.layer]
    return Picked(result.positions, notes=(*_saturation(result), *_kernel(result)), because=because)


def _saturation(result: OmpResult) -> list[str]:
    """Until when eq. 6 itself was solved, and where the rest comes from."""
    if result.saturated_after is None:
        return []
    n_first, n_by_score = result.saturated_after, int(np.count_nonzero(result.layer == BY_SCORE))
    n_rest, n_restarts = len(result.positions) - n_first, int(result.layer.max())
    counted = [_count(result.n_given, "labelled image")] * (result.n_given > 0) + [_count(n_first, "image")] * (
        n_first > 0
    )
    until = f"eq. 6 was saturated after {' and '.join(counted)}" if counted else "eq. 6 had nothing to improve"
    whence = [f"from {_count(n_restarts, 'restart')} over what was left"] * (n_rest > n_by_score)
    if n_by_score:
        whence.append(f"the last {n_by_score:,} by score" if whence else "by score")
    return [f"{until}; {'the other' if n_first else 'all'} {n_rest:,} come {', '.join(whence)}"]


def _kernel(result: OmpResult) -> list[str]:
    if result.bandwidth is None:
        return []
    words = f"Gaussian similarity of bandwidth {result.bandwidth:.3g}"
    if result.dropped_mass >= 0.0005:
        words += f"; similarities left out as too small or too many: {result.dropped_mass:.1%} of their sum"
    return [words]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
