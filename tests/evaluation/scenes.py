"""Random test sets that hold what evaluators stumble over: ties, empty images, missed and doubled objects."""

from __future__ import annotations

from typing import Any

import numpy as np


def random_scene(seed: int, n_images: int = 12, n_classes: int = 4) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO ground truth with 1-based ids and COCO results on it."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, n_images + 1):
        if image % 5 == 0:
            continue  # no object, nothing found
        for _ in range(rng.integers(1, 9)):
            side = float(np.exp(rng.uniform(np.log(6), np.log(200))))
            box = [*rng.uniform(0, 400, 2), side, side * rng.uniform(0.5, 2)]
            cls = int(rng.integers(1, n_classes + 1))
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": cls, "bbox": [float(v) for v in box],
                "area": float(box[2] * box[3]), "iscrowd": 0,
            })  # fmt: skip
            for _ in range(rng.integers(0, 3)):  # missed, found, found twice
                moved = np.array(box) + rng.normal(0, 0.08 * side, 4)
                results.append({
                    "image_id": image, "category_id": cls if rng.random() < 0.9 else 1,
                    "bbox": [float(v) for v in (*moved[:2], *np.abs(moved[2:]) + 1)],
                    "score": float(np.round(rng.random(), 1)),  # one decimal: many ties
                })  # fmt: skip
    for image in range(1, n_images + 1, 4):
        results.append({"image_id": image, "category_id": 2, "bbox": [5.0, 5.0, 30.0, 30.0], "score": 0.5})
    truth = {
        "images": [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(1, n_images + 1)],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, n_classes + 1)],
        "annotations": annotations,
    }
    return truth, results


def as_table(rows: list[dict[str, Any]], truth: dict[str, Any], member: int | None = None) -> dict[str, list[Any]]:
    """COCO boxes as columns of the BOXES table, or of DETECTIONS when a member is given."""
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    table: dict[str, list[Any]] = {
        "image_id": [files[row["image_id"]] for row in rows],
        "class": [names[row["category_id"]] for row in rows],
    }
    if member is not None:
        table |= {"member": [member] * len(rows), "probability": [row["score"] for row in rows]}
    x, y, w, h = (np.array([row["bbox"][i] for row in rows], np.float64) for i in range(4))
    return table | {"x1_px": list(x), "y1_px": list(y), "x2_px": list(x + w), "y2_px": list(y + h)}
