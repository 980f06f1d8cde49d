"""One cell of an experiment: a strategy's rounds from a seed's start. Cells know nothing of each other.

The start of a seed (initial labels, their ensemble, its scores) is made once and shared by the seed's strategies; every
training of a round takes the same number of steps, whatever the strategy. All is done by the stages of a run, so that
a cell that was stopped goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from poolscout import labelling, stages
from poolscout.config import ScorerChoice, ScoringConfig
from poolscout.config_experiment import ExperimentRunConfig, StrategyConfig
from poolscout.engine import SerialExecutor, tell
from poolscout.engine.progress import SilentProgress
from poolscout.experiments.knowing import select_knowing
from poolscout.experiments.split import check_named, held_out
from poolscout.scoring.plan import Plan
from poolscout.selection import needs_boxes, needs_embeddings
from poolscout.tables.declared import EMBEDDINGS
from poolscout.tables.runfolder import RunFolder
from poolscout.training.member import n_steps
from poolscout.world import Arm, World, open_world

START, FULL = "start", "full"


@dataclass(frozen=True)
class Cells:
    """What a worker needs for any cell.

    Attributes:
        strategies: by name.
        embeddings: by name, tables of embeddings of the whole pool.
    """

    world: World
    config: ExperimentRunConfig
    strategies: dict[str, StrategyConfig]
    embeddings: dict[str, Path]


def open_cells(config: ExperimentRunConfig, strategies: dict[str, StrategyConfig], out: Path, alone: bool) -> Cells:
    """What was listed before, opened again.

    Args:
        alone: this process has the machine's cores, or GPU, for itself; else a training keeps to one core.
    """
    if not alone:
        torch.set_num_threads(1)
    world = open_experiment(config, out)
    return Cells(world, config, strategies, {name: embeddings_path(out, name) for name in config.experiment.embeddings})


def open_experiment(config: ExperimentRunConfig, out: Path, folder: RunFolder | None = None) -> World:
    """The world of all cells; its test images are the test set, or those held out from the pool for validation."""
    share = config.experiment.validation
    if share:
        unseen = config.evaluation.model_copy(update={"annotations": None, "images": None})
        config = config.model_copy(update={"evaluation": unseen})
    world = open_world(folder or RunFolder(out), config, SilentProgress(), SerialExecutor())
    if not share:
        return world
    check_named(world.pool, config.experiment.independent_images)
    return held_out(world, share, config.experiment.near_duplicates)


def embeddings_path(out: Path, name: str) -> Path:
    """Table of a backbone's embeddings of the pool."""
    return embedding_pass_path(out, name) / EMBEDDINGS.name


def embedding_pass_path(out: Path, name: str) -> Path:
    """Folder of the pass that makes them."""
    return out / "embeddings" / name


def seed_path(out: Path, seed: int) -> Path:
    """Folder of a seed's cells."""
    return out / "seeds" / f"seed-{seed:03d}"


def play_start(cells: Cells, seed: int) -> None:
    """Initial labels, their ensemble, its figures, and all scores that any strategy ranks by."""
    choices = dict.fromkeys(s.choice for s in cells.strategies.values() if s.choice is not None)
    is_scored = bool(choices) or any(_looks(cells, strategy) for strategy in cells.strategies.values())
    over = "all" if any(strategy.over == "all" for strategy in cells.strategies.values()) else "unlabelled"
    world, arm = _at(cells, seed, 0, tuple(choices), over), _start(cells, seed)
    labelling.label_initial(world, arm)
    labelling.freeze_labels(world, arm, 0)
    stages.train(world, arm, 0)
    stages.evaluate(world, arm, 0)
    if is_scored:
        stages.score(world, arm, 0)
    tell(f"seed {seed} {START}")


def play(cells: Cells, cell: tuple[int, str]) -> None:
    """All rounds of a strategy from the start of its seed; or one training on the whole pool."""
    seed, name = cell
    if name == FULL:
        _play_full(cells, seed)
        return
    strategy, start = cells.strategies[name], _start(cells, seed)
    arm = Arm(
        seed_path(cells.world.folder.path, seed) / name,
        f"{name}, ",
        cells.config.selection_of(strategy),
        cells.config.training.members,
        start=start.path,
        rank_by=None if strategy.choice is None else strategy.choice.column,
        embeddings=cells.embeddings.get(strategy.embeddings),
    )
    choices = () if strategy.choice is None else (strategy.choice,)
    for number in range(cells.config.rounds + 1):
        world = _at(cells, seed, number, choices, strategy.over)
        if number == 0:
            labelling.label_initial(world, arm)
        labelling.freeze_labels(world, arm, number)
        if number > 0:
            stages.train(world, arm, number)
            stages.evaluate(world, arm, number)
            tell(f"seed {seed} {name} round {number}")
        if number < cells.config.rounds:
            if number > 0 and _looks(cells, strategy):
                stages.score(world, arm, number)
            (select_knowing if strategy.knows_labels else stages.select)(world, arm, number)
            labelling.label(world, arm, number)


def _play_full(cells: Cells, seed: int) -> None:
    arm = Arm(
        seed_path(cells.world.folder.path, seed) / FULL, "whole pool, ", cells.config.selection,
        cells.config.training.members,
    )  # fmt: skip
    world = at_effort(cells.world, seed, cells.world.pool.num_rows)
    labelling.label_everything(world, arm)
    labelling.freeze_labels(world, arm, 0)
    stages.train(world, arm, 0)
    stages.evaluate(world, arm, 0)
    tell(f"seed {seed} {FULL}")


def _start(cells: Cells, seed: int) -> Arm:
    path = seed_path(cells.world.folder.path, seed) / START
    return Arm(path, "", cells.config.selection, cells.config.training.members)


def _looks(cells: Cells, strategy: StrategyConfig) -> bool:
    """Whether a strategy needs a pass over the pool."""
    if strategy.scorer is not None:
        return True
    selection = cells.config.selection_of(strategy)
    return needs_boxes(selection) or (strategy.embeddings == "own" and needs_embeddings(selection))


def _at(cells: Cells, seed: int, number: int, choices: tuple[ScorerChoice, ...], over: str) -> World:
    """The world of a round of a seed; it scores what is asked for."""
    config = cells.config
    is_trained_out = config.experiment.train_out and number == config.rounds
    n_labelled = config.labelling.initial + number * config.selection.n
    world = at_effort(cells.world, seed, cells.world.pool.num_rows if is_trained_out else n_labelled)
    asked: dict[str, object] = {"over": over} | ({"scorers": choices} if choices else {})
    # Strategies share the pass of a start, and each ranks by its own score, not by the first.
    if config.scoring.float32 == "auto" and any(Plan((choice,)).is_blurred_by_bf16 for choice in choices):
        asked["float32"] = "on"
    scoring: ScoringConfig = config.scoring.model_copy(update=asked)
    return replace(world, config=world.config.model_copy(update={"scoring": scoring}))


def at_effort(world: World, seed: int, n_images: int) -> World:
    """The world of a seed, in which every training takes the steps of so many images."""
    steps = n_steps(n_images, world.config.training)
    training = world.config.training.model_copy(update={"min_steps": steps, "max_steps": steps})
    config = world.config.model_copy(update={"seed": world.config.seed + seed, "training": training})
    return replace(world, config=config)
