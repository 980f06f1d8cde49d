"""Scoring of boxes that somebody else's detector has found: no images, no maps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from poolscout.config import ScoringConfig
from poolscout.detector.decode import Detections
from poolscout.detector.gives import BOXES, CLASS_PROBABILITIES, MEMBERS, Gives
from poolscout.formats.predictions import Predictions
from poolscout.scoring.boxes import fuse_members
from poolscout.scoring.plan import N_CLASSES, Plan
from poolscout.scoring.registry import ENSEMBLE_BOXES, MEMBER_BOXES, Input
from poolscout.scoring.shards import BOX_COLUMNS, score_rows
from poolscout.tables.declared import DETECTIONS, QUARANTINE, SCORES
from poolscout.tables.manifest import fingerprint, rows_digest
from poolscout.tables.shardfolder import ShardFolder

_ORDER = (("detections", DETECTIONS), ("quarantine", QUARANTINE), ("scores", SCORES))


def gives_of_predictions(found: Predictions) -> Gives:
    """What brought detections give to scoring."""
    has_lists = found.class_probabilities is not None
    kinds = {BOXES} | ({MEMBERS} if len(found.members) > 1 else set()) | ({CLASS_PROBABILITIES} if has_lists else set())
    what = "class probabilities" if has_lists else "top score only,"
    return Gives(found.name, frozenset(kinds), f"{what} as brought, not calibrated")


def score_predictions(
    pool: pa.Table,
    found: Predictions,
    config: ScoringConfig,
    out: Path,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Score every image of a pool by the boxes found in it, 0 where there are none.

    A shard of `config.shard_size` rows is one part of detections/, quarantine/ and scores/, as in `score_pool`.
    Of each member and image the `config.max_boxes` most probable boxes of at least `config.min_probability` count, and
    are written. Scorers of the ensemble's boxes are given those of several members fused (`fuse_members`).

    Args:
        pool: POOL table; the order of its rows is kept.
        found: boxes in this pool's images.
        config: scorers, which boxes count, shard size.
        out: the folder that gets the three tables.
        progress: called with the number of images done.

    Raises:
        ConfigError: no such scorer or aggregate; names the nearest.
        CapabilityError: a scorer needs what the detections do not give.
        StorageError: the disk is full or refuses.
    """
    plan = Plan(config.scorers)
    plan.check(gives_of_predictions(found))
    provenance = gives_of_predictions(found).provenance
    kept = strongest(found, config.min_probability, config.max_boxes)
    folder = ShardFolder(out, _made_from(pool, kept, config), _ORDER, also=("embeddings",))
    for shard, start in enumerate(range(0, pool.num_rows, config.shard_size)):
        rows = pool.slice(start, config.shard_size)
        if not folder.is_done(shard):
            first, last = np.searchsorted(kept.images, [start, start + rows.num_rows])
            own = kept.take(np.arange(first, last))
            figures = _figures(own, start, rows.num_rows, plan, config)
            folder.write(shard, {
                "detections": _detection_rows(own, pool),
                "quarantine": {column.name: [] for column in QUARANTINE.columns},
                "scores": score_rows(rows["image_id"].to_pylist(), figures, found.classes, provenance),
            })  # fmt: skip
        progress(start + rows.num_rows)


def strongest(found: Predictions, min_probability: float, max_boxes: int) -> Predictions:
    """The most probable boxes of each member and image, as `decode` keeps them of a map's peaks."""
    likely = found.take(found.probabilities >= np.float32(min_probability))
    group = likely.images * len(likely.members) + likely.member
    first = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.arange(len(group)) - np.repeat(first, np.diff(first, append=len(group)))
    return likely.take(rank < max_boxes)


def _strongest(fused: Detections, config: ScoringConfig) -> Detections:
    """The ensemble's boxes as a pass keeps those of its mean map: likely enough, and not too many an image."""
    likely = fused.take(fused.probabilities >= config.min_probability)
    counts = torch.bincount(likely.images)
    starts = (counts.cumsum(0) - counts)[likely.images]
    return likely.take(torch.arange(len(likely.images)) - starts < config.max_boxes)


def _figures(found: Predictions, start: int, n_images: int, plan: Plan, config: ScoringConfig) -> dict[str, np.ndarray]:
    """Score column → [images, classes], of the images from row `start` of the pool on."""
    members = [_of_member(found, number, start) for number in range(len(found.members))]
    given: dict[Input, Any] = {MEMBER_BOXES: members, N_CLASSES: len(found.classes)}
    if ENSEMBLE_BOXES in plan.inputs:
        given[ENSEMBLE_BOXES] = _strongest(fuse_members(members), config) if len(members) > 1 else members[0]
    figures = plan.figures(given, torch.ones(n_images))
    return {column: per_class.numpy() for column, per_class in figures.items()}


def _of_member(found: Predictions, number: int, start: int) -> Detections:
    own = found.take(found.member == number)
    lists = own.class_probabilities
    return Detections(
        torch.from_numpy(own.images - start),
        torch.from_numpy(own.boxes_xyxy_px),
        torch.from_numpy(own.class_index),
        torch.from_numpy(own.probabilities),
        None if lists is None else torch.from_numpy(lists),
    )


def _detection_rows(found: Predictions, pool: pa.Table) -> pa.Table:
    return pa.table({
        "image_id": pool["image_id"].take(pa.array(found.images)),
        "member": np.array(found.members, np.int32)[found.member],
        "class": pa.array(found.classes, pa.string()).take(pa.array(found.class_index)),
        "probability": found.probabilities,
        **dict(zip(BOX_COLUMNS, found.boxes_xyxy_px.T, strict=True)),
    })  # fmt: skip


def _made_from(pool: pa.Table, found: Predictions, config: ScoringConfig) -> str:
    boxes = hashlib.sha256()
    parts = (found.images, found.member, found.boxes_xyxy_px, found.class_index, found.probabilities)
    for part in (*parts, found.class_probabilities):
        if part is not None:
            boxes.update(np.ascontiguousarray(part).data)
    return fingerprint({
        "config": config.model_dump(mode="json"),
        "images": rows_digest(pool.select(["image_id"])),
        "classes": found.classes,
        "members": found.members,
        "boxes": boxes.hexdigest(),
    })  # fmt: skip
