"""The computing stages of a round. Each is a function of its config and input tables to its output tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.assemble import (
    load_members,
    starting_members,
    training_progress,
    training_set_of,
    training_work,
)
from poolscout.config import SelectionConfig
from poolscout.errors import some
from poolscout.evaluation import detect
from poolscout.evaluation import evaluate as measure
from poolscout.formats.embeddings import read_embeddings
from poolscout.labelling import asked_for, ids_of
from poolscout.labels import sizes_of
from poolscout.pool import QuarantineLimit
from poolscout.scoring import score_pool
from poolscout.selection import candidate_rows, needs_boxes, needs_embeddings, notes_of, select_images
from poolscout.tables.atomic import write_json
from poolscout.tables.declared import BOX_COUNTS, DETECTIONS, QUARANTINE, SCORES, SELECTION
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.parquet import iter_parts, read_table, write_table
from poolscout.tables.runfolder import read_json
from poolscout.training import train_ensemble
from poolscout.training.member import n_steps
from poolscout.training.metrics import ensemble_metrics, write_round_metrics
from poolscout.world import Arm, TestSet, World


def main_arm(world: World) -> Arm:
    """The run itself."""
    return Arm(world.folder.path, "", world.config.selection, world.config.training.members)


def random_arm(world: World) -> Arm:
    """Random picks of the same number from the same initial labels, with the same seeds."""
    selection = SelectionConfig(sampler="random", n=world.config.selection.n)
    return Arm(world.folder.reference("random"), "random reference, ", selection, world.config.references.members)


def full_arm(world: World) -> Arm:
    """Every label of the pool at once."""
    members = world.config.references.members
    return Arm(world.folder.reference("full"), "full reference, ", world.config.selection, members)


def train(world: World, arm: Arm, number: int) -> None:
    """Train the ensemble anew on the labels of this round; each member is kept as soon as it is done."""
    folder, config, curves = arm.round(number), world.config, _curves(world, arm) / f"round-{number:03d}"
    frozen = read_json(folder / "labels.json")
    work = training_work(config, arm.members, world.classes, {"labels": file_hash(folder / "labels.json")})

    def do() -> None:
        labels, weights, cache = arm.labels.current(frozen["version"]), frozen["weights"], folder / ".pixels"
        data, rejected = training_set_of(
            labels, world.classes, world.pool, weights, world.reader, config.detector, cache
        )
        if rejected.num_rows:
            world.progress.say(f"{rejected.num_rows} labelled images cannot be read and are left out of training")
        if absent := [name for name, count in frozen["boxes_per_class"].items() if count == 0]:
            world.progress.say(f"no labelled example of {some(absent)} yet: the detectors cannot know it")
        steps = arm.members * n_steps(len(data), config.training)
        title = f"{arm.title}round {number}: training on {len(data)} images"
        with world.progress.task(title, steps) as task, ensemble_metrics(curves) as metrics:
            train_ensemble(
                data,
                world.classes,
                config.detector,
                config.training,
                folder / "models",
                members=arm.members,
                # The same for every round and arm: strategies are compared from the same initialisations.
                seed=world.seed("train"),
                device=world.device,
                progress=training_progress(task, arm.members, metrics),
                executor=world.executor,
                start=starting_members(config.training, config.detector),
            )
        write_table(folder / "training_quarantine.parquet", QUARANTINE, rejected)
        cache.unlink(missing_ok=True)

    outputs = [folder / "models", folder / "training_quarantine.parquet"]
    world.folder.stage(folder, work, outputs, do, stale=[curves])


def evaluate(world: World, arm: Arm, number: int) -> None:
    """What the labels cost, and what each member finds on the test set."""
    folder, test = arm.round(number), world.test
    inputs = {"models": file_hash(folder / "models"), "labels": file_hash(folder / "labels.json")}
    outputs = [folder / "metrics.json"]
    if test is not None:
        inputs["test"] = test.digest
        outputs += [folder / "test_detections.parquet", folder / "test_quarantine.parquet"]

    def do() -> None:
        frozen = read_json(folder / "labels.json")
        labelled = arm.labels.current(frozen["version"]).labelled["image_id"]
        from_sequences = world.pool.filter(pc.is_in(world.pool["image_id"], value_set=labelled))["sequence"]
        cost = {
            "images": {"labelled": frozen["n_images"], "unique": frozen["n_unique"]},
            "boxes": frozen["n_boxes"],
            "boxes_per_class": frozen["boxes_per_class"],
            "sequences": pc.count_distinct(from_sequences).as_py(),
        }
        title = f"{arm.title}round {number}: evaluating"
        write_json(folder / "metrics.json", cost | ({} if test is None else _measured(world, test, folder, title)))
        if test is not None:
            rounds = {n: read_json(arm.round(n) / "metrics.json") for n in range(number + 1) if _has_metrics(arm, n)}
            write_round_metrics(_curves(world, arm) / "rounds", {n: _headline(rounds[n]) for n in rounds})

    how = world.config.evaluation
    # Where it does not matter it is no setting: runs of before it do not become stale.
    unset = {"least_boxes"} if how.least_boxes == 1 else None
    settings = {**how.model_dump(mode="json", exclude=unset), "bad_boxes": world.config.labelling.bad_boxes}
    world.folder.stage(folder, Work("evaluate", settings, inputs), outputs, do)


def _curves(world: World, arm: Arm) -> Path:
    """Where an arm's training curves lie: beside the stages, as no stage reads them."""
    return world.folder.path / "metrics" / arm.path.relative_to(world.folder.path)


