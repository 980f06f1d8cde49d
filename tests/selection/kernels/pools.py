"""Small pools, and the kernels' ways to calculate on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from poolscout.selection.kernels import diverse
from poolscout.selection.kernels.state import Rule

WAYS = ("groups", "blocks", "tensors")  # compiled with groups of near-duplicates, without, and torch alone


def clips(n: int, d: int, per: int = 25, sigma: float = 0.1, seed: int = 0, shuffle: bool = False) -> np.ndarray:
    """[n, d] float32 in clips of near-duplicates."""
    generator = np.random.default_rng(seed)
    rows = np.repeat(generator.standard_normal((-(-n // per), d)), per, axis=0)[:n]
    rows = rows + sigma * generator.standard_normal((n, d))
    return generator.permutation(rows).astype(np.float32) if shuffle else rows.astype(np.float32)


@contextmanager
def calculating(way: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    with patch.context() as patched:
        patched.setattr(diverse, "GROUPED_FROM", 0.0 if way == "groups" else np.inf)
        patched.setattr(diverse, "HAS_NUMBA", way != "tensors")
        yield


def rule(sampler: str, weight: np.ndarray, seed: int = 1) -> Rule:
    return Rule(weight) if sampler == "coreset" else Rule.race(weight, exponentials(len(weight), seed))


def exponentials(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=n)
