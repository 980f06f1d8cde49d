"""The public surface: what `import poolscout` promises."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import poolscout


def test_the_public_names() -> None:
    assert sorted(poolscout.__all__) == ["__version__", "score_maps", "select", "wmap"]
    assert list(inspect.signature(poolscout.score_maps).parameters) == ["maps", "scorer", "aggregate", "k"]
    assert list(inspect.signature(poolscout.select).parameters)[:7] == [
        "scores", "embeddings", "n", "sampler", "metric", "labelled_embeddings", "seed",
    ]  # fmt: skip
    assert list(inspect.signature(poolscout.wmap).parameters)[:2] == ["ground_truth", "detections"]
    with pytest.raises(AttributeError, match="nonsense"):
        poolscout.nonsense  # noqa: B018


def test_scores_and_picks_by_hand() -> None:
    """Two members that disagree at one position of image 1: its MI is ln 2 − H(0.1) there (p = 0.1 and 0.9)."""
    maps = torch.full((2, 2, 1, 3, 3), 0.5)
    maps[0, 1, 0, 1, 2], maps[1, 1, 0, 1, 2] = 0.1, 0.9
    scores = poolscout.score_maps(maps, scorer="mutual_information", aggregate="max")
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    assert scores.shape == (2, 1)
    assert scores.flatten().tolist() == pytest.approx([0.0, np.log(2) - entropy], abs=1e-6)
    picks = poolscout.select(scores[:, 0].numpy(), None, 1)
    assert picks.dtype == np.int64
    assert picks.tolist() == [1]
