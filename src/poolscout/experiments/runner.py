"""An experiment from top to bottom: split, guards, a start for each seed, every strategy from it, figures, page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from poolscout.assemble import logged, resolve_device
from poolscout.config import ScorerChoice
from poolscout.config_experiment import ExperimentRunConfig, StrategyConfig, load_experiment
from poolscout.embedding import embed_pool, load_backbone, pretrained_weights
from poolscout.engine import Executor, open_executor
from poolscout.engine.progress import Progress, SilentProgress
from poolscout.errors import ConfigError, OtherRunError, nearest, some
from poolscout.experiments.cells import FULL, embedding_pass_path, open_cells, open_experiment, play, play_start
from poolscout.experiments.comparison import Findings, compare
from poolscout.experiments.look_alikes import check_look_alikes
from poolscout.experiments.page import write_page
from poolscout.experiments.play import play_through
from poolscout.experiments.presets import EXPERIMENTS, ONE_ROUND, check_kind
from poolscout.experiments.results import Point, check_effort, gather, write_results
from poolscout.experiments.sentences import Told
from poolscout.experiments.split import check_sequences, unseen_sequences
from poolscout.scoring import check_scoring
from poolscout.selection import check_constraints, check_sampler, needs_scores
from poolscout.tables.atomic import write_json
from poolscout.tables.declared import EMBEDDINGS
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.runfolder import RunFolder, read_json
from poolscout.world import World, claim, write_config

KIND_FILE = "experiment.json"


@dataclass(frozen=True)
class Outcome:
    """An experiment that is done: its figures, what they say, also in sentences and on a page, and where they lie."""

    points: list[Point]
    findings: Findings
    told: Told
    page: Path
    path: Path


def run_experiment(
    kind: str, config: ExperimentRunConfig, out: Path, *, progress: Progress | None = None, redo_stale: bool = False
) -> Outcome:
    """Run all cells of an experiment into `out`, or those that are missing there; then compare.

    Args:
        kind: one of EXPERIMENTS: the strategies, unless `config.experiment.strategies` names others.
        config: of the runs, and of the experiment.

    Raises:
        ConfigError: no such experiment, scorer, sampler or baseline.
        DataError: images on both sides of the split; cells of unequal effort.
        RunError: the folder holds another experiment.
    """
    progress = progress or SilentProgress()
    check_draws(config)
    config, strategies = settled(kind, config)
    folder = RunFolder(out, redo_stale=redo_stale, say=progress.say)
    with folder.lock():
        claim(folder, config)
        title = f"experiment {kind}"
        with logged(progress, folder.path, title, config) as log, open_executor(config.engine) as workers:
            folder.say = log.say
            world = open_experiment(config, folder.path, folder)
            check_strategies(config, strategies, world)
            check_split(folder, world, config)
            embed(folder, world, config, log, workers)
            _note(folder, kind, config)
            play_all(config, strategies, folder.path, log, workers)
            write_config(folder, config)
            return conclude(kind, config, strategies, folder.path)


def _note(folder: RunFolder, kind: str, config: ExperimentRunConfig) -> None:
    """Say in the folder what it holds before the first cell: a report can be had of what is finished.

    Raises:
        OtherRunError: it holds another experiment.
    """
    path = folder.path / KIND_FILE
    if (folder.path / "seeds").exists() and path.exists():
        if (theirs := read_json(path)["kind"]) != kind:
            raise OtherRunError(
                f"{folder.path}: this folder holds another experiment", got=theirs, expected=kind,
                fix="choose another --out",
            )  # fmt: skip
        return
    write_config(folder, config)
    write_json(path, {"kind": kind})


def settled(kind: str, config: ExperimentRunConfig) -> tuple[ExperimentRunConfig, dict[str, StrategyConfig]]:
    """The config with what the experiment fixes, and its strategies by name, which it holds too: the saved config is
    the experiment's, whatever a later release compares by default."""
    check_kind(kind)
    if kind in ONE_ROUND:
        config = config.model_copy(update={"rounds": 1})
    strategies = config.experiment.strategies or EXPERIMENTS[kind](config)
    missing = [name for name in config.experiment.baselines if name not in strategies]
    if missing:
        raise ConfigError(
            f"experiment.baselines: no such strategy: {some(missing)}", got=some(missing),
            expected=some(strategies, 20), fix=nearest(missing[0], strategies) or "name a strategy",
        )  # fmt: skip
    # What no strategy ranks by is not computed.
    choices = tuple(dict.fromkeys(s.choice for s in strategies.values() if s.choice is not None))
    scoring = config.scoring.model_copy(update={"scorers": choices or (ScorerChoice(scorer="entropy"),)})
    compared = config.experiment.model_copy(update={"strategies": strategies})
    return config.model_copy(update={"scoring": scoring, "experiment": compared}), strategies


def check_draws(config: ExperimentRunConfig) -> None:
    """Refuse first labels that all seeds would share: they are what seeds differ in.

    Raises:
        ConfigError: `labelling.initial_labels` is given.
    """
    if config.labelling.initial_labels is not None:
        raise ConfigError(
            "labelling.initial_labels: each seed of an experiment draws first labels of its own",
            got=str(config.labelling.initial_labels), expected="none: labelling.initial of the known labels are drawn",
            fix="leave it out: --set labelling.initial_labels=null",
        )  # fmt: skip


