"""The A/B test: selections of any origin beside one reference set, over repeated splits (the paper's section V)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.assemble import logged, seed_for
from poolscout.config import SelectionConfig
from poolscout.config_experiment import ExperimentRunConfig
from poolscout.engine import Executor, SerialExecutor, open_executor
from poolscout.engine.progress import Progress, SilentProgress
from poolscout.errors import DataError, some
from poolscout.experiments.ab_cells import (
    BOTH,
    REFERENCE,
    AbCells,
    by_arm,
    figures,
    open_ab,
    open_ab_world,
    play_ab,
    without,
)
from poolscout.experiments.arms import read_arms
from poolscout.experiments.look_alikes import check_look_alikes
from poolscout.experiments.statistics import Interval, Paired, corrected, mean_interval, paired, relative_gain
from poolscout.formats.id_lists import read_image_ids
from poolscout.selection import select_images
from poolscout.tables.atomic import write_json
from poolscout.tables.manifest import Work, file_hash, fingerprint
from poolscout.tables.runfolder import RunFolder
from poolscout.world import World, claim, write_config


@dataclass(frozen=True)
class ArmResult:
    """One arm, over all repeats.

    Attributes:
        cost: images, boxes, boxes of each class, minutes, sequences.
        figures, gain: test → figure → the arm's, and its relative gain over the reference model; None where that found
            nothing. Tests are `both` and each arm's own held-out part; figures are wMAP, AP50, AP and `AP50 CLASS`.
    """

    name: str
    cost: dict[str, Any]
    figures: dict[str, dict[str, Interval]]
    gain: dict[str, dict[str, Interval | None]]


@dataclass(frozen=True)
class AbFindings:
    """What an A/B test has come to.

    Attributes:
        reference: test → figure → interval, of the models without any arm.
        differences: (arm, other) → figure → the difference on `both`, p corrected over the arms and classes.
    """

    repeats: int
    reference: dict[str, dict[str, Interval]]
    arms: tuple[ArmResult, ...]
    differences: dict[tuple[str, str], dict[str, Paired]]


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
        DataError: arms that cannot be compared; images that look alike on both sides of a split.
        RunError: the folder holds another test.
    """
    progress = progress or SilentProgress()
    folder = RunFolder(out, redo_stale=redo_stale, say=progress.say)
    with folder.lock():
        claim(folder, config)
        with logged(progress, folder.path, "ab", config) as log, open_executor(config.engine) as executor:
            folder.say = log.say
            world = open_ab_world(config, folder.path, folder)
            arms = read_arms(files, world.pool)
            shared = _reference(world, arms, reference)
            cells = AbCells(world, config, arms, shared)
            _keep(folder, cells)
            _check_splits(folder, cells)
            _play_all(cells, log, executor)
            write_config(folder, config)
            found = conclude(cells)
            write_json(folder.path / "ab.json", _plain(found))
            return found


def _reference(world: World, arms: Mapping[str, Sequence[str]], file: Path | None) -> list[str]:
    picked = pa.array(sorted({image_id for ids in arms.values() for image_id in ids}), pa.string())
    if file is not None:
        ids = read_image_ids(file).unique()
        unknown = ids.filter(pc.invert(pc.is_in(ids, value_set=world.pool["image_id"])))
        if len(unknown):
            raise DataError(
                f"{len(unknown)} images of the reference set are not in the pool", got=some(unknown.to_pylist()),
                expected="image ids of pool.source", fix=f"check {file}",
            )  # fmt: skip
        return sorted(ids.to_pylist())
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


def _keep(folder: RunFolder, cells: AbCells) -> None:
    """The arms and the reference set, in the folder: what is trained follows from them."""
    at = folder.path / "arms"
    content = {"arms": cells.arms, "reference": cells.reference}
    work = Work("arms", {}, {"arms": fingerprint(content), "pool": file_hash(cells.world.pool_path)})
    folder.stage(at, work, [at / "arms.json"], lambda: write_json(at / "arms.json", content))


