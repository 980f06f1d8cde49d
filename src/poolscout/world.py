"""What a run works on: its pool, its labels' source, its test set; checked once, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
import yaml

from poolscout.assemble import check_settings, image_reader, resolve_device, seed_for, versions
from poolscout.config import PoolConfig, RunConfig, SelectionConfig, parse_yaml
from poolscout.engine import Executor
from poolscout.engine.progress import Progress
from poolscout.errors import ConfigError, CorruptPartError, DataError, OtherRunError, nearest, some
from poolscout.formats.annotations import annotation_images, annotations_hash, format_of, read_annotations
from poolscout.formats.content import Annotations
from poolscout.labels import LabelStore, Oracle, sizes_of
from poolscout.pool import ImageReader, Storage
from poolscout.pool.listing_stage import listed_in
from poolscout.pool.shortlist_stage import pool_path, shortlisted
from poolscout.selection import check_constraints
from poolscout.selection.over_classes import class_weights
from poolscout.tables.atomic import write_json, write_text
from poolscout.tables.runfolder import RunFolder


@dataclass(frozen=True)
class TestSet:
    """Images with known labels that no stage learns from."""

    __test__ = False  # pytest: not a test case

    images: pa.Table
    truth: Annotations
    reader: ImageReader
    digest: str


@dataclass(frozen=True)
class World:
    """Everything a stage may look at. Ground truth is reachable through `oracle.reveal` only."""

    config: RunConfig
    folder: RunFolder
    progress: Progress
    pool: pa.Table
    reader: ImageReader
    classes: tuple[str, ...]
    oracle: Oracle | None
    test: TestSet | None
    device: torch.device
    executor: Executor
    oracle_digest: str  # of the file the oracle answers from; empty without one
    pool_path: Path  # where `pool` lies

    def seed(self, purpose: str) -> int:
        """The run's seed for one purpose."""
        return seed_for(self.config.seed, purpose)


@dataclass(frozen=True)
class Arm:
    """One strategy's way through the rounds: the run itself, or a reference it is compared with."""

    path: Path
    title: str
    selection: SelectionConfig
    members: int
    start: Path | None = None  # of the arm whose round 0, trained and scored, is this one's too
    rank_by: str | None = None  # the score to rank by; default: the first one of the scoring
    embeddings: Path | None = None  # of the whole pool by another backbone; default: those of the scoring

    def scored(self, number: int) -> Path:
        """Folder with the scores, embeddings and detections of a round."""
        return self.start / "round-000" if self.start is not None and number == 0 else self.round(number)

    @property
    def labels(self) -> LabelStore:
        return LabelStore(self.path / "labels")

    def round(self, number: int) -> Path:
        return self.path / f"round-{number:03d}"

    @property
    def initial(self) -> Path:
        return self.path / "initial"


def claim(folder: RunFolder, config: RunConfig) -> None:
    """Make `folder` this run's, or check that it is.

    Raises:
        OtherRunError: the folder holds another run, or files that are no run's.
    """
    if folder.config.exists():
        theirs = _stored_config(folder)
        mine = {"name": config.name, "pool.source": str(config.pool.source)}
        stored = {"name": theirs.get("name"), "pool.source": theirs["pool"].get("source")}
        for key in mine:
            # A run that failed before it finished anything, say by a wrong path, may be started with the right one.
            if stored[key] != mine[key] and folder.has_finished_stages():
                raise OtherRunError(
                    f"{folder.path}: this folder holds another run ({key} differs)",
                    got=stored[key],
                    expected=mine[key],
                    fix="choose another --out, or go on with that run's own config",
                )
        if stored == mine:
            return
    else:
        strangers = [p.name for p in folder.path.iterdir() if not p.name.startswith(".")]
        if strangers:
            raise OtherRunError(
                f"{folder.path}: this folder holds files that no run wrote",
                got=some(strangers),
                expected="an empty or new folder, or the folder of this run",
                fix="choose another --out",
            )
    write_config(folder, config)


def _stored_config(folder: RunFolder) -> dict[str, Any]:
    try:
        stored = parse_yaml(folder.config.read_text(encoding="utf-8"), str(folder.config))
    except (ConfigError, UnicodeDecodeError):
        stored = None
    if not isinstance(stored, dict) or not isinstance(stored.get("pool"), dict):
        raise CorruptPartError(
            f"{folder.config}: not a run's config",
            got="something else, or nothing",
            expected="the settings that this run was started with",
            fix="copy the settings you started the run with to this file",
        )
    return stored


