"""The A/B test of the paper's section V: selections beside one reference set, over repeated splits.

The selections are given (`run_ab`), or an expert and active learning pick them anew for each seed (`run_picking_ab`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.assemble import logged, seed_for
from poolscout.config import ScorerChoice, SelectionConfig
from poolscout.config_experiment import ExperimentRunConfig, StrategyConfig
from poolscout.engine import Executor, open_executor
from poolscout.engine.progress import Progress, SilentProgress
from poolscout.errors import ConfigError, DataError, nearest, some
from poolscout.experiments.ab_cells import REFERENCE, AbCells, cost, open_ab, open_ab_world, play_ab, rows_of
from poolscout.experiments.ab_findings import AbFindings, conclude
from poolscout.experiments.ab_page import write_ab_page
from poolscout.experiments.ab_picks import AL, open_picking, picked_arms, picking, play_picks
from poolscout.experiments.arms import Arms, check_new, known_ids, read_arms
from poolscout.experiments.look_alikes import families
from poolscout.experiments.play import play_through
from poolscout.experiments.presets import by_turns
from poolscout.experiments.runner import check_draws, check_strategies, embed
from poolscout.experiments.split import check_named, known_labels
from poolscout.selection import select_images
from poolscout.tables.atomic import write_json
from poolscout.tables.manifest import Work, file_hash, fingerprint
from poolscout.tables.runfolder import RunFolder
from poolscout.world import World, claim, write_config

Draw = Callable[[World, Progress, Executor], tuple[Arms, ...]]


def run_ab(
    config: ExperimentRunConfig, files: Mapping[str, Path], out: Path, *, reference: Path | None = None,
    progress: Progress | None = None, redo_stale: bool = False,
) -> AbFindings:  # fmt: skip
    """Split, train and measure `config.experiment.seeds` times; finished cells are kept.

    Args:
        files: arm → the images it picked.
        reference: images that every model learns from; default: `labelling.initial` random ones of sequences that no
            arm picked from.

    Raises:
        DataError: arms that cannot be compared, or be split without parting images that look alike.
        RunError: the folder holds another test.
    """

    def given(world: World, log: Progress, _: Executor) -> tuple[Arms, ...]:
        arms = read_arms(files, world.pool)
        shared = _reference(world, arms) if reference is None else known_ids(reference, world.pool, "reference set")
        check_new(Arms(shared, arms), log.say)
        at, content = world.folder.path / "arms", {"arms": arms, "reference": shared}
        work = Work("arms", {}, {"arms": fingerprint(content), "pool": file_hash(world.pool_path)})
        world.folder.stage(at, work, [at / "arms.json"], lambda: write_json(at / "arms.json", content))
        return (Arms(shared, arms),) * config.experiment.seeds

    return _run("ab", config, given, 1, out, progress, redo_stale)


def run_picking_ab(
    config: ExperimentRunConfig, out: Path, *, progress: Progress | None = None, redo_stale: bool = False
) -> AbFindings:
    """The same, with picks of a simulated expert and of active learning from one short-list, anew for each seed.

    A seed is: a reference set of `labelling.initial` images, the ensemble that it gives, its scores of the short-list,
    `selection.n` images for either arm, `experiment.ab.splits` splits of them. What is independent are the seeds.

    Raises:
        ConfigError: no wanted class, or one that is not known; a strategy or condition that cannot be carried out.
        DataError: a short-list too short; arms that cannot be split without parting images that look alike.
        RunError: the folder holds another test.
    """
    check_draws(config)
    config, learning = settled(config)
    seeds, splits = range(config.experiment.seeds), config.experiment.ab.splits

    def drawn(world: World, log: Progress, executor: Executor) -> tuple[Arms, ...]:
        _check_wanted(config, world)
        check_strategies(config, {AL: learning}, world)
        embed(world.folder, world, config, log, executor)
        picking(world, config, learning)
        opened = partial(open_picking, config, learning, world.folder.path, executor.shares_memory)
        play_through(executor, log, f"{len(seeds)} seeds: picks", len(seeds), [(play_picks, list(seeds))], opened)
        return tuple(picked_arms(world.folder.path, seed) for seed in seeds for _ in range(splits))

    return _run("experiment ab", config, drawn, splits, out, progress, redo_stale)


def settled(config: ExperimentRunConfig) -> tuple[ExperimentRunConfig, StrategyConfig]:
    """The config with what the experiment fixes, and the strategy that picks as al, which it holds too."""
    if not config.experiment.ab.classes:
        raise ConfigError(
            "experiment.ab.classes: the wanted classes are not named", got="none",
            expected="a list such as [person, bicycle]", fix="add experiment.ab.classes to the config",
        )  # fmt: skip
    learning = config.experiment.ab.learning or by_turns(config)
    scorer = learning.choice or ScorerChoice(scorer="entropy")
    scoring = config.scoring.model_copy(update={"scorers": (scorer,), "over": "unlabelled"})
    compared = config.experiment.ab.model_copy(update={"learning": learning})
    experiment = config.experiment.model_copy(update={"ab": compared})
    return config.model_copy(update={"rounds": 1, "scoring": scoring, "experiment": experiment}), learning


def _check_wanted(config: ExperimentRunConfig, world: World) -> None:
    unknown = [name for name in config.experiment.ab.classes if name not in world.classes]
    if unknown:
        raise ConfigError(
            f"experiment.ab.classes: no such class: {some(unknown)}", got=some(unknown),
            expected=some(world.classes), fix=nearest(unknown[0], world.classes) or "name classes of the labels",
        )  # fmt: skip


def _run(
    command: str, config: ExperimentRunConfig, draw: Draw, splits: int, out: Path, progress: Progress | None,
    redo_stale: bool,
) -> AbFindings:  # fmt: skip
    progress = progress or SilentProgress()
    folder = RunFolder(out, redo_stale=redo_stale, say=progress.say)
    with folder.lock():
        claim(folder, config)
        with logged(progress, folder.path, command, config) as log, open_executor(config.engine) as executor:
            folder.say = log.say
            world = open_ab_world(config, folder.path, folder)
            check_named(world.pool, config.experiment.independent_images)
            cells = AbCells(world, config, draw(world, log, executor), splits, known_labels(world))
            find_families(cells)
            check_splits(cells)
            todo = [(repeat, name) for repeat in range(len(cells.arms)) for name in (REFERENCE, *cells.names)]
            opened = partial(open_ab, config, cells.arms, splits, folder.path, executor.shares_memory)
            title = f"{len(cells.arms)} repeats × {1 + len(cells.names)} trainings"
            play_through(executor, log, title, len(todo), [(play_ab, todo)], opened)
            write_config(folder, config)
            found = conclude(cells)
            write_ab_page(cells, found)
            return found


def _reference(world: World, arms: Mapping[str, list[str]]) -> list[str]:
    picked = pa.array(sorted({image_id for ids in arms.values() for image_id in ids}), pa.string())
    theirs = world.pool.filter(pc.is_in(world.pool["image_id"], value_set=picked))["sequence"].unique().drop_null()
    rest = world.pool.filter(pc.invert(pc.is_in(world.pool["sequence"], value_set=theirs)))
    n = world.config.labelling.initial
    if rest.num_rows < n:
        raise DataError(
            "there are too few images of sequences that no arm picked from", got=f"{rest.num_rows:,}",
            expected=f"labelling.initial = {n:,} for the reference set",
            fix="lower labelling.initial, or give the reference set: --reference FILE",
        )  # fmt: skip
    chosen = SelectionConfig(sampler="random", n=n)
    picks = select_images(rest, None, chosen, n, seed_for(world.config.seed, "reference"), labelled=())
    return sorted(picks["image_id"].to_pylist())


def find_families(cells: AbCells) -> None:
    """The sequences that no repeat may part, as frames of them look alike; repeats of the same picks look once."""
    most, known = cells.config.experiment.near_duplicates, dict[str, dict[str, str]]()
    for repeat, arms in enumerate(cells.arms):
        ids = sorted({*arms.reference, *(image_id for picked in arms.picked.values() for image_id in picked)})
        content = fingerprint(ids)

        def do(repeat: int = repeat, ids: list[str] = ids, content: str = content) -> None:
            if content not in known:
                found = families(rows_of(cells.world.pool, ids), cells.world.reader, most)
                several = {name for name, n in Counter(found.values()).items() if n > 1}
                known[content] = {name: first for name, first in found.items() if first in several}
            write_json(cells.families(repeat), known[content])

        work = Work(
            "families", {"near_duplicates": most}, {"images": content, "pool": file_hash(cells.world.pool_path)}
        )
        cells.world.folder.stage(cells.repeat(repeat), work, [cells.families(repeat)], do)


def check_splits(cells: AbCells) -> None:
    """Try every split before anything is trained on one, and say what is odd about them.

    Raises:
        DataError: one that cannot be made, or leaves nothing of a reference set to learn from, or nothing to find.
    """
    held, say, left = [], cells.world.folder.say, []
    for repeat, arms in enumerate(cells.arms):
        sides = cells.sides(repeat)
        held.append(sides.sequences)
        left.append(len(cells.learnt(repeat, sides, REFERENCE)))
        if arms.reference and not left[-1]:
            raise DataError(
                f"repeat {repeat}: nothing is left of the reference set", expected="images to learn from",
                got=f"{len(arms.reference)} images, all of recordings that are held out, or look like one that is",
                fix="choose another reference set; or, where they are different places after all, lower "
                "experiment.near_duplicates (below 0: no check)",
            )  # fmt: skip
        if not cost(cells, sides.union)["boxes"]:
            raise DataError(
                f"repeat {repeat}: what is held out shows no object of a class that is learnt",
                got=f"{len(sides.union)} images of {some(sorted(sides.sequences))}", expected="one box at least",
                fix=f"hold out more than experiment.ab.held_out = {cells.config.experiment.ab.held_out:g}, or pick "
                "from more recordings",
            )  # fmt: skip
    n = len(cells.arms[0].reference)
    if min(left) < n:
        say(
            f"of {n} images of the reference set {min(left)} to {max(left)} are learnt from: the recordings of the "
            "others, or some that look like them, are held out"
        )
    if cells.same_picks and len(set(held)) == 1:
        say("all repeats hold out the same recordings, as no others are small enough: they differ in weights only")