def _check_splits(folder: RunFolder, cells: AbCells) -> None:
    """No image that a repeat measures on looks like one that it learns from; looked at once."""
    most, repeats = cells.config.experiment.near_duplicates, cells.config.experiment.seeds
    settings = {"near_duplicates": most, "repeats": repeats, "seed": cells.config.seed}
    work = Work("guard", settings, {"arms": file_hash(folder.path / "arms" / "arms.json")})

    def do() -> None:
        for repeat in range(repeats):
            sides = cells.sides(repeat)
            shared = without(cells.world.pool, cells.reference, sides.sequences)
            learnt = sorted({*shared, *(i for ids in sides.learnt.values() for i in ids)})
            tables = [pa.table({"image_id": pa.array(ids, pa.string())}) for ids in (learnt, sides.union)]
            readers = (cells.world.reader, cells.world.reader)
            check_look_alikes(tables[0], tables[1], readers, most, f"repeat {repeat}")

    folder.stage(folder.path / "guard", work, [], do)


def _play_all(cells: AbCells, progress: Progress, executor: Executor) -> None:
    names = [REFERENCE, *cells.arms]
    todo = [(repeat, name) for repeat in range(cells.config.experiment.seeds) for name in names]
    opened = partial(
        open_ab, cells.config, cells.arms, cells.reference, cells.world.folder.path, executor.shares_memory
    )
    worker = SerialExecutor() if executor.shares_memory else executor
    done = 0
    with progress.task(f"{cells.config.experiment.seeds} repeats × {len(names)} trainings", len(todo)) as task:

        def told(message: Any) -> None:
            nonlocal done
            done += 1
            task.update(done, f"repeat {message[0]} {message[1]}")

        for _ in worker.map(play_ab, todo, setup=opened, listener=told):
            pass


def conclude(cells: AbCells) -> AbFindings:
    """The figures of all repeats, and what they say."""
    repeats = range(cells.config.experiment.seeds)
    names = [REFERENCE, *cells.arms]
    found = {name: [figures(cells, repeat, name) for repeat in repeats] for name in names}
    tests = [BOTH, *(arm for arm in cells.arms if all(arm in one for one in found[REFERENCE]))]
    values = {name: {test: _by_figure([one[test] for one in found[name]]) for test in tests} for name in names}
    costs = by_arm(cells)
    base = values[REFERENCE]
    arms = tuple(
        ArmResult(
            name,
            costs[name],
            {test: _means(values[name][test]) for test in tests},
            {test: _gains(values[name][test], base[test]) for test in tests},
        )
        for name in cells.arms
    )
    pairs = [(a, b) for i, a in enumerate(cells.arms) for b in list(cells.arms)[i + 1 :]]
    keys = [key for key in base[BOTH] if all(key in values[name][BOTH] for name in names)]
    flat = corrected({
        f"{a}\n{b}\n{key}": paired(values[a][BOTH][key], values[b][BOTH][key]) for a, b in pairs for key in keys
    })  # fmt: skip
    differences = {(a, b): {key: flat[f"{a}\n{b}\n{key}"] for key in keys} for a, b in pairs}
    return AbFindings(len(repeats), {test: _means(base[test]) for test in tests}, arms, differences)


def _means(values: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    return {key: mean_interval(of) for key, of in values.items()}


def _gains(ours: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]]) -> dict[str, Interval | None]:
    return {key: relative_gain(of, base[key]) for key, of in ours.items() if key in base}


def _by_figure(each: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Figure → its value in each repeat; those that a repeat lacks are left out."""
    flat = [
        {name: one[name] for name in ("wMAP", "AP50", "AP")}
        | {f"AP50 {cls}": values["AP50"] for cls, values in one["per_class"].items()}
        for one in each
    ]
    keys = [key for key in flat[0] if all(one.get(key) is not None for one in flat)]
    return {key: [one[key] for one in flat] for key in keys}


def _plain(found: AbFindings) -> dict[str, Any]:
    differences = {f"{a} − {b}": {k: asdict(v) for k, v in of.items()} for (a, b), of in found.differences.items()}
    return {
        "repeats": found.repeats,
        "reference": {test: {k: asdict(v) for k, v in of.items()} for test, of in found.reference.items()},
        "arms": [asdict(arm) for arm in found.arms],
        "differences": differences,
    }
