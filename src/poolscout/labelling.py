"""The labelling stages: from the oracle, or from people through files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import SelectionConfig, load_config
from poolscout.engine import SerialExecutor
from poolscout.engine.local import ThreadExecutor
from poolscout.engine.progress import SilentProgress
from poolscout.errors import RunError, some
from poolscout.formats.annotations import annotations_hash
from poolscout.labels import Labels, add_delivery, read_delivery, request_labels
from poolscout.pool import ImageReader, RejectedImage, is_plain_file
from poolscout.pool.storage import frame_place
from poolscout.selection import select_images
from poolscout.tables.atomic import atomic_path, write_json
from poolscout.tables.declared import DETECTIONS, SELECTION
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.parquet import read_table, write_table
from poolscout.tables.runfolder import RunFolder
from poolscout.world import Arm, World, open_world


def label_initial(world: World, arm: Arm) -> Path | None:
    """Bring in the labels the first round starts from; returns the folder that waits for them, if any."""
    labelling = world.config.labelling
    if (file := labelling.initial_labels) is not None:
        deliver(
            world,
            arm,
            0,
            file.name,
            {"labels": annotations_hash(file)},
            lambda: read_delivery(file, world.pool, world.classes, bad_boxes=labelling.bad_boxes),
        )
        return None
    settings = {"n": labelling.initial, "sampler": labelling.initial_sampler, "seed": world.config.seed}
    path = arm.initial / "selection.parquet"

    def do() -> None:
        chosen = SelectionConfig(sampler=labelling.initial_sampler, n=labelling.initial)
        seed = world.seed("initial")
        picks = select_images(world.pool, None, chosen, labelling.initial, seed, labelled=())
        write_table(path, SELECTION, picks)

    work = Work("select", settings, {"pool": file_hash(world.pool_path)})
    world.folder.stage(arm.initial, work, [path], do)
    return _label_picks(world, arm, 0, arm.initial)


def label(world: World, arm: Arm, number: int) -> Path | None:
    """Have the picks of a round labelled; returns the folder that waits for labels, if any."""
    return _label_picks(world, arm, number + 1, arm.round(number))


def label_everything(world: World, arm: Arm) -> None:
    """Reveal the labels of the whole pool."""
    oracle = world.oracle
    assert oracle is not None, "references are refused without an oracle"
    inputs = {"pool": file_hash(world.pool_path)}
    deliver(world, arm, 0, "oracle", inputs, lambda: oracle.reveal(ids_of(world.pool)))


def freeze_labels(world: World, arm: Arm, number: int) -> None:
    """Fix which labels a round trains on and how often each image counts. Later corrections count from the next."""
    folder = arm.round(number)
    before = (arm.round(number - 1) if number else arm.initial) / "selection.parquet"

    def do() -> None:
        version = number + 1 if world.oracle is not None else arm.labels.version
        labels = arm.labels.current(version)
        weights: dict[str, int] = {}
        for earlier in range(number):
            picks = picks_of(arm.round(earlier))
            for image_id in ids_of(picks.filter(picks["labelled_already"])):
                weights[image_id] = weights.get(image_id, 1) + 1
        n_repeats = sum(weights.values()) - len(weights)
        per_class = {name: pc.sum(pc.equal(labels.boxes["class"], name)).as_py() or 0 for name in world.classes}
        write_json(
            folder / "labels.json",
            {
                "version": version,
                "weights": weights,
                "n_images": labels.labelled.num_rows + n_repeats,
                "n_unique": labels.labelled.num_rows,
                "n_boxes": labels.boxes.num_rows,
                "boxes_per_class": per_class,
                "content": arm.labels.digest(version),
            },
        )

    inputs = {"picks": file_hash(before)} if before.exists() else {}
    if world.oracle is not None:
        inputs["labels"] = arm.labels.digest(number + 1)
    elif number == 0 and (file := world.config.labelling.initial_labels) is not None:
        inputs["labels"] = annotations_hash(file)
    work = Work("labels", {"classes": list(world.classes)}, inputs)
    world.folder.stage(folder, work, [folder / "labels.json"], do)


def add_labels(path: Path, file: Path, *, allow_empty: bool = False) -> dict[str, Any]:
    """Check what labelling brought back and add it to the run in `path`.

    Raises:
        RunError: no run in `path`, or its labels come from an oracle.
        DataError, AnnotationError: the file is not right; nothing is stored then.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise RunError(f"{path}: no run here", expected="a folder with run.yaml", fix="check --run")
    with folder.lock():
        world = open_world(folder, load_config(folder.config), SilentProgress(), SerialExecutor())
        if world.oracle is not None:
            raise RunError(
                f"{path}: the labels of this run come from an oracle",
                got="labelling.mode: oracle",
                expected="labelling.mode: files",
                fix="labels are added to runs that people label",
            )
        arm = Arm(path, "", world.config.selection, world.config.training.members)
        receipt = add_delivery(
            arm.labels,
            file,
            world.pool,
            world.classes,
            asked=asked_for(arm, len(folder.rounds())),
            bad_boxes=world.config.labelling.bad_boxes,
            allow_empty=allow_empty,
        )
    return {
        "images": receipt.n_images,
        "boxes": receipt.n_boxes,
        "replaced": receipt.n_replaced,
        "still missing": len(receipt.missing),
        "not asked for": len(receipt.unasked),
        **({"notes": "; ".join(receipt.notes)} if receipt.notes else {}),
    }