def write_config(folder: RunFolder, config: RunConfig) -> None:
    """Store the resolved config and the versions that computed the run."""
    write_text(folder.config, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    write_json(folder.path / "versions.json", versions())


def open_world(folder: RunFolder, config: RunConfig, progress: Progress, executor: Executor) -> World:
    """List the pool, open the oracle and the test set, and check that they and the config fit together.

    Raises:
        ConfigError, DataError: an empty pool, a budget beyond it, an unknown class, a test image that is in the pool.
        ConfigError, CapabilityError: as `check_settings`, before anything is listed.
    """
    check_settings(config)
    listed = listed_in(folder, folder.path / "pool", config.pool, progress).pool
    pool = shortlisted(folder, listed, config.shortlist, progress.say)
    oracle, oracle_digest = None, ""
    if config.labelling.mode == "oracle":
        annotations = Path(config.labelling.annotations or config.pool.source)
        oracle = Oracle(
            annotations,
            config.labelling.classes,
            bad_boxes=config.labelling.bad_boxes,
            sizes=sizes_of(listed),
        )
        oracle_digest = annotations_hash(annotations)
        for note in oracle.notes:
            progress.say(f"labels: {note}")
    world = World(
        config=config,
        folder=folder,
        progress=progress,
        pool=pool,
        reader=image_reader(pool, config.pool.max_pixels, Storage.of(config.pool)),
        classes=_classes(config, oracle, listed),
        oracle=oracle,
        test=_test_set(folder, config, progress),
        device=torch.device(resolve_device(config.device, config.engine)),
        executor=executor,
        oracle_digest=oracle_digest,
        pool_path=pool_path(folder, config.shortlist),
    )
    _check_fit(world)
    return world


def _classes(config: RunConfig, oracle: Oracle | None, pool: pa.Table) -> tuple[str, ...]:
    if oracle is not None:
        return oracle.classes
    if config.labelling.classes:
        return config.labelling.classes
    if config.labelling.initial_labels:
        return read_annotations(
            config.labelling.initial_labels, bad_boxes=config.labelling.bad_boxes, sizes=sizes_of(pool)
        ).classes
    raise ConfigError(
        "labelling.classes: the classes to learn are not known",
        got="mode: files without classes and without initial_labels",
        expected="a list such as [car, person, bicycle]",
        fix="add labelling.classes to the config",
    )


def _test_set(folder: RunFolder, config: RunConfig, progress: Progress) -> TestSet | None:
    annotations = config.evaluation.annotations
    if annotations is None:
        return None
    source = PoolConfig(
        source=annotations,
        format=format_of(annotations),
        images=config.evaluation.images,
        max_pixels=config.pool.max_pixels,
        max_quarantined=config.pool.max_quarantined,
        retries=config.pool.retries,
        storage_options=config.pool.storage_options,
    )
    images = listed_in(folder, folder.path / "test", source, progress).pool
    truth = read_annotations(annotations, bad_boxes=config.labelling.bad_boxes, sizes=sizes_of(images))
    for note in truth.notes:
        progress.say(f"test: {note}")
    reader = image_reader(images, source.max_pixels, Storage.of(source))
    return TestSet(images, truth, reader, annotations_hash(annotations))


def _check_fit(world: World) -> None:
    class_weights(world.config.selection, world.classes)
    check_constraints(world.config.selection, world.classes, world.pool)
    _check_budget(world)
    if world.oracle is not None:
        ids = world.pool["image_id"]
        unknown = ids.filter(pc.invert(pc.is_in(ids, pa.array(world.oracle.image_ids, pa.string())))).to_pylist()
        if unknown:
            raise DataError(
                f"{len(unknown)} images of the pool are unknown to the oracle",
                got=some(unknown),
                expected="every image of the pool in labelling.annotations",
                fix="use the annotations of this pool, or labelling.mode: files",
            )
    if world.test is not None:
        _check_test_set(world, world.test)


def _check_budget(world: World) -> None:
    config, n_pool = world.config, world.pool.num_rows
    n_initial = config.labelling.initial
    if (file := config.labelling.initial_labels) is not None:
        known = pa.array([image.image_id for image in annotation_images(file)], pa.string())
        n_initial = pc.sum(pc.is_in(world.pool["image_id"], known)).as_py()
    # Images that are labelled already may be picked again when scoring runs over all: one round must fit then.
    n_rounds = config.rounds if config.scoring.over == "unlabelled" or config.references.random else 1
    if n_initial + n_rounds * config.selection.n > n_pool:
        raise ConfigError(
            "the budget is larger than the pool",
            got=f"{n_initial} initial images + {n_rounds} × {config.selection.n}, but {n_pool} images in the pool",
            expected=f"at most {n_pool} images in all",
            fix="lower labelling.initial, selection.n or rounds",
        )


def _check_test_set(world: World, test: TestSet) -> None:
    shared = world.pool["uri"].filter(pc.is_in(world.pool["uri"], test.images["uri"])).unique().sort().to_pylist()
    if shared:
        raise DataError(
            f"{len(shared)} images are in the pool and in the test set",
            got=some(shared),
            expected="test images that no stage can learn from",
            fix="take them out of one of the two",
        )
    if not set(test.truth.boxes["class"].unique().to_pylist()) & set(world.classes):
        raise DataError(
            "evaluation.annotations: not one box of the classes to learn",
            got=f"{test.truth.boxes.num_rows} boxes on {test.images.num_rows} images",
            expected=f"boxes of {some(world.classes)}",
            fix="name the right file, or leave evaluation out",
        )
    missing = [name for name in world.classes if name not in test.truth.classes]
    if missing:
        raise ConfigError(
            f"evaluation.annotations: no such class: {some(missing)}",
            got=", ".join(test.truth.classes),
            expected=", ".join(world.classes),
            fix=nearest(missing[0], test.truth.classes) or "name the classes alike in both files",
        )
