"""One cell of an A/B test: a repeat's ensemble, trained on the reference set alone or with what an arm learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from poolscout import labelling, stages
from poolscout.config_experiment import ExperimentRunConfig
from poolscout.engine import SerialExecutor, tell
from poolscout.engine.progress import SilentProgress
from poolscout.evaluation import evaluate
from poolscout.experiments.arms import Sides, split_arms
from poolscout.formats.annotations import read_annotations
from poolscout.labels import sizes_of
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.manifest import fingerprint
from poolscout.tables.parquet import read_table
from poolscout.tables.runfolder import RunFolder, read_json
from poolscout.training.member import n_steps
from poolscout.world import Arm, TestSet, World, open_world

REFERENCE, BOTH = "reference", "both"  # the model without any arm; the union of what all arms hold out


@dataclass(frozen=True)
class AbCells:
    """What a worker needs for any cell.

    Attributes:
        arms: arm → its image ids.
        reference: image ids that every model learns from.
    """

    world: World
    config: ExperimentRunConfig
    arms: dict[str, list[str]]
    reference: list[str]

    def sides(self, repeat: int) -> Sides:
        """How a repeat splits the arms."""
        return split_arms(self.world.pool, self.arms, self.config.seed + repeat)

    def folder(self, repeat: int, name: str) -> Path:
        return self.world.folder.path / "repeats" / f"repeat-{repeat:03d}" / name


def open_ab(
    config: ExperimentRunConfig, arms: dict[str, list[str]], reference: list[str], out: Path, alone: bool
) -> AbCells:
    """What was listed before, opened again; `alone`: a training may use all cores."""
    if not alone:
        torch.set_num_threads(1)
    return AbCells(open_ab_world(config, out), config, arms, reference)


def open_ab_world(config: ExperimentRunConfig, out: Path, folder: RunFolder | None = None) -> World:
    """The pool that the arms were picked from; its test images are chosen anew in each repeat."""
    unseen = config.evaluation.model_copy(update={"annotations": None, "images": None})
    config = config.model_copy(update={"evaluation": unseen})
    return open_world(folder or RunFolder(out), config, SilentProgress(), SerialExecutor())


def play_ab(cells: AbCells, cell: tuple[int, str]) -> None:
    """Train and measure one ensemble: same initial weights, same steps, same test images as the repeat's others."""
    repeat, name = cell
    sides, oracle = cells.sides(repeat), cells.world.oracle
    assert oracle is not None
    learnt = sorted({*without(cells.world.pool, cells.reference, sides.sequences), *sides.learnt.get(name, ())})
    arm = Arm(cells.folder(repeat, name), f"{name}, ", cells.config.selection, cells.config.training.members)
    world = _world(cells, repeat, sides)
    labelling.deliver(world, arm, 0, "oracle", {"images": fingerprint(learnt)}, lambda: oracle.reveal(learnt))
    labelling.freeze_labels(world, arm, 0)
    stages.train(world, arm, 0)
    stages.evaluate(world, arm, 0)
    tell((repeat, name))


def without(pool: pa.Table, image_ids: Sequence[str], sequences: frozenset[str]) -> list[str]:
    """The images that lie in none of these sequences."""
    rows = pool.filter(pc.is_in(pool["image_id"], value_set=pa.array(list(image_ids), pa.string())))
    held = pc.is_in(rows["sequence"], value_set=pa.array(sorted(sequences), pa.string()))
    return rows.filter(pc.invert(held))["image_id"].to_pylist()


def figures(cells: AbCells, repeat: int, name: str) -> dict[str, dict[str, Any]]:
    """Test (`both`, or the arm whose held-out part it is) → figures as `evaluate` gives them, mean over the members.

    A test without any box has none.
    """
    folder, world = cells.folder(repeat, name) / "round-000", cells.world
    found = {BOTH: read_json(folder / "metrics.json")["mean"]}
    sides, detections = cells.sides(repeat), read_table(folder / "test_detections.parquet", DETECTIONS)
    truth = _truth(world).boxes
    for arm, ids in sides.held.items():
        own = pa.array(ids, pa.string())
        boxes = truth.filter(pc.is_in(truth["image_id"], value_set=own))
        known = boxes.filter(pc.is_in(boxes["class"], value_set=pa.array(list(world.classes), pa.string())))
        if known.num_rows:
            rows = world.pool.filter(pc.is_in(world.pool["image_id"], value_set=own))
            seen = detections.filter(pc.is_in(detections["image_id"], value_set=own))
            members = cells.config.training.members
            found[arm] = evaluate(boxes, seen, sizes_of(rows), world.classes, members).mean.to_json()
    return found


def cost(cells: AbCells, image_ids: Sequence[str]) -> dict[str, Any]:
    """What labelling these images costs: images, boxes, boxes of each class, minutes by the price list, sequences."""
    world, price = cells.world, cells.config.selection.price
    ids = pa.array(list(image_ids), pa.string())
    boxes = _truth(world).boxes
    boxes = boxes.filter(pc.is_in(boxes["image_id"], value_set=ids))
    per_class = {name: pc.sum(pc.equal(boxes["class"], name)).as_py() or 0 for name in world.classes}
    n_boxes = sum(per_class.values())
    rows = world.pool.filter(pc.is_in(world.pool["image_id"], value_set=ids))
    return {
        "images": len(image_ids),
        "boxes": n_boxes,
        "boxes_per_class": per_class,
        "minutes": (price.seconds_per_image * len(image_ids) + price.seconds_per_box * n_boxes) / 60,
        "sequences": pc.count_distinct(rows["sequence"]).as_py(),
    }


def _truth(world: World) -> Any:
    labels = world.config.labelling
    annotations = Path(labels.annotations or world.config.pool.source)
    return read_annotations(annotations, bad_boxes=labels.bad_boxes, sizes=sizes_of(world.pool))


def _world(cells: AbCells, repeat: int, sides: Sides) -> World:
    world, config = cells.world, cells.config
    most = max(len(ids) for ids in sides.learnt.values())
    steps = n_steps(len(cells.reference) + most, config.training)
    training = config.training.model_copy(update={"min_steps": steps, "max_steps": steps})
    images = world.pool.filter(pc.is_in(world.pool["image_id"], value_set=pa.array(sides.union, pa.string())))
    test = TestSet(images, _truth(world), world.reader, fingerprint([world.oracle_digest, sides.union]))
    changed = world.config.model_copy(update={"seed": config.seed + repeat, "training": training})
    return replace(world, config=changed, test=test)


def by_arm(cells: AbCells) -> Mapping[str, dict[str, Any]]:
    """Arm → what labelling its picks costs."""
    return {name: cost(cells, ids) for name, ids in cells.arms.items()}
