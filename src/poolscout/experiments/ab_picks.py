"""One seed of the A/B experiment: a reference set, its ensemble, and what either arm picks from the short-list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from poolscout import labelling, stages
from poolscout.config_experiment import ExperimentRunConfig, StrategyConfig
from poolscout.engine import tell
from poolscout.errors import DataError
from poolscout.experiments.ab_cells import open_ab_world
from poolscout.experiments.arms import Arms
from poolscout.experiments.cells import START, at_effort, embeddings_path, seed_path
from poolscout.experiments.manual import Stretch, browse
from poolscout.experiments.split import known_labels
from poolscout.formats.content import Annotations
from poolscout.tables.atomic import write_json
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.parquet import part_path, read_table, write_table
from poolscout.tables.runfolder import read_json
from poolscout.world import Arm, World

MANUAL, AL = "manual", "al"


@dataclass(frozen=True)
class Picking:
    """What a worker needs for the picks of any seed.

    Attributes:
        known: the world whose pool the reference set is drawn from.
        wild: the world whose pool both arms pick from.
        learning: what picks as al.
        truth: the labels of the whole pool: what the expert sees.
    """

    config: ExperimentRunConfig
    known: World
    wild: World
    learning: StrategyConfig
    truth: Annotations


def open_picking(config: ExperimentRunConfig, learning: StrategyConfig, out: Path, alone: bool) -> Picking:
    """What was listed before, opened again; `alone`: a training may use all cores."""
    if not alone:
        torch.set_num_threads(1)
    return picking(open_ab_world(config, out), config, learning)


def picking(world: World, config: ExperimentRunConfig, learning: StrategyConfig) -> Picking:
    """The short-lists of a world, made once.

    Raises:
        ConfigError, DataError: a condition that cannot be understood, or that no image meets.
    """
    ab = config.experiment.ab
    known, wild = _where(world, "known", ab.reference_where), _where(world, "wild", ab.where)
    return Picking(config, known, wild, learning, known_labels(world))


def _where(world: World, name: str, where: str | None) -> World:
    """The same world with the images for which a condition is true as its pool; without one all of them."""
    if where is None:
        return world
    from poolscout.pool.shortlist import shortlist  # DuckDB takes half a second to load

    at, out = world.folder.path / name, world.folder.path / name / "shortlist"
    work = Work("shortlist", {"where": where}, {"pool": file_hash(world.pool_path)})
    world.folder.stage(
        at, work, [out], lambda: write_table(part_path(out, 0), POOL, shortlist(world.pool, where).pool)
    )  # fmt: skip
    return replace(world, pool=read_table(out, POOL), pool_path=out)


def play_picks(cells: Picking, seed: int) -> None:
    """Draw the reference set, train on it, score the short-list; let both arms pick, and keep what they picked."""
    config, learning = cells.config, cells.learning
    name = learning.embeddings
    start = Arm(
        seed_path(cells.wild.folder.path, seed) / START,
        f"seed {seed}, ",
        config.selection_of(learning),
        config.training.members,
        rank_by=None if learning.choice is None else learning.choice.column,
        embeddings=None if name == "own" else embeddings_path(cells.wild.folder.path, name),
    )
    known, wild = (at_effort(world, seed, config.labelling.initial) for world in (cells.known, cells.wild))
    labelling.label_initial(known, start)
    labelling.freeze_labels(known, start, 0)
    stages.train(known, start, 0)
    stages.score(wild, start, 0)
    stages.select(wild, start, 0)
    _keep_arms(cells, wild, start)
    tell(f"seed {seed} picks")


def _keep_arms(cells: Picking, wild: World, start: Arm) -> None:
    folder, picks = start.path.parent, start.round(0) / "selection.parquet"
    classes, n = cells.config.experiment.ab.classes, start.selection.n
    work = Work(
        "arms", {"classes": list(classes), "n": n, "seed": wild.config.seed},
        {"al": file_hash(picks), "reference": file_hash(start.initial / "selection.parquet"),
         "wild": file_hash(wild.pool_path), "truth": wild.oracle_digest},
    )  # fmt: skip

    def do() -> None:
        reference, al = (labelling.ids_of(labelling.picks_of(at)) for at in (start.initial, start.round(0)))
        if len(al) < n:
            raise DataError(
                "the short-list holds fewer new images than an arm picks", got=f"{len(al):,}",
                expected=f"selection.n = {n:,}", fix="lower selection.n, or loosen experiment.ab.where",
            )  # fmt: skip
        new = pc.invert(pc.is_in(wild.pool["image_id"], value_set=pa.array(reference, pa.string())))
        stretches = browse(wild.pool.filter(new), _shows(cells), n, wild.seed("manual"))
        manual = [image_id for stretch in stretches for image_id in stretch.image_ids]
        write_json(folder / "manual.json", {"stretches": [_told(stretch) for stretch in stretches]})
        write_json(
            folder / "arms.json",
            {"reference": sorted(reference), "arms": {MANUAL: sorted(manual), AL: sorted(al)}},
        )  # fmt: skip

    wild.folder.stage(folder, work, [folder / "manual.json", folder / "arms.json"], do)


def _shows(cells: Picking) -> Mapping[str, set[str]]:
    boxes = cells.truth.boxes
    return {
        name: set(boxes.filter(pc.equal(boxes["class"], name))["image_id"].to_pylist())
        for name in cells.config.experiment.ab.classes
    }


def _told(stretch: Stretch) -> dict[str, object]:
    ids = list(stretch.image_ids)
    return {"wanted": stretch.wanted, "sequence": stretch.sequence, "image_ids": ids}


def picked_arms(out: Path, seed: int) -> Arms:
    """What was kept of a seed."""
    kept = read_json(seed_path(out, seed) / "arms.json")
    return Arms(kept["reference"], {name: kept["arms"][name] for name in (MANUAL, AL)})
