"""A small pool with known labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.tables.declared import BOXES, DETECTIONS, POOL

CLASSES = ("car", "person")
IMAGE_IDS = ("a.jpg", "day/b.jpg", "day/c.jpg", "night/b.jpg")


def pool(folder: Path = Path("/images")) -> pa.Table:
    """Four images of 100 × 50 px."""
    n = len(IMAGE_IDS)
    columns = {
        "image_id": IMAGE_IDS, "uri": [str(folder / i) for i in IMAGE_IDS], "width": [100] * n, "height": [50] * n,
        "sequence": IMAGE_IDS, "frame": [None] * n,
    }  # fmt: skip
    return POOL.check(pa.table({c.name: pa.array(columns[c.name], c.type) for c in POOL.columns}), "test pool")


def boxes(*rows: tuple[str, str, float, float, float, float]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in BOXES.columns]
    return pa.table([pa.array(list(v), c.type) for v, c in zip(columns, BOXES.columns, strict=True)],
                    names=[c.name for c in BOXES.columns])  # fmt: skip


def detections(*rows: tuple[str, int, str, float, float, float, float, float]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(list(v), c.type) for v, c in zip(columns, DETECTIONS.columns, strict=True)],
                    names=[c.name for c in DETECTIONS.columns])  # fmt: skip


def coco(folder: Path, images: dict[str, list[tuple[str, list[float]]]], name="back.json", **size: Any) -> Path:
    """Save a COCO file: image → [(class, bbox), …]; classes as they come."""
    names = list(dict.fromkeys([*CLASSES, *(c for labels in images.values() for c, _ in labels)]))
    content = {
        "images": [{"id": n, "file_name": i, "width": 100, "height": 50, **size} for n, i in enumerate(images)],
        "categories": [{"id": n, "name": c} for n, c in enumerate(names)],
        "annotations": [
            {"id": 100 + n, "image_id": list(images).index(i), "category_id": names.index(c), "bbox": bbox}
            for n, (i, c, bbox) in enumerate((i, c, b) for i, labels in images.items() for c, b in labels)
        ],
    }
    path = folder / name
    path.write_text(json.dumps(content))
    return path
