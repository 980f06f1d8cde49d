"""Small COCO documents to damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def document() -> dict[str, Any]:
    """Two images, two classes with ids 0 and 7, one box each."""
    return {
        "images": [
            {"id": 10, "file_name": "a.jpg", "width": 100, "height": 50, "town": "Ulm", "frame": 3},
            {"id": 4, "file_name": "b/c.jpg", "width": 100, "height": 50},
        ],
        "categories": [{"id": 7, "name": "car"}, {"id": 0, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 20, 30, 5]},
            {"id": 2, "image_id": 4, "category_id": 0, "bbox": [0, 0, 100, 50], "iscrowd": 0},
        ],
    }


def saved(folder: Path, content: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path
