"""Operators on boxes; torchvision's own, without its package.

`import torchvision` brings its models and, with them, torch's compiler: half of the time that a process of poolscout
takes to start. The library of its operators alone is loaded here.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TINY = 1e-7


def nms(boxes: Float[Tensor, "k 4"], scores: Float[Tensor, " k"], iou: float) -> Int[Tensor, " kept"]:
    """Positions of the boxes (xyxy) that no better one overlaps by more than `iou`, the best first."""
    kept: Tensor = _operators().nms(boxes, scores, iou)
    return kept


def giou_loss(boxes: Float[Tensor, "k 4"], wanted: Float[Tensor, "k 4"]) -> Float[Tensor, " k"]:
    """1 − generalised IoU of each pair of boxes, xyxy (Rezatofighi et al. 2019)."""
    inner = (torch.min(boxes[:, 2:], wanted[:, 2:]) - torch.max(boxes[:, :2], wanted[:, :2])).clamp_min(0).prod(1)
    outer = (torch.max(boxes[:, 2:], wanted[:, 2:]) - torch.min(boxes[:, :2], wanted[:, :2])).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (wanted[:, 2:] - wanted[:, :2]).prod(1) - inner
    return 1 - inner / (union + _TINY) + (outer - union) / (outer + _TINY)


@cache
def _operators() -> Any:
    found = importlib.util.find_spec("torchvision")
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    for library in sorted(folder.glob("_C*.so")) if folder else ():
        torch.ops.load_library(library)
    if not hasattr(torch.ops.torchvision, "nms"):
        import torchvision  # noqa: F401  (laid out in another way: the whole package, then)
    return torch.ops.torchvision