def deliver(
    world: World, arm: Arm, delivery: int, source: str, inputs: dict[str, str], labels: Callable[[], Labels]
) -> None:
    """Put labels into the arm's store as delivery number `delivery`, once."""
    store = arm.labels
    settings = {"classes": list(world.classes), "bad_boxes": world.config.labelling.bad_boxes}
    work = Work(f"delivery-{delivery:05d}", settings, {**inputs, "annotations": world.oracle_digest})
    world.folder.stage(
        store.folder, work, store.paths(delivery), lambda: store.add(labels(), source, delivery=delivery)
    )


def asked_for(arm: Arm, rounds: int) -> set[str]:
    """Image ids that the initial selection and the first `rounds` rounds picked."""
    return {i for folder in (arm.initial, *map(arm.round, range(rounds))) for i in ids_of(picks_of(folder))}


def picks_of(folder: Path) -> pa.Table:
    """The selection in a folder; no rows when there is none yet."""
    path = folder / "selection.parquet"
    return read_table(path, SELECTION) if path.exists() else SELECTION.empty()


def ids_of(table: pa.Table) -> list[str]:
    return table["image_id"].to_pylist()


def _label_picks(world: World, arm: Arm, delivery: int, folder: Path) -> Path | None:
    picks, oracle = picks_of(folder), world.oracle
    new = ids_of(picks.filter(pc.invert(picks["labelled_already"])))
    if oracle is not None:
        inputs = {"picks": file_hash(folder / "selection.parquet")}
        deliver(world, arm, delivery, "oracle", inputs, lambda: oracle.reveal(new))
        return None
    back = set(ids_of(arm.labels.current().labelled)) & set(new)
    if len(back) >= world.config.labelling.enough * len(new):
        return None
    boxes = folder / "detections"
    request_labels(
        folder / "to_label",
        world.pool,
        new,
        read_table(boxes, DETECTIONS) if boxes.exists() else None,
        world.classes,
        run=world.folder.path,
        fetch=partial(_fetch, world, (folder / "selection.parquet").stat().st_mtime_ns),
    )
    world.progress.say(f"{len(back)} of {len(new)} picked images have labels")
    return folder / "to_label"


def _fetch(world: World, picked_ns: int, places: Mapping[str, Path]) -> Collection[str]:
    """Write the images that lie at a URL, in a tar or in a video to their places; returns the ids of all these.

    Args:
        picked_ns: what was written after that time is there already.
    """
    uris = {image_id: world.reader.uris[image_id] for image_id in places}
    far = sorted(image_id for image_id, uri in uris.items() if not is_plain_file(uri))
    todo = [image_id for image_id in far if not _is_newer(places[image_id], picked_ns)]
    tasks: dict[str, list[str]] = {}  # the frames of a video are quickest one after the other
    for image_id in todo:
        tasks.setdefault(frame_place(uris[image_id])[0], []).append(image_id)
    if not tasks:
        return far
    copy, done, failed = partial(_copy, world.reader, places), 0, list[str]()
    with world.progress.task("copying images to be labelled", len(todo)) as task:
        for image_ids, unread in ThreadExecutor(min(16, len(tasks))).map(copy, tasks.values()):
            done, failed = done + len(image_ids), failed + unread
            task.update(done)
    if failed:
        world.progress.say(f"{len(failed)} picked images cannot be read now and are not among those: {some(failed)}")
    return far


def _is_newer(path: Path, than_ns: int) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_mtime_ns >= than_ns


def _copy(reader: ImageReader, places: Mapping[str, Path], image_ids: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """(image_ids, those that cannot be read and why); one after the other."""
    failed = []
    for image_id in image_ids:
        try:
            data = reader.read_bytes(image_id)
        except RejectedImage as why:
            failed.append(f"{image_id} ({why.reason}: {why.detail})")
            continue
        with atomic_path(places[image_id]) as temporary:
            temporary.write_bytes(data)
    return image_ids, failed
