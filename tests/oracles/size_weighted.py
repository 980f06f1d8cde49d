"""COCO's AP and wMAP in plain loops, straight from their definitions; slow, short, and sharing no code."""

from __future__ import annotations

import itertools
import math

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
RECALLS = [i * 0.01 for i in range(100)] + [1.0]  # i / 100 differs in the last bit, and at 0.29 in the result


def iou(a: list[float], b: list[float]) -> float:
    """Of two xywh boxes."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def ap(truth: list[dict], found: list[dict], cls: int, low: float, high: float, threshold: float) -> float | None:
    """AP of one class at one IoU threshold for boxes whose area lies in [low, high]; None without ground truth."""

    def outside(box: list[float]) -> bool:
        return not low <= box[2] * box[3] <= high

    truth = [t for t in truth if t["category_id"] == cls]
    found = [f for f in found if f["category_id"] == cls]
    n = sum(not outside(t["bbox"]) for t in truth)
    if n == 0:
        return None
    hits: list[tuple[float, bool]] = []  # (score, is it right) of each detection that counts
    for image in sorted({b["image_id"] for b in truth + found}):
        # Ground truth inside the range is tried first; one outside only takes what would otherwise be a miss.
        targets = sorted((t for t in truth if t["image_id"] == image), key=lambda t: outside(t["bbox"]))
        taken: set[int] = set()
        for f in sorted((f for f in found if f["image_id"] == image), key=lambda f: -f["score"])[:100]:
            best, match = min(threshold, 1 - 1e-10), None
            for i, t in enumerate(targets):
                if i in taken:
                    continue
                if match is not None and not outside(targets[match]["bbox"]) and outside(t["bbox"]):
                    break
                if iou(f["bbox"], t["bbox"]) >= best:
                    best, match = iou(f["bbox"], t["bbox"]), i
            if match is not None:
                taken.add(match)
                if not outside(targets[match]["bbox"]):
                    hits.append((f["score"], True))
            elif not outside(f["bbox"]):
                hits.append((f["score"], False))
    hits.sort(key=lambda hit: -hit[0])  # stable: ties stay in image order
    curve, right = [], 0
    for k, (_, is_right) in enumerate(hits, start=1):
        right += is_right
        curve.append((right / n, right / k))
    return sum(max((p for r, p in curve if r >= recall), default=0.0) for recall in RECALLS) / len(RECALLS)


def wmap(truth: dict, found: list[dict], bounds: list[float]) -> tuple[float, float]:
    """(equal weights, weights proportional to the ground truth)."""
    edges = [0.0, *bounds, 1e10]
    boxes = truth["annotations"]
    means, counts = [], []
    for low, high in itertools.pairwise(edges):
        per_class = []
        for category in truth["categories"]:
            aps = [ap(boxes, found, category["id"], low, high, t) for t in THRESHOLDS]
            if aps[0] is not None:
                per_class.append(math.fsum(aps) / len(aps))
        if per_class:
            means.append(math.fsum(per_class) / len(per_class))
            counts.append(sum(low <= b["bbox"][2] * b["bbox"][3] <= high for b in boxes))
    weighted = math.fsum(m * c for m, c in zip(means, counts, strict=True)) / sum(counts)
    return math.fsum(means) / len(means), weighted
