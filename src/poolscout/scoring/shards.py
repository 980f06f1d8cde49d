"""The parts a scoring pass writes: one of each table for each shard, the scores last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from poolscout.scoring.glance import Glance
from poolscout.tables.atomic import write_json
from poolscout.tables.declared import DETECTIONS, EMBEDDINGS, ENSEMBLE, QUARANTINE, SCORES
from poolscout.tables.parquet import part_path, write_table

ORDER = (("detections", DETECTIONS), ("embeddings", EMBEDDINGS), ("quarantine", QUARANTINE), ("scores", SCORES))
BOX_COLUMNS = ("x1_px", "y1_px", "x2_px", "y2_px")


class ShardFolder:
    """The tables of a pass, in folders of one folder.

    A shard's part of `scores` is written last and commits the shard. `parts.json` notes what the parts were computed
    from; opening the folder removes parts that were computed from anything else.

    Args:
        folder: holds detections/, embeddings/, quarantine/ and scores/.
        made_from: digest of all that the numbers depend on.
    """

    def __init__(self, folder: Path, made_from: str) -> None:
        self.folder = Path(folder)
        note = self.folder / "parts.json"
        if not note.exists() or made_from not in note.read_text(encoding="utf-8"):
            for name, _ in reversed(ORDER):
                for part in (self.folder / name).glob("part-*.parquet"):
                    part.unlink()
            write_json(note, {"made_from": made_from})

    def is_done(self, shard: int) -> bool:
        """Whether all of a shard's parts are there."""
        return all(part_path(self.folder / name, shard).exists() for name, _ in ORDER)

    def write(self, shard: int, tables: dict[str, pa.Table | dict]) -> None:
        """Write a shard's parts, each whole or not at all, the committing one last.

        Raises:
            NonFiniteError, TableError: a table is not as declared.
            StorageError: the disk is full or refuses.
        """
        for name, spec in ORDER:
            write_table(part_path(self.folder / name, shard), spec, tables[name])


def shard_tables(
    glances: Sequence[Glance], rejected: list[dict[str, str]], columns: Sequence[str], classes: Sequence[str]
) -> dict[str, pa.Table | dict]:
    """A shard's tables by folder name, from what was seen in its batches; each may have no rows.

    Args:
        glances: of the shard's batches, in order.
        rejected: rows of the quarantine table.
        columns: score columns, as in the glances.
        classes: names in the order of the maps.
    """
    ids = [image_id for glance in glances for image_id in glance.image_ids]
    scores: dict = {"image_id": ids}
    for column in columns:
        per_class = _stacked([glance.scores[column] for glance in glances])
        scores[column] = per_class.max(1, initial=-np.inf) if ids else []
        scores[f"{column}_per_class"] = _lists(per_class)
    return {
        "scores": scores,
        "embeddings": {"image_id": ids, "embedding": _lists(_stacked([glance.features for glance in glances]))},
        "detections": _detection_rows(glances, classes),
        "quarantine": {name: [row[name] for row in rejected] for name in (c.name for c in QUARANTINE.columns)},
    }


def _detection_rows(glances: Sequence[Glance], classes: Sequence[str]) -> dict:
    pairs = [pair for glance in glances for pair in zip(glance.image_ids, glance.detections, strict=True)]
    found = [one for _, one in pairs]
    boxes = torch.cat([one.boxes_xyxy_px for one in found]) if found else torch.empty(0, 4)
    n_boxes = [len(one.classes) for one in found]
    return {
        "image_id": [image_id for (image_id, _), n in zip(pairs, n_boxes, strict=True) for _ in range(n)],
        "member": [ENSEMBLE] * sum(n_boxes),
        "class": [classes[index] for one in found for index in one.classes.tolist()],
        "probability": [p for one in found for p in one.probabilities.tolist()],
        **{name: edge.numpy() for name, edge in zip(BOX_COLUMNS, boxes.float().cpu().unbind(1), strict=True)},
    }


def _stacked(rows: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(rows)).numpy() if rows else np.empty((0, 0), np.float32)


def _lists(rows: np.ndarray) -> pa.Array:
    """[n, length] floats as a column of n lists."""
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1), pa.float32()))
