"""Rooms put together: what the loop and the single commands both need."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from poolscout import __version__
from poolscout.config import DetectorConfig, EngineConfig, RunConfig, TrainingConfig
from poolscout.detector.gives import unet_gives
from poolscout.detector.io import load_member
from poolscout.detector.member import Member
from poolscout.engine.journal import JournalProgress, journal
from poolscout.engine.progress import Progress, Task
from poolscout.errors import ConfigError, DataError, some
from poolscout.evaluation.size_weighted import area_ranges
from poolscout.labels import Labels
from poolscout.pool import FittedImage, ImageReader, RejectedImage, Storage, Uris
from poolscout.scoring import check_scoring
from poolscout.selection import check_sampler
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import Work, file_hash, fingerprint
from poolscout.training import Progress as TrainingProgress
from poolscout.training import TrainingSet, build_training_set
from poolscout.training.start import check_start

PACKAGES = ("torch", "torchvision", "numpy", "pyarrow", "pillow", "faster-coco-eval")


def versions() -> dict[str, str]:
    """Versions of what computes a run; `absent` for a package that is not installed."""
    found = {"poolscout": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def resolve_device(name: str, engine: EngineConfig | None = None) -> str:
    """`auto` to cuda when there is one, else cpu; cpu too where the engine's workers hold no GPU.

    Raises:
        ConfigError: a device this machine or this torch does not have.
    """
    if name == "auto":
        is_shared = engine is not None and engine.shares_no_gpu
        return "cuda" if torch.cuda.is_available() and not is_shared else "cpu"
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError(f"a device of type {torch.device(name).type}")
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used",
            got=str(error).splitlines()[0],
            expected="auto, cpu, cuda or cuda:N",
            fix="poolscout doctor lists what this machine has",
        ) from error
    return name


def check_settings(config: RunConfig) -> None:
    """Refuse what no data can make right: before a folder is made, a pool listed or anything trained.

    Raises:
        ConfigError: a device, scorer, aggregate or sampler that is not there; nothing to begin with; references that
            nobody can label; weights to start from that do not fit.
        CapabilityError: a scorer or sampler that cannot be fed.
    """
    resolve_device(config.device, config.engine)
    check_scoring(config.scoring.scorers, unet_gives(config.detector, config.training.members))
    check_sampler(config.selection.sampler)
    check_sampler(config.labelling.initial_sampler, scored=False)
    if config.labelling.initial == 0 and config.labelling.initial_labels is None:
        raise ConfigError(
            "labelling.initial: the first detectors need labels",
            got="0 initial images and no initial_labels",
            expected="at least 1 image",
            fix="raise labelling.initial, or name annotations in labelling.initial_labels",
        )
    if config.labelling.mode == "files" and (config.references.random or config.references.full):
        raise ConfigError(
            "references need labels that are known already",
            got="labelling.mode: files",
            expected="labelling.mode: oracle",
            fix="switch references.random and references.full off",
        )
    if config.evaluation.size_buckets is not None:
        area_ranges(config.evaluation.size_buckets)
    starting_members(config.training, config.detector)


def seed_for(seed: int, purpose: str) -> int:
    """A seed for one purpose, from the run's seed; different purposes do not share random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")


def image_reader(images: pa.Table, max_pixels: int, storage: Storage | None = None) -> ImageReader:
    """A reader of the images of a pool table; `storage` as the pool's settings say, where they are not all local."""
    return ImageReader(Uris(images), max_pixels, storage)


def logged(
    progress: Progress, folder: Path, command: str, config: RunConfig
) -> AbstractContextManager[JournalProgress]:
    """The log of what is done in `folder`; it says first with which settings and versions."""
    settings = fingerprint(config.model_dump(mode="json"))
    return journal(progress, folder, command, config=settings, versions=versions())


def ensemble_hash(folder: Path) -> str:
    """Hash of the members in a folder, whatever else lies there: a log, curves of the training."""
    return fingerprint({path.name: file_hash(path) for path in sorted(Path(folder).glob("member-*.*"))})


