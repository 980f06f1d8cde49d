"""Pools to select from: clips of near-duplicate frames or independent images, with skewed or even scores."""

from __future__ import annotations

import numpy as np

CHUNK = 100_000


def clips(
    n: int, d: int, *, per: int = 100, sigma: float = 0.1, seed: int = 0, shuffle: bool = False, relu: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [n, d] of clips of `per` frames, and scores u⁴ [n].

    A clip's centre is N(0, I_d), its frames N(centre, sigma² I_d); `per` = 1 and `sigma` = 0: independent images.
    relu: what is below 0 becomes 0, as in a detector's embeddings; shuffle: no frame lies beside its neighbours.
    """
    generator = np.random.default_rng(seed)
    embeddings = np.empty((n, d), np.float32)
    for lo in range(0, n, CHUNK):
        hi = min(lo + CHUNK, n)
        centres = generator.standard_normal((-(-(hi - lo) // per), d), dtype=np.float32)
        part = embeddings[lo:hi]
        part[:] = np.repeat(centres, per, axis=0)[: hi - lo]
        if sigma:
            part += np.float32(sigma) * generator.standard_normal((hi - lo, d), dtype=np.float32)
    if relu:
        np.maximum(embeddings, 0, out=embeddings)
    if shuffle:
        generator.shuffle(embeddings, axis=0)
    return embeddings, generator.random(n) ** 4
