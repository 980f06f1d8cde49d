"""One run from top to bottom: train, evaluate, score, select, label, and again.

Every line below is a stage that reads tables, writes tables and is skipped when it is finished already, so a run
that was killed goes on where it stopped. The stages themselves are in `stages.py` and
`labelling.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poolscout import labelling, stages
from poolscout.assemble import check_settings, logged
from poolscout.config import RunConfig
from poolscout.engine import open_executor
from poolscout.engine.progress import Progress, SilentProgress
from poolscout.report import write_report
from poolscout.tables.runfolder import RunFolder
from poolscout.world import Arm, World, claim, open_world, write_config


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the report, and the folder that waits to be labelled (None when all rounds are done)."""

    report: Path
    waiting_for: Path | None


def run(config: RunConfig, out: Path, *, progress: Progress | None = None, redo_stale: bool = False) -> Outcome:
    """Run the whole loop into the folder `out`, or continue what is there.

    Raises:
        PoolscoutError: bad input, a folder that holds another run, a stage made with other settings, a full disk.
    """
    check_settings(config)
    progress = progress or SilentProgress()
    folder = RunFolder(out, redo_stale=redo_stale, say=progress.say)
    with folder.lock():
        claim(folder, config)
        with logged(progress, folder.path, "run", config) as log, open_executor(config.engine) as executor:
            folder.say = log.say
            world = open_world(folder, config, log, executor)
            arm = stages.main_arm(world)
            waiting_for = play(world, arm)
            if waiting_for is None:
                references(world)
            else:
                log.outcome["waiting_for"] = str(waiting_for)
            write_config(folder, config)
            return Outcome(write_report(folder.path), waiting_for)


def play(world: World, arm: Arm) -> Path | None:
    """All rounds of one arm; returns the folder that waits for labels, or None when all is done."""
    rounds = world.config.rounds
    if waiting_for := labelling.label_initial(world, arm):
        return waiting_for
    for number in range(rounds + 1):
        labelling.freeze_labels(world, arm, number)
        stages.train(world, arm, number)
        stages.evaluate(world, arm, number)
        if number < rounds:
            stages.score(world, arm, number)
            stages.select(world, arm, number)
            if waiting_for := labelling.label(world, arm, number):
                return waiting_for
    return None


def references(world: World) -> None:
    """What the run is compared with: random picks from the same start, and the labels of the whole pool."""
    if world.config.references.random:
        # Its round 0 has the labels and the members of the run's own round 0: only what follows is trained.
        arm = stages.random_arm(world)
        labelling.label_initial(world, arm)
        labelling.freeze_labels(world, arm, 0)
        for number in range(world.config.rounds):
            stages.select(world, arm, number)
            labelling.label(world, arm, number)
            labelling.freeze_labels(world, arm, number + 1)
            stages.train(world, arm, number + 1)
            stages.evaluate(world, arm, number + 1)
    if world.config.references.full:
        arm = stages.full_arm(world)
        labelling.label_everything(world, arm)
        labelling.freeze_labels(world, arm, 0)
        stages.train(world, arm, 0)
        stages.evaluate(world, arm, 0)
