"""A finished run made of real tables, small pictures and untrained detectors; tests delete what they want missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from poolscout.config import DetectorConfig, RunConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.io import save_member
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.tables.atomic import write_json
from poolscout.tables.declared import DETECTIONS, POOL, QUARANTINE, SCORES, SELECTION
from poolscout.tables.parquet import part_path, write_table

HEIGHT, WIDTH = 64, 96
CLASSES = ("car", "traffic light", "<script>alert(1)</script>")
COLUMN = "mutual_information_max"
CHOSEN, RANDOM, FULL = (0.11, 0.19, 0.26), (0.11, 0.18, 0.22), 0.4  # AP50 by round


def make_run(folder: Path, *, n_pool: int = 40, n_initial: int = 8, n: int = 6, images_per_round: int = 4) -> Path:
    """Two rounds of `n` picks, both references, an evaluation set; returns the run's folder."""
    rng = np.random.default_rng(0)
    run = folder / "run"
    ids = [f"clip {i // 5}/frame {i:03d} <b>&.jpg" for i in range(n_pool)]
    files = _draw_images(folder / "pictures", n_pool, rng)
    _write_config(run, folder, n_initial, n, images_per_round)
    write_table(part_path(run / "pool" / "images", 0), POOL, {
        "image_id": ids, "uri": [str(f) for f in files], "width": [WIDTH * 2] * n_pool, "height": [HEIGHT * 2] * n_pool,
        "sequence": [f"clip {i // 5}" for i in range(n_pool)], "frame": [i % 5 for i in range(n_pool)],
    })  # fmt: skip
    write_table(run / "pool" / "quarantine.parquet", QUARANTINE, {
        "image_id": ["broken.jpg", "gone.jpg"], "uri": ["broken.jpg", "gone.jpg"], "stage": ["pool", "pool"],
        "reason": ["truncated", "missing"], "detail": ["image file is truncated <i>", "no such file"],
    })  # fmt: skip
    for number in range(3):
        at = run / f"round-{number:03d}"
        _write_models(at / "models", members=2)
        write_json(at / "metrics.json", figures(n_initial + number * n, 30 + 25 * number, CHOSEN[number], 2))
        if number < 2:
            _write_picks(at, ids, n, rng)
    for number in (1, 2):
        at = run / "references" / "random" / f"round-{number:03d}"
        write_json(at / "metrics.json", figures(n_initial + number * n, 30 + 18 * number, RANDOM[number], 1))
    write_json(run / "references" / "full" / "round-000" / "metrics.json", figures(n_pool, 160, FULL, 1))
    return run


def figures(n_images: int, n_boxes: int, ap50: float, members: int, *, tested: bool = True) -> dict[str, Any]:
    """A metrics.json; members lie evenly around the mean, and the last class is not in the test set."""
    cost = {
        "images": {"labelled": n_images, "unique": n_images}, "boxes": n_boxes,
        "boxes_per_class": {CLASSES[0]: n_boxes - 3, CLASSES[1]: 3, CLASSES[2]: 0},
    }  # fmt: skip
    offsets = [0.0] if members == 1 else [0.01 * (2 * m / (members - 1) - 1) for m in range(members)]
    each = [{
        "AP50": ap50 + o, "AP": (ap50 + o) / 2, "wMAP": (ap50 + o) / 3, "wMAP_by_count": (ap50 + o) / 4,
        "per_class": {
            CLASSES[0]: {"AP": ap50 / 2, "AP50": ap50 + 0.1}, CLASSES[1]: {"AP": ap50 / 2, "AP50": ap50 - 0.1},
            CLASSES[2]: {"AP": None, "AP50": None},
        },
        "per_bucket": [],
    } for o in [*offsets, 0.0]]  # fmt: skip
    measured = {
        "members": each[:-1], "mean": each[-1], "detections": 99, "wMAP_definition": "wMAP v1 = …",
        "test": {"images": 278, "boxes": dict(zip(CLASSES, (70, 20, 0), strict=True)), "unreadable": 0},
    }  # fmt: skip
    return {**cost, **measured} if tested else cost


def _write_config(run: Path, folder: Path, n_initial: int, n: int, images_per_round: int) -> None:
    config = RunConfig.model_validate({
        "name": "fake-run", "rounds": 2,
        "pool": {"source": str(folder / "pool.json")}, "evaluation": {"annotations": str(folder / "test.json")},
        "labelling": {"initial": n_initial}, "selection": {"n": n}, "references": {"random": True, "full": True},
        "detector": {"height": HEIGHT, "width": WIDTH}, "report": {"images_per_round": images_per_round},
    })  # fmt: skip
    run.mkdir(parents=True)
    (run / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    write_json(run / "versions.json", {"python": "3.11.9", "poolscout": "0.1.0", "torch": "2.11.0"})


def _draw_images(folder: Path, n: int, rng: np.random.Generator) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{i}.jpg" for i in range(n)]
    for file in files:
        sky = np.linspace(200, 60, HEIGHT * 2)[:, None, None] * rng.uniform(0.5, 1, 3)
        picture = np.broadcast_to(sky, (HEIGHT * 2, WIDTH * 2, 3)).astype(np.uint8).copy()
        for _ in range(4):
            x, y, s = rng.integers(0, WIDTH * 2 - 40), rng.integers(30, HEIGHT * 2 - 30), rng.integers(8, 30)
            picture[y : y + s, x : x + 2 * s] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(file, quality=90)
    return files


def _write_models(folder: Path, members: int) -> None:
    for number in range(members):
        torch.manual_seed(number)
        architecture = DetectorConfig(height=HEIGHT, width=WIDTH, stem=4, widths=(4, 4, 4, 4), neck=4, bf16="off")
        model = UNet(len(CLASSES), architecture)
        torch.nn.init.normal_(model.output.weight)  # maps that vary over the image
        calibration = Calibration(
            focus=0.0, biases=(5.0,) * len(CLASSES), error_before=0.2, error_after=0.05, n_images=3, n_objects=9
        )
        card = MemberCard(architecture=architecture, classes=CLASSES, calibration=calibration, seed=number, training={})
        save_member(folder / f"member-{number}", Member(model, card))


def _write_picks(at: Path, ids: list[str], n: int, rng: np.random.Generator) -> None:
    scores = rng.gamma(1.0, 0.1, len(ids)).astype(np.float32)
    write_table(part_path(at / "scores", 0), SCORES, {
        "image_id": ids, f"{COLUMN}_per_class": [[float(s), 0.0, 0.0] for s in scores], COLUMN: scores.tolist(),
    })  # fmt: skip
    best = np.argsort(-scores, kind="stable")[:n]
    write_table(at / "selection.parquet", SELECTION, {
        "rank": list(range(n)), "image_id": [ids[i] for i in best], "score": scores[best].tolist(),
        "class": [CLASSES[k % 3] for k in range(n)], "distance": [None] * n, "reason": ["top-n"] * n,
        "labelled_already": [False] * n,
    })  # fmt: skip
    found = [(ids[i], CLASSES[k], 0.9 - 0.3 * k, 20.0 + 30 * k, 30.0) for i in best for k in range(3)]
    write_table(part_path(at / "detections", 0), DETECTIONS, {
        "image_id": [f[0] for f in found], "member": [-1] * len(found), "class": [f[1] for f in found],
        "probability": [f[2] for f in found], "x1_px": [f[3] for f in found], "y1_px": [f[4] for f in found],
        "x2_px": [f[3] + 25 for f in found], "y2_px": [f[4] + 20 for f in found],
    })  # fmt: skip
    write_json(at / "score.manifest.json", {"manifest_version": 1})