def check_strategies(config: ExperimentRunConfig, strategies: dict[str, StrategyConfig], world: World) -> None:
    """Refuse, before anything is trained, what no strategy could do.

    Raises:
        ConfigError, CapabilityError, DataError: no such scorer, sampler, class or backbone.
    """
    from poolscout.detector.gives import unet_gives

    gives = unet_gives(config.detector, config.training.members)
    for name, strategy in strategies.items():
        selection = config.selection_of(strategy, name)
        check_sampler(selection.sampler)
        check_constraints(selection, world.classes, world.pool)
        if strategy.choice is not None:
            check_scoring((strategy.choice,), gives)
        elif needs_scores(selection) and not strategy.knows_labels:
            who = selection.sampler if selection.constraints.prefilter is None else "constraints.prefilter"
            raise ConfigError(
                f"strategy {name}: {who} looks at scores, and none is named", got="no scorer",
                expected="a scorer, or a sampler without prefilter that looks at none",
                fix="add to it scorer: mutual_information; or "
                + ("leave its prefilter out" if who != selection.sampler else "selection: {sampler: random}"),
            )  # fmt: skip
        if strategy.embeddings != "own" and strategy.embeddings not in config.experiment.embeddings:
            raise ConfigError(
                f"strategy {name}: no embeddings called {strategy.embeddings!r}", got=strategy.embeddings,
                expected=some(["own", *config.experiment.embeddings]),
                fix="add them to experiment.embeddings, e.g. {dino: dinov2_vits14}",
            )  # fmt: skip


def check_split(folder: RunFolder, world: World, config: ExperimentRunConfig) -> None:
    """Refuse images to measure on that are, or look like, images to learn from; looked at once.

    Raises:
        DataError: names the images.
    """
    test = world.test
    if test is None:
        raise ConfigError(
            "an experiment measures on test images", got="neither evaluation.annotations nor experiment.validation",
            expected="one of them",
            fix="set experiment.validation to 0.25 to hold out a quarter of the pool's images, whole sequences",
        )  # fmt: skip
    work = Work(
        "guard", {"near_duplicates": config.experiment.near_duplicates, "sequence": config.pool.sequence},
        {"pool": file_hash(world.pool_path), "test": test.digest},
    )  # fmt: skip

    def do() -> None:
        if not config.experiment.independent_images and (
            unseen := unseen_sequences(world.pool, test.images, config.pool.sequence)
        ):
            folder.say(unseen)
        check_sequences(world.pool, test.images, config.pool.sequence, "pool and test images")
        readers = (world.reader, test.reader)
        check_look_alikes(
            world.pool, test.images, readers, config.experiment.near_duplicates, "pool and test images"
        )  # fmt: skip

    folder.stage(folder.path / "guard", work, [], do)


def embed(folder: RunFolder, world: World, config: ExperimentRunConfig, progress: Progress, executor: Executor) -> None:
    """The pool's embeddings by other backbones, once for all cells."""
    for name, backbone_name in config.experiment.embeddings.items():
        at = embedding_pass_path(folder.path, name)
        weights = pretrained_weights(backbone_name, progress.say)
        backbone = load_backbone(backbone_name, weights, None, None, resolve_device(config.device, config.engine))
        inputs = {"weights": backbone.weights, "pool": file_hash(world.pool_path)}
        work = Work("embed", {"backbone": backbone_name}, inputs)

        def do(at: Path = at, backbone: Any = backbone, name: str = name) -> None:
            with progress.task(f"embedding the pool: {name}", world.pool.num_rows) as task:
                embed_pool(
                    world.pool, world.reader, backbone, at, executor=executor, say=progress.say,
                    progress=lambda done, _: task.update(done),
                )  # fmt: skip

        folder.stage(at, work, [at / EMBEDDINGS.name, at / "quarantine"], do)


def play_all(
    config: ExperimentRunConfig, strategies: dict[str, StrategyConfig], out: Path, progress: Progress,
    executor: Executor,
) -> None:  # fmt: skip
    """All starts, then all cells; each goes on where it was."""
    seeds = range(config.experiment.seeds)
    names = [*([FULL] if config.experiment.full else []), *strategies]
    cells = [(seed, name) for seed in seeds for name in names]
    total = len(seeds) * (len(strategies) * config.rounds + 1 + config.experiment.full)
    opened = partial(open_cells, config, strategies, out, executor.shares_memory)
    title = f"{len(seeds)} seeds × {len(names)} strategies: trainings"
    play_through(executor, progress, title, total, [(play_start, list(seeds)), (play, cells)], opened)


def conclude(kind: str, config: ExperimentRunConfig, strategies: dict[str, StrategyConfig], out: Path) -> Outcome:
    """The figures of what is finished, what they say, and the page that tells it.

    Raises:
        DataError: cells of unequal training effort.
    """
    points = gather(out, config.experiment.seeds, strategies, config.rounds, config.experiment.full)
    check_effort(points)
    write_results(points, out)
    titles = {name: strategy.title or name for name, strategy in strategies.items()}
    asked = config.experiment
    findings = compare(
        points, titles, asked.baselines, config.rounds, asked.targets, ends_only=asked.train_out,
        price=config.selection.price,
    )  # fmt: skip
    page, told = write_page(kind, config, points, findings, out)
    return Outcome(points, findings, told, page, out)


def conclude_again(out: Path) -> Outcome:
    """The same of an experiment's folder, with the settings in it.

    Raises:
        ConfigError: they are not what this release knows.
        DataError: cells of unequal training effort.
    """
    kind = read_json(out / KIND_FILE)["kind"]
    config, strategies = settled(kind, load_experiment(RunFolder(out).config))
    return conclude(kind, config, strategies, out)
