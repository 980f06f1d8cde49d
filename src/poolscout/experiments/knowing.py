"""Picks that know the labels: most boxes of rare classes. No bound of what can be won: they know not what teaches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from poolscout.tables.declared import SELECTION
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.parquet import write_table
from poolscout.tables.runfolder import read_json
from poolscout.world import Arm, World

REASON = "knows the labels: most boxes of classes that are rare so far"


def select_knowing(world: World, arm: Arm, number: int) -> None:
    """This round's picks by the hidden labels, as the stage `select` would leave them.

    Greedy for Σ_c √(labelled boxes of class c): monotone and submodular, so greedy is within 1 − 1/e of the best.
    """
    folder = arm.round(number)

    def do() -> None:
        labelled = set(_ids(arm, number))
        counts = counts_per_image(world)
        ids = sorted(counts)
        table = np.array([counts[image_id] for image_id in ids], np.float64)
        have = np.array([image_id in labelled for image_id in ids])
        rows = greedy(table, have, arm.selection.n)
        n = len(rows)
        picks = {
            "rank": pa.array(range(n), pa.int32()), "image_id": pa.array([ids[row] for row in rows], pa.string()),
            "score": pa.nulls(n, pa.float32()), "class": pa.nulls(n, pa.string()),
            "distance": pa.nulls(n, pa.float32()),
            "reason": pa.array([REASON] * n, pa.string()), "labelled_already": pa.array([False] * n, pa.bool_()),
        }  # fmt: skip
        write_table(folder / "selection.parquet", SELECTION, pa.table(picks))

    work = Work("select", {"knows": "labels", "n": arm.selection.n}, {"labels": file_hash(folder / "labels.json")})
    world.folder.stage(folder, work, [folder / "selection.parquet"], do)


def counts_per_image(world: World) -> dict[str, list[int]]:
    """Image of the pool → number of boxes of each class."""
    assert world.oracle is not None
    ids = world.pool["image_id"].to_pylist()
    boxes = world.oracle.reveal(ids).boxes
    at = {name: i for i, name in enumerate(world.classes)}
    counts = {image_id: [0] * len(at) for image_id in ids}
    for image_id, cls in zip(boxes["image_id"].to_pylist(), boxes["class"].to_pylist(), strict=True):
        counts[image_id][at[cls]] += 1
    return counts


def greedy(counts: Float[np.ndarray, "images classes"], have: np.ndarray, n: int) -> list[int]:
    """Rows in pick order: each adds most to Σ_c √(count of c)."""
    total, free = counts[have].sum(0), ~have
    rows = list[int]()
    for _ in range(min(n, int(free.sum()))):
        gains = np.where(free, (np.sqrt(total + counts) - np.sqrt(total)).sum(1), -1.0)
        best = int(gains.argmax())
        rows.append(best)
        total, free[best] = total + counts[best], False
    return rows


def _ids(arm: Arm, number: int) -> list[str]:
    version = read_json(arm.round(number) / "labels.json")["version"]
    ids: list[str] = arm.labels.current(version).labelled["image_id"].to_pylist()
    return ids
