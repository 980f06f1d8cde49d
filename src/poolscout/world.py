"""What a run works on: its pool, its labels' source, its test set; checked once, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml

from poolscout.assemble import image_reader, resolve_device, seed_for, versions
from poolscout.config import PoolConfig, RunConfig, SelectionConfig
from poolscout.detector.gives import unet_gives
from poolscout.engine.progress import Progress
from poolscout.errors import ConfigError, CorruptPartError, DataError, OtherRunError, nearest, some
from poolscout.evaluation.size_weighted import area_ranges
from poolscout.formats.coco import CocoFile, read_coco
from poolscout.labels import LabelStore, Oracle, sizes_of
from poolscout.pool import ImageReader, image_files, list_pool
from poolscout.scoring import check_scoring
from poolscout.selection import check_constraints, check_sampler
from poolscout.selection.over_classes import class_weights
from poolscout.tables.atomic import write_json, write_text
from poolscout.tables.declared import POOL, QUARANTINE
from poolscout.tables.manifest import Work, file_hash, fingerprint
from poolscout.tables.parquet import part_path, read_table, write_table
from poolscout.tables.runfolder import RunFolder


@dataclass(frozen=True)
class TestSet:
    """Images with known labels that no stage learns from."""

    __test__ = False  # pytest: not a test case

    images: pa.Table
    truth: CocoFile
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
    oracle_digest: str  # of the file the oracle answers from; empty without one

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
        stored = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
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


def open_world(folder: RunFolder, config: RunConfig, progress: Progress) -> World:
    """List the pool, open the oracle and the test set, and check that they and the config fit together.

    Raises:
        ConfigError, DataError: an empty pool, a budget beyond it, an unknown class, a test image that is in the pool.
    """
    pool = _listed(folder, folder.path, "pool", config.pool, progress)
    oracle, oracle_digest = None, ""
    if config.labelling.mode == "oracle":
        annotations = config.labelling.annotations or config.pool.source
        oracle = Oracle(
            annotations,
            config.labelling.classes,
            bad_boxes=config.labelling.bad_boxes,
            sizes=sizes_of(pool),
        )
        oracle_digest = file_hash(annotations)
        for note in oracle.notes:
            progress.say(f"labels: {note}")
    world = World(
        config=config,
        folder=folder,
        progress=progress,
        pool=pool,
        reader=image_reader(pool, config.pool.max_pixels),
        classes=_classes(config, oracle),
        oracle=oracle,
        test=_test_set(folder, config, progress),
        device=torch.device(resolve_device(config.device)),
        oracle_digest=oracle_digest,
    )
    _check_fit(world)
    return world


def _listed(folder: RunFolder, at: Path, name: str, config: PoolConfig, progress: Progress) -> pa.Table:
    if not config.source.exists():
        raise DataError(
            f"{name}.source: {config.source} is not there",
            got="no such file or folder",
            expected="a COCO json, a Parquet manifest or a folder of images",
            fix="check the path; relative ones start at the config file's folder",
        )

    def do() -> None:
        progress.say(f"listing {config.source}")
        listing = list_pool(config)
        write_table(part_path(at / name / "images", 0), POOL, listing.pool)
        write_table(at / name / "quarantine.parquet", QUARANTINE, listing.quarantine)

    source = config.source
    digest = file_hash(source) if source.is_file() else fingerprint(_names_and_sizes(source))
    work = Work("list", config.model_dump(mode="json"), {"source": digest})
    folder.stage(at / name, work, [at / name / "images", at / name / "quarantine.parquet"], do)
    rejected = read_table(at / name / "quarantine.parquet", QUARANTINE).num_rows
    if rejected:
        progress.say(f"{name}: {rejected} images in quarantine (see {at / name / 'quarantine.parquet'})")
    return read_table(at / name / "images", POOL)


def _names_and_sizes(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in image_files(folder))


def _classes(config: RunConfig, oracle: Oracle | None) -> tuple[str, ...]:
    if oracle is not None:
        return oracle.classes
    if config.labelling.classes:
        return config.labelling.classes
    if config.labelling.initial_labels:
        return read_coco(config.labelling.initial_labels, bad_boxes=config.labelling.bad_boxes).classes
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
        source=annotations, format="coco", images=config.evaluation.images, max_pixels=config.pool.max_pixels
    )
    images = _listed(folder, folder.path, "test", source, progress)
    truth = read_coco(annotations, bad_boxes=config.labelling.bad_boxes, sizes=sizes_of(images))
    for note in truth.notes:
        progress.say(f"test: {note}")
    return TestSet(images, truth, image_reader(images, config.pool.max_pixels), file_hash(annotations))


def _check_fit(world: World) -> None:
    check_scoring(world.config.scoring.scorers, unet_gives(world.config.detector, world.config.training.members))
    check_sampler(world.config.selection.sampler)
    class_weights(world.config.selection, world.classes)
    check_constraints(world.config.selection, world.classes, world.pool)
    check_sampler(world.config.labelling.initial_sampler, scored=False)
    _check_budget(world)
    if world.oracle is None and (world.config.references.random or world.config.references.full):
        raise ConfigError(
            "references need labels that are known already",
            got="labelling.mode: files",
            expected="labelling.mode: oracle",
            fix="switch references.random and references.full off",
        )
    if world.oracle is not None:
        unknown = sorted(set(world.pool["image_id"].to_pylist()) - set(world.oracle.image_ids))
        if unknown:
            raise DataError(
                f"{len(unknown)} images of the pool are unknown to the oracle",
                got=some(unknown),
                expected="every image of the pool in labelling.annotations",
                fix="use the annotations of this pool, or labelling.mode: files",
            )
    if world.test is not None:
        _check_test_set(world, world.test)
    if world.config.evaluation.size_buckets is not None:
        area_ranges(world.config.evaluation.size_buckets)


def _check_budget(world: World) -> None:
    config, n_pool = world.config, world.pool.num_rows
    n_initial = config.labelling.initial
    if (file := config.labelling.initial_labels) is not None:
        known = {image.image_id for image in read_coco(file, bad_boxes=config.labelling.bad_boxes).images}
        n_initial = len(known & set(world.pool["image_id"].to_pylist()))
    if config.labelling.initial == 0 and config.labelling.initial_labels is None:
        raise ConfigError(
            "labelling.initial: the first detectors need labels",
            got="0 initial images and no initial_labels",
            expected="at least 1 image",
            fix="raise labelling.initial, or name a COCO file in labelling.initial_labels",
        )
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
    shared = sorted(set(test.images["uri"].to_pylist()) & set(world.pool["uri"].to_pylist()))
    if shared:
        raise DataError(
            f"{len(shared)} images are in the pool and in the test set",
            got=some(shared),
            expected="test images that no stage can learn from",
            fix="take them out of one of the two",
        )
    if not set(test.truth.boxes["class"].to_pylist()) & set(world.classes):
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
