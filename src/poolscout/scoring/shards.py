"""The parts a scoring pass writes: one of each table for each shard, the scores last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from poolscout.scoring.glance import Glance
from poolscout.tables.declared import CLASSES_KEY, DETECTIONS, EMBEDDINGS, ENSEMBLE, PROVENANCE_KEY, QUARANTINE, SCORES
from poolscout.tables.parquet import float_lists

ORDER = (("detections", DETECTIONS), ("embeddings", EMBEDDINGS), ("quarantine", QUARANTINE), ("scores", SCORES))
BOX_COLUMNS = ("x1_px", "y1_px", "x2_px", "y2_px")


def shard_tables(
    glances: Sequence[Glance],
    rejected: list[dict[str, str]],
    columns: Sequence[str],
    classes: Sequence[str],
    provenance: str,
) -> dict[str, pa.Table | dict]:
    """A shard's tables by folder name, from what was seen in its batches; each may have no rows.

    Args:
        glances: of the shard's batches, in order.
        rejected: rows of the quarantine table.
        columns: score columns, as in the glances.
        classes: names in the order of the maps.
        provenance: what the probabilities are.
    """
    ids = [image_id for glance in glances for image_id in glance.image_ids]
    return {
        "scores": score_rows(
            ids,
            {column: _stacked([one.scores[column] for one in glances]) for column in columns},
            classes,
            provenance,
        ),
        "embeddings": {"image_id": ids, "embedding": float_lists(_stacked([glance.features for glance in glances]))},
        "detections": _detection_rows(glances, classes),
        "quarantine": {name: [row[name] for row in rejected] for name in (c.name for c in QUARANTINE.columns)},
    }


def score_rows(
    ids: Sequence[str], per_class: Mapping[str, np.ndarray], classes: Sequence[str], provenance: str
) -> pa.Table:
    """Rows of the score table from each score column's figures, [images, classes].

    Its metadata say the classes' names and what the probabilities are.
    """
    rows: dict = {"image_id": pa.array(ids, pa.string())}
    for column, values in per_class.items():
        rows[column] = pa.array(values.max(1, initial=0.0), pa.float32())
        rows[f"{column}_per_class"] = float_lists(values)
    return pa.table(rows).replace_schema_metadata({CLASSES_KEY: json.dumps(list(classes)), PROVENANCE_KEY: provenance})


def _detection_rows(glances: Sequence[Glance], classes: Sequence[str]) -> dict:
    found = [glance.detections for glance in glances]
    boxes = torch.cat([one.boxes_xyxy_px for one in found]) if found else torch.empty(0, 4)
    image_ids = [glance.image_ids[i] for glance in glances for i in glance.detections.images.tolist()]
    return {
        "image_id": image_ids,
        "member": [ENSEMBLE] * len(image_ids),
        "class": [classes[index] for one in found for index in one.classes.tolist()],
        "probability": [p for one in found for p in one.probabilities.tolist()],
        **{name: edge.numpy() for name, edge in zip(BOX_COLUMNS, boxes.float().unbind(1), strict=True)},
    }


def _stacked(rows: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(rows)).numpy() if rows else np.empty((0, 0), np.float32)
