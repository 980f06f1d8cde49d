"""poolscout finds the images worth labelling: active learning for object detection.

poolscout.score_maps(maps, scorer="mutual_information", aggregate="max")   [images, classes]
poolscout.select(scores, embeddings, n, sampler="top-n")                   positions in pick order
poolscout.wmap(ground_truth, detections)                                   size-weighted mean AP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "score_maps", "select", "wmap"]

if TYPE_CHECKING:
    from poolscout.evaluation import wmap
    from poolscout.scoring import score_maps
    from poolscout.selection import select

_HOMES = {"score_maps": "poolscout.scoring", "select": "poolscout.selection", "wmap": "poolscout.evaluation"}


def __getattr__(name: str) -> Any:
    """Public functions load their room, and torch, on first use: `poolscout --help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'poolscout' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
