"""COCO, YOLO and Pascal VOC annotations and run configs, malformed."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

import yaml

from poolscout.config import PoolConfig, load_config
from poolscout.errors import PoolscoutError
from poolscout.formats.annotations import annotation_images, annotations_hash, read_annotations
from poolscout.formats.content import Annotations
from poolscout.pool import list_pool
from tests.formats.annotation_sets import save_image, voc_object, voc_set, voc_xml, yolo_set
from tests.formats.coco_files import document
from tests.fuzz.kinds import Kind, Outcome, check_message
from tests.fuzz.mutations import LEADING_OUT, ODD_TEXTS, ODD_VALUES, damaged_json, damaged_text, damaged_tree
from tests.fuzz.pool_kinds import check_listing
from tests.pool.images import save


def _write_text(folder: Path, name: str, text: str | bytes) -> None:
    save(folder / name, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def check_annotations(path: Path, inside: Path) -> Outcome:
    """Read as labels, as a pool and as a digest; each answers or refuses by itself."""
    outcomes: set[Outcome] = set()

    def attempt(read: Any) -> None:
        try:
            outcomes.add(read())
        except PoolscoutError as error:
            check_message(error)
            outcomes.add("refused")

    attempt(lambda: _check_boxes(read_annotations(path, bad_boxes="error")))
    attempt(lambda: _check_boxes(read_annotations(path, bad_boxes="drop")))
    attempt(lambda: check_listing(list_pool(PoolConfig(source=path)), inside))
    attempt(lambda: "succeeded" if annotations_hash(path) else "refused")
    attempt(lambda: _check_images(path, inside))
    return "refused" if "refused" in outcomes else "quarantined" if "quarantined" in outcomes else "succeeded"


def _check_boxes(found: Annotations) -> Outcome:
    sizes = {image.image_id: (image.width, image.height) for image in found.images}
    assert all(_is_safe(image_id) for image_id in sizes)
    for row in found.boxes.to_pylist():
        x1, y1, x2, y2 = box = [row[name] for name in ("x1_px", "y1_px", "x2_px", "y2_px")]
        width, height = sizes[row["image_id"]]
        assert all(map(math.isfinite, box)), row
        assert 0 <= x1 < x2 <= (width or math.inf), (row, width)
        assert 0 <= y1 < y2 <= (height or math.inf), (row, height)
        assert row["class"] in found.classes, row
    return "succeeded"


def _check_images(path: Path, inside: Path) -> Outcome:
    for image in annotation_images(path):
        assert _is_safe(image.image_id), image
        assert image.path.resolve().is_relative_to(inside.resolve()), image
    return "succeeded"


def _is_safe(image_id: str) -> bool:
    name = PurePosixPath(image_id)
    return not name.is_absolute() and ".." not in name.parts and "\\" not in image_id


def _make_coco(random: Random, folder: Path) -> None:
    for name in ("a.jpg", "b/c.jpg"):
        save_image(folder / "images" / name)
    tree = document()
    if random.random() < 0.15:
        tree["images"][0]["file_name"] = random.choice((*LEADING_OUT, "/etc/passwd", *ODD_TEXTS))
    else:
        tree = damaged_tree(random, tree)
    _write_text(folder, "annotations.json", damaged_json(random, tree))


def _read_coco(inside: Path) -> Outcome:
    return check_annotations(inside / "annotations.json", inside)


def _make_yolo(random: Random, folder: Path) -> None:
    yolo_set(folder)
    names = {"data.yaml": "path: .\ntrain: images/train\nval: list.txt\nnc: 2\nnames:\n  0: car\n  1: person\n",
             "labels/train/a.txt": "0 0.25 0.45 0.3 0.1\n1 0.5 0.5 0.2 0.2 0.9\n0 0.1 0.1 0.2 0.1 0.2 0.2\n",
             "list.txt": "images/train/a.jpg\n./images/train/b.jpg\n"}  # fmt: skip
    chosen = random.choice(list(names))
    for name, text in names.items():
        _write_text(folder, name, damaged_text(random, text) if name == chosen else text)
    if chosen == "list.txt" and random.random() < 0.5:
        _write_text(folder, "list.txt", "\n".join(random.sample((*LEADING_OUT, *ODD_TEXTS, "/etc/passwd"), 2)))


def _read_yolo(inside: Path) -> Outcome:
    return check_annotations(inside / "data.yaml", inside)


def _make_voc(random: Random, folder: Path) -> None:
    voc_set(folder)
    if random.random() < 0.25:
        _write_text(folder, "ImageSets/Main/train.txt", damaged_text(random, "a\nb 1\nc -1\n"))
        return
    entity = '<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY x SYSTEM "../secret.png"><!ENTITY y "&x;&x;">]>\n'
    name = random.choice(("a.jpg", "&x;", "&y;", *LEADING_OUT)) if random.random() < 0.3 else "a.jpg"
    whole = (entity if random.random() < 0.2 else "") + voc_xml(name, voc_object(), voc_object("person", (1, 1, 9, 9)))
    _write_text(folder, "Annotations/a.xml", damaged_text(random, whole) if name == "a.jpg" else whole)


def _read_voc(inside: Path) -> Outcome:
    return check_annotations(inside, inside)


CONFIG: dict[str, Any] = {
    "name": "demo", "rounds": 2, "seed": 3, "device": "auto", "engine": {"name": "threads", "workers": 2},
    "pool": {"source": "pool.json", "sequence": "clip", "max_quarantined": 0.05,
    "storage_options": {"s3": {"anon": True}}},
    "shortlist": {"where": "speed_kmh > 5", "tables": {"extra": "extra.parquet"}},
    "labelling": {"initial": 8, "classes": ["car", "person"], "mode": "oracle", "annotations": "pool.json"},
    "detector": {"height": 64, "width": 64, "widths": [4, 8, 8, 8]},
    "training": {"members": 2, "min_steps": 10, "max_steps": 12},
    "evaluation": {"annotations": "test.json", "size_buckets": [10, 20]},
    "scoring": {"scorers": [{"scorer": "entropy", "aggregate": "max"}], "shard_size": 10},
    "selection": {
        "n": 6, "over_classes": "weighted", "sampler": "top-n", "class_weights": {"car": 2.0},
        "constraints": {"min_gap": 3, "exclude": "x.txt"},
    },
}  # fmt: skip


def _make_config(random: Random, folder: Path) -> None:
    tree = CONFIG
    if random.random() < 0.6:
        tree = damaged_tree(random, CONFIG)
        try:
            text: str | bytes = yaml.safe_dump(tree, sort_keys=False)
        except (ValueError, yaml.YAMLError):  # what YAML cannot say, JSON's writer can
            text = json.dumps(tree)
    else:
        text = damaged_text(random, yaml.safe_dump(tree, sort_keys=False))
    _write_text(folder, "run.yaml", text)


def _read_config(inside: Path) -> Outcome:
    load_config(inside / "run.yaml")
    return "succeeded"


def _make_override(random: Random, folder: Path) -> None:
    key = random.choice(
        (
            "seed",
            "rounds",
            "selection.n",
            "pool",
            "pool.source",
            "scoring.scorers",
            "detector.widths",
            "a.b.c",
            "name.x",
            "",
            ".",
            "engine.workers",
            "\ud800",
        )
    )
    odd = str(random.choice(ODD_VALUES))
    text = random.choice(
        (f"{key}={odd}", f"{key}: {odd}", f"{key}=[{odd}, {odd}]", f"{key}={{{odd}: {odd}}}", f"{odd}={odd}")
    )
    _write_text(folder, "run.yaml", yaml.safe_dump(CONFIG))
    _write_text(folder, "override.txt", text)


def _read_override(inside: Path) -> Outcome:
    override = (inside / "override.txt").read_bytes().decode("utf-8", "surrogatepass")
    load_config(inside / "run.yaml", [override])
    return "succeeded"


KINDS = (
    Kind("coco", 50, _make_coco, _read_coco),
    Kind("yolo", 40, _make_yolo, _read_yolo),
    Kind("voc", 40, _make_voc, _read_voc),
    Kind("config", 60, _make_config, _read_config),
    Kind("override", 40, _make_override, _read_override),
)