def _has_metrics(arm: Arm, number: int) -> bool:
    return (arm.round(number) / "metrics.json").exists()


def _headline(metrics: dict[str, Any]) -> dict[str, float | None]:
    return {name: metrics.get("mean", {}).get(name) for name in ("AP50", "AP", "wMAP")}


def _measured(world: World, test: TestSet, folder: Path, title: str) -> dict[str, Any]:
    members, detector = load_members(folder / "models", world.device), world.config.detector
    with world.progress.task(title, test.images.num_rows) as task:
        detections, rejected = detect(
            members, test.images, test.reader, height=detector.height, width=detector.width, progress=task.update
        )
    write_table(folder / "test_detections.parquet", DETECTIONS, detections)
    write_table(folder / "test_quarantine.parquet", QUARANTINE, rejected)
    if rejected.num_rows:
        world.progress.say(f"{rejected.num_rows} test images cannot be read and are left out of the figures")
    bad = set(ids_of(rejected))
    sizes = {image_id: size for image_id, size in sizes_of(test.images).items() if image_id not in bad}
    # Without the images in quarantine: they were never shown to the detectors, so they are not test images.
    how = world.config.evaluation
    return measure(
        test.truth, detections, sizes, world.classes, len(members), how.size_buckets, how.least_boxes
    ).to_json()


def score(world: World, arm: Arm, number: int) -> None:
    """One streaming pass of the ensemble over the pool: scores, embeddings and detections of every image."""
    folder, config = arm.round(number), world.config
    inputs = {
        "models": file_hash(folder / "models"),
        "pool": file_hash(world.pool_path),
        "labels": file_hash(folder / "labels.json"),
    }

    def do() -> None:
        labelled, outstanding = _taken(arm, number)
        rows = _without(world.pool, outstanding | (labelled if config.scoring.over == "unlabelled" else set()))
        with world.progress.task(f"{arm.title}round {number}: scoring", rows.num_rows) as task:
            summary = score_pool(
                rows,
                world.reader,
                load_members(folder / "models", world.device),
                config.scoring,
                folder,
                height=config.detector.height,
                width=config.detector.width,
                executor=world.executor,
                limit=QuarantineLimit(config.pool.max_quarantined, rows.num_rows),
                progress=lambda done, _: task.update(done),
                say=world.progress.say,
            )
        if summary.n_rejected:
            world.progress.say(f"{summary.n_rejected} images in quarantine (see {folder / 'quarantine'})")

    outputs = [folder / name for name in ("scores", "embeddings", "detections", "quarantine")]
    world.folder.stage(folder, Work("score", config.scoring.model_dump(mode="json"), inputs), outputs, do)


def select(world: World, arm: Arm, number: int) -> None:
    """Pick this round's images; a reference arm, which has no scores, picks from what is left of the pool."""
    folder, seen = arm.round(number), arm.scored(number)
    inputs, scored = {"labels": file_hash(folder / "labels.json")}, (seen / "score.manifest.json").exists()
    limits, embeddings = arm.selection.constraints, arm.embeddings or seen / "embeddings"
    looks = needs_embeddings(arm.selection) and (scored or arm.embeddings is not None)
    if scored:
        inputs |= {"scores": file_hash(seen / "scores")}
    if scored or looks:
        inputs |= {"embeddings": file_hash(embeddings)}
    if needs_boxes(arm.selection):
        inputs["detections"] = file_hash(seen / "detections")
    lists = {"exclude": limits.exclude, "include": limits.include}
    inputs |= {name: file_hash(listed) for name, listed in lists.items() if isinstance(listed, Path)}

    def do() -> None:
        labelled, outstanding = _taken(arm, number)
        with world.progress.task(f"{arm.title}round {number}: selecting", arm.selection.n) as task:
            rows = candidate_rows(world.pool, read_table(seen / "scores", SCORES)) if scored else world.pool
            again = scored and world.config.scoring.over == "all"
            picks = select_images(
                _without(rows, outstanding if again else labelled | outstanding),
                read_embeddings(embeddings) if looks else None,
                arm.selection,
                arm.selection.n,
                world.seed(f"select {number}"),
                labelled=labelled,
                rank_by=(arm.rank_by or world.config.scoring.scorers[0].column) if scored else None,
                classes=world.classes,
                detections=iter_parts(seen / "detections", DETECTIONS, BOX_COUNTS) if scored else None,
                pool=world.pool,
                device=str(world.device),
                executor=world.executor,
            )
            task.update(picks.num_rows)
        for note in notes_of(picks):
            world.progress.say(f"{arm.title}round {number}: {note}")
        write_table(folder / "selection.parquet", SELECTION, picks)

    work = Work("select", {**arm.selection.model_dump(mode="json"), "seed": world.config.seed}, inputs)
    world.folder.stage(folder, work, [folder / "selection.parquet"], do)


def _taken(arm: Arm, number: int) -> tuple[set[str], set[str]]:
    """Images with labels in a round, and images that were asked for and have not come back."""
    version = read_json(arm.round(number) / "labels.json")["version"]
    labelled = set(ids_of(arm.labels.current(version).labelled))
    return labelled, asked_for(arm, number) - labelled


def _without(rows: pa.Table, image_ids: set[str]) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["image_id"], pa.array(sorted(image_ids), pa.string()))))
