"""One cell of an A/B test: a repeat's ensemble, trained on the reference set alone or with what an arm learns from."""

from __future__ import annotations

from collections.abc import Sequence
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
from poolscout.experiments.arms import Arms, Sides, split_arms
from poolscout.experiments.cells import at_effort
from poolscout.experiments.split import known_labels
from poolscout.formats.content import Annotations
from poolscout.labels import sizes_of
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.manifest import fingerprint
from poolscout.tables.parquet import read_table
from poolscout.tables.runfolder import RunFolder, read_json
from poolscout.world import Arm, TestSet, World, open_world

REFERENCE, BOTH = "reference", "both"  # the model without any arm; the union of what all arms hold out


@dataclass(frozen=True)
class AbCells:
    """What a worker needs for any cell.

    Attributes:
        arms: of each repeat; all of the same names.
        splits: so many repeats, one after the other, split the same arms and make one independent figure.
        truth: the labels of the whole pool, to measure with.
    """

    world: World
    config: ExperimentRunConfig
    arms: tuple[Arms, ...]
    splits: int
    truth: Annotations

    @property
    def names(self) -> list[str]:
        """The arms'."""
        return list(self.arms[0].picked)

    def sides(self, repeat: int) -> Sides:
        """How a repeat splits the arms."""
        config, path = self.config, self.families(repeat)
        family = read_json(path) if path.exists() else {}  # a folder of an earlier release parted single sequences
        return split_arms(
            self.world.pool, self.arms[repeat].picked, config.seed + repeat, config.experiment.ab.held_out, family
        )  # fmt: skip

    def families(self, repeat: int) -> Path:
        """A JSON object: of a repeat's sequences those that look like others → the name of their family."""
        return self.repeat(repeat) / "families.json"

    def learnt(self, repeat: int, sides: Sides, name: str) -> list[str]:
        """What a repeat's model of this name learns from, by id."""
        shared = without(self.world.pool, self.arms[repeat].reference, sides.sequences)
        return sorted({*shared, *sides.learnt.get(name, ())})

    @property
    def same_picks(self) -> bool:
        """Whether all repeats split the same selections, which somebody brought."""
        return self.splits == 1 and len(self.arms) > 1 and all(of is self.arms[0] for of in self.arms)

    def repeat(self, repeat: int) -> Path:
        """Folder of a repeat."""
        return self.world.folder.path / "repeats" / f"repeat-{repeat:03d}"


def open_ab(config: ExperimentRunConfig, arms: tuple[Arms, ...], splits: int, out: Path, alone: bool) -> AbCells:
    """What was listed before, opened again; `alone`: a training may use all cores."""
    if not alone:
        torch.set_num_threads(1)
    world = open_ab_world(config, out)
    return AbCells(world, config, arms, splits, known_labels(world))


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
    learnt = cells.learnt(repeat, sides, name)
    arm = Arm(cells.repeat(repeat) / name, f"{name}, ", cells.config.selection, cells.config.training.members)
    world = _world(cells, repeat, sides)
    labelling.deliver(world, arm, 0, "oracle", {"images": fingerprint(learnt)}, lambda: oracle.reveal(learnt))
    labelling.freeze_labels(world, arm, 0)
    stages.train(world, arm, 0)
    stages.evaluate(world, arm, 0)
    tell(f"repeat {repeat} {name}")


def without(pool: pa.Table, image_ids: Sequence[str], sequences: frozenset[str]) -> list[str]:
    """The images that lie in none of these sequences."""
    rows = rows_of(pool, image_ids)
    held = pc.is_in(rows["sequence"], value_set=pa.array(sorted(sequences), pa.string()))
    return rows.filter(pc.invert(held))["image_id"].to_pylist()


def figures(cells: AbCells, repeat: int, name: str) -> dict[str, dict[str, Any]]:
    """Test (`both`, or the arm whose held-out part it is) → figures as `evaluate` gives them, mean over the members.

    A test without any box has none.
    """
    folder, world = cells.repeat(repeat) / name / "round-000", cells.world
    found = {BOTH: read_json(folder / "metrics.json")["mean"]}
    sides, detections = cells.sides(repeat), read_table(folder / "test_detections.parquet", DETECTIONS)
    for arm, ids in sides.held.items():
        boxes = rows_of(cells.truth.boxes, ids)
        known = boxes.filter(pc.is_in(boxes["class"], value_set=pa.array(list(world.classes), pa.string())))
        if known.num_rows:
            sizes, how = sizes_of(rows_of(world.pool, ids)), cells.config.evaluation
            found[arm] = evaluate(
                boxes,
                rows_of(detections, ids),
                sizes,
                world.classes,
                cells.config.training.members,
                how.size_buckets,
                how.least_boxes,
            ).mean.to_json()
    return found


def cost(cells: AbCells, image_ids: Sequence[str]) -> dict[str, Any]:
    """What labelling these images costs: images, boxes, boxes of each class, minutes by the price list, sequences."""
    world, price = cells.world, cells.config.selection.price
    boxes = rows_of(cells.truth.boxes, image_ids)
    per_class = {name: pc.sum(pc.equal(boxes["class"], name)).as_py() or 0 for name in world.classes}
    n_boxes = sum(per_class.values())
    return {
        "images": len(image_ids),
        "boxes": n_boxes,
        "boxes_per_class": per_class,
        "minutes": price.minutes(len(image_ids), n_boxes),
        "sequences": pc.count_distinct(rows_of(world.pool, image_ids)["sequence"]).as_py(),
    }


def rows_of(table: pa.Table, image_ids: Sequence[str]) -> pa.Table:
    """The rows of these images."""
    return table.filter(pc.is_in(table["image_id"], value_set=pa.array(list(image_ids), pa.string())))


def _world(cells: AbCells, repeat: int, sides: Sides) -> World:
    most = max(len(ids) for ids in sides.learnt.values())
    world = at_effort(cells.world, repeat, len(cells.arms[repeat].reference) + most)
    digest = fingerprint([world.oracle_digest, sides.union])
    return replace(world, test=TestSet(rows_of(world.pool, sides.union), cells.truth, world.reader, digest))