def load_members(folder: Path, device: str | torch.device) -> list[Member]:
    """The ensemble in a folder of member-*.safetensors, in member order.

    Raises:
        DataError: there is none.
        TableError, CorruptPartError: a member cannot be read.
    """
    paths = sorted(Path(folder).glob("member-*.safetensors"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise DataError(
            f"{folder}: no detectors",
            got="no member-*.safetensors",
            expected="the folder an ensemble was trained into",
            fix="run `poolscout train`, or name a round's models folder",
        )
    return [load_member(path.with_suffix(""), device) for path in paths]


def starting_members(training: TrainingConfig, detector: DetectorConfig) -> list[Member]:
    """What trainings begin with, on the CPU; none: from scratch.

    Raises:
        ConfigError: members of another architecture.
        as `load_members`.
    """
    if training.start_from is None:
        return []
    members = load_members(training.start_from, "cpu")
    for i, member in enumerate(members):
        check_start(member, detector, f"{training.start_from}/member-{i}")
    return members


def training_work(config: RunConfig, members: int, classes: Sequence[str], inputs: Mapping[str, str]) -> Work:
    """The stage that trains an ensemble.

    What it starts from counts by its bytes, wherever they lie.
    """
    start = config.training.start_from
    return Work(
        "train",
        {
            "detector": config.detector.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json", exclude={"members", "start_from"}),
            "members": members,
            "classes": list(classes),
            "seed": config.seed,
        },
        dict(inputs) if start is None else {**inputs, "start": ensemble_hash(start)},
    )


def training_set_of(
    labels: Labels,
    classes: Sequence[str],
    pool: pa.Table,
    weights: Mapping[str, int],
    reader: ImageReader,
    detector: DetectorConfig,
    cache: Path | None = None,
) -> tuple[TrainingSet, pa.Table]:
    """Labelled images ready to learn from, and the QUARANTINE rows of those that cannot be read.

    Args:
        labels: images and their boxes.
        classes: the classes to learn; boxes of others are left out.
        pool: gives each image its sequence.
        weights: image_id → how often it is drawn, for images that count more than once.
        reader: reads and decodes one image.
        detector: gives the input size.
        cache: where the pixels are memory-mapped when they would fill more than a quarter of the memory.

    Raises:
        DataError: no usable image, or not one box of any class on them.
    """
    image_ids = labels.labelled["image_id"].to_pylist()
    theirs = pool.filter(pc.is_in(pool["image_id"], labels.labelled["image_id"].combine_chunks()))
    sequences = dict(zip(theirs["image_id"].to_pylist(), theirs["sequence"].to_pylist(), strict=True))
    rejected: dict[str, RejectedImage] = {}

    def read(image_id: str) -> FittedImage | None:
        try:
            return reader.read_fitted(image_id, detector.height, detector.width)
        except RejectedImage as error:
            rejected[image_id] = error
            return None

    n_bytes = len(image_ids) * 3 * detector.height * detector.width
    training_set = build_training_set(
        image_ids,
        [float(weights.get(image_id, 1)) for image_id in image_ids],
        labels.by_image(classes),
        [sequences.get(image_id) for image_id in image_ids],
        read,
        detector.height,
        detector.width,
        cache_path=cache if n_bytes > _memory_bytes() / 4 else None,
    )
    if not any(len(numbers) for numbers in training_set.classes):
        raise DataError(
            "the labelled images show no object: there is nothing to learn",
            got=f"{len(training_set)} labelled images, 0 boxes of {some(classes)}",
            expected="at least one box",
            fix="label more images (labelling.initial), or check that the labels name these classes",
        )
    rows = [
        {"image_id": name, "uri": reader.uris[name], "stage": "training", "reason": why.reason, "detail": why.detail}
        for name, why in sorted(rejected.items())
    ]
    return training_set, QUARANTINE.from_rows(rows)


def training_progress(
    task: Task, members: int, also: Callable[[int, TrainingProgress], None]
) -> Callable[[int, TrainingProgress], None]:
    """Turns a training's reports into the steps of one bar over all members; `also` is told each of them too."""

    steps: dict[int, int] = {}  # members may be trained at the same time

    def update(member: int, state: TrainingProgress) -> None:
        steps[member] = state.step
        started = sum(steps.values()) + state.steps * (min(steps) if steps else 0)  # those before it were finished
        task.update(started, f"member {member + 1} of {members}, loss {state.loss:.3f}")
        also(member, state)

    return update


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
