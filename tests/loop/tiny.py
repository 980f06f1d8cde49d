"""A data set and a config so small that a whole run takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from poolscout.config import RunConfig, build_config

SIZE = 64
CLASSES = ("disc", "bar")


def write_data(folder: Path, n_pool: int = 40, n_test: int = 8, seed: int = 0) -> Path:
    """Noisy images with one or two bright shapes; `pool.json` and `test.json` beside `images/`."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for part, count in (("pool", n_pool), ("test", n_test)):
        images, annotations = [], []
        for number in range(count):
            name = f"{part}-{number:03d}.png"
            pixels, boxes = _draw(random)
            Image.fromarray(pixels).save(folder / "images" / name)
            images.append(
                {"id": number, "file_name": name, "width": SIZE, "height": SIZE, "clip": f"clip-{number // 4}"}
            )
            for class_id, box in boxes:
                annotations.append({"id": len(annotations), "image_id": number, "category_id": class_id, "bbox": box})
        categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}.json").write_text(json.dumps(document))
    return folder


def _draw(random: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    pixels = random.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
    boxes = []
    for class_id in random.permutation(2)[: random.integers(1, 3)].tolist():
        w, h = ((14, 14), (24, 8))[class_id]
        x, y = random.integers(0, SIZE - w).item(), random.integers(0, SIZE - h).item()
        pixels[y : y + h, x : x + w, class_id] = 250
        boxes.append((class_id, [x, y, w, h]))
    return pixels, boxes


def tiny_config(data: Path, **changes: Any) -> RunConfig:
    """Two rounds, two members, a few steps; `changes` are dotted keys with `__` for the dot."""
    values = {
        "name": "tiny",
        "rounds": 2,
        "pool": {"source": str(data / "pool.json"), "sequence": "clip"},
        "evaluation": {"annotations": str(data / "test.json")},
        "labelling": {"initial": 8},
        "detector": {"height": 64, "width": 64, "stem": 4, "widths": [4, 8, 8, 8], "neck": 8},
        "training": {
            "members": 2, "min_steps": 12, "max_steps": 12, "batch_size": 4, "crop_height": 32, "crop_width": 32,
        },
        "scoring": {"shard_size": 10, "batch_size": 4},
        "selection": {"n": 6},
        "report": {"images_per_round": 2},
    }  # fmt: skip
    return build_config(values, [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()])


def selections(run: Path) -> dict[str, bytes]:
    """Every selection of a run, as bytes."""
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("selection.parquet"))}
