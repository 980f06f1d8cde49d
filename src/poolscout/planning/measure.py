"""What this machine takes for a sample: the run's own functions, on few images, with a watch."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.assemble import image_reader, seed_for
from poolscout.config import RunConfig, ScoringConfig
from poolscout.detector.io import member_files, save_member
from poolscout.detector.member import Member
from poolscout.detector.stream import read_batch
from poolscout.engine import ThreadExecutor, available_cores
from poolscout.engine.progress import resident_bytes
from poolscout.evaluation import detect, evaluate
from poolscout.formats.content import Annotations
from poolscout.planning.forecast import Figure
from poolscout.pool import FittedImage, ImageReader, RejectedImage, Storage
from poolscout.scoring import score_pool
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import read_table, write_table
from poolscout.training import Progress, TrainingSet, build_training_set, hold_back
from poolscout.training.member import REPORT_EVERY, train_member

STEPS = 4 * REPORT_EVERY  # of the training that is timed; the first reports are left out as its warming up
PASS_S = 15.0  # a pass over the sample is cut to about this long
_CHUNKS = 10
_LOOK_EVERY_S = 0.02

Boxes = dict[str, tuple[np.ndarray, np.ndarray]]  # image_id → [k, 4] xyxy px, [k] class indices


@dataclass
class Peak:
    """The most memory that was seen."""

    n_bytes: int


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watches this process and its children while the block runs."""
    peak, stop = Peak(resident_bytes()), threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_EVERY_S):
            peak.n_bytes = max(peak.n_bytes, resident_bytes())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


class Stopwatch:
    """Seconds for each unit, from reports of how many are done."""

    def __init__(self) -> None:
        self._seen = [(time.perf_counter(), 0)]

    def __call__(self, done: int, *_: object) -> None:
        self._seen.append((time.perf_counter(), done))

    def figure(self) -> Figure:
        """The mean after the first fifth, which warms up, and its spread over stretches of the rest."""
        last = self._seen[-1][1]
        kept = [(when, done) for when, done in self._seen if done >= last / 5] if len(self._seen) > 3 else self._seen
        marks = [kept[i] for i in sorted({round(x) for x in np.linspace(0, len(kept) - 1, _CHUNKS + 1)})]
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks) if b[1] > a[1]]
        spread = Figure.of([seconds / units for seconds, units in spans])
        mean = (kept[-1][0] - kept[0][0]) / (kept[-1][1] - kept[0][1])
        return Figure(mean, min(spread.low, mean), max(spread.high, mean))


@dataclass(frozen=True)
class Trained:
    """What a short training took, and the member it gave."""

    member: Member
    step_s: Figure
    calibrate_s: Figure
    member_bytes: float
    peak_bytes: int


def time_training(images: pa.Table, boxes: Boxes, classes: Sequence[str], config: RunConfig, scratch: Path) -> Trained:
    """Train one member for a few steps on the images of a sample.

    Args:
        images: POOL rows.
        boxes: what is known of them; an image that is missing counts as one without boxes.
        classes: names in the order of the class indices.
        scratch: where the member's files are written.
    """
    data = _training_set(images, boxes, config)
    training = config.training.model_copy(update={"min_steps": STEPS, "max_steps": STEPS})
    learnt, held = hold_back(data, training.hold_back, fold=0, seed=0)
    told: list[tuple[float, Progress]] = []
    with peak_memory() as peak:
        member = train_member(
            data.subset(learnt), classes, config.detector, training, seed_for(config.seed, "plan"), config.device,
            data.subset(held), lambda state: told.append((time.perf_counter(), state)),
        )  # fmt: skip
        ended = time.perf_counter()
    save_member(scratch / "member-0", member)
    step_s = Figure.of([training.batch_size / state.crops_per_s for _, state in told[1:]])
    calibrate_s = Figure.exactly((ended - told[-1][0]) / len(held) if held else 0.0)
    member_bytes = sum(file.stat().st_size for file in member_files(scratch / "member-0"))
    return Trained(member, step_s, calibrate_s, float(member_bytes), peak.n_bytes - data.images.nbytes)


def _training_set(images: pa.Table, boxes: Boxes, config: RunConfig) -> TrainingSet:
    reader, detector = reader_of(images, config), config.detector

    def read(image_id: str) -> FittedImage | None:
        try:
            return reader.read_fitted(image_id, detector.height, detector.width)
        except RejectedImage:
            return None

    ids = images["image_id"].to_pylist()
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return build_training_set(
        ids, [1.0] * len(ids), {image_id: boxes.get(image_id, none) for image_id in ids},
        images["sequence"].to_pylist(), read, detector.height, detector.width,
    )  # fmt: skip


def time_reading(images: pa.Table, config: RunConfig) -> Figure:
    """Seconds an image from its storage to the detector's input, every core at it."""
    ids, size = images["image_id"].to_pylist(), config.scoring.batch_size
    batches = [ids[start : start + size] for start in range(0, len(ids), size)]
    detector, watch, done = config.detector, Stopwatch(), 0
    read = partial(
        read_batch, reader=reader_of(images, config), height=detector.height, width=detector.width, stage="plan"
    )
    for batch, asked in zip(ThreadExecutor(available_cores()).map(read, batches), batches, strict=True):
        del batch
        done += len(asked)
        watch(done)
    return watch.figure()


@dataclass(frozen=True)
class Scored:
    """What scoring a sample took, and where its tables lie."""

    seconds: Figure
    disk_bytes: Figure
    peak_bytes: int
    folder: Path


def time_scoring(images: pa.Table, member: Member, config: RunConfig, scratch: Path) -> Scored:
    """Score a sample, as much of it as takes some seconds, with an ensemble of copies of a member.

    Bytes on disk are bounded: from no box an image to as many as may be stored, each as large as boxes are on disk.
    """
    members, reader = _copies(member, config.training.members), reader_of(images, config)
    size, batch = config.detector, config.scoring.batch_size

    def score(rows: pa.Table, out: Path, watch: Stopwatch, scoring: ScoringConfig) -> None:
        score_pool(rows, reader, members, scoring, out, height=size.height, width=size.width, progress=watch)

    pilot = images.slice(0, min(images.num_rows, 2 * batch * available_cores()))
    begun = time.perf_counter()
    score(pilot, scratch / "pilot", Stopwatch(), config.scoring.model_copy(update={"min_probability": 1e-9}))
    pilot_s = (time.perf_counter() - begun) / pilot.num_rows
    rows = images.slice(0, max(pilot.num_rows, min(images.num_rows, int(PASS_S / pilot_s))))
    watch = Stopwatch()
    with peak_memory() as peak:
        score(rows, scratch / "scored", watch, config.scoring)
    return Scored(watch.figure(), _disk_bytes(scratch, rows.num_rows, config), peak.n_bytes, scratch / "scored")


def _disk_bytes(scratch: Path, n: int, config: RunConfig) -> Figure:
    kept = sum(_size(scratch / "scored" / name) for name in ("scores", "embeddings", "quarantine")) / n
    n_boxes = read_table(scratch / "pilot" / "detections", DETECTIONS, ["image_id"]).num_rows
    a_box = _size(scratch / "pilot" / "detections") / max(n_boxes, 1)
    found = _size(scratch / "scored" / "detections") / n
    most = max(config.scoring.max_boxes * a_box, found)
    return Figure(kept + found, kept, kept + most)


def _size(folder: Path) -> int:
    return sum(part.stat().st_size for part in folder.glob("part-*.parquet"))


@dataclass(frozen=True)
class Evaluated:
    """What a test image took, for each member."""

    seconds: Figure
    disk_bytes: float


def time_evaluation(
    images: pa.Table, truth: Annotations, member: Member, config: RunConfig, scratch: Path
) -> Evaluated:
    """Find and measure on a sample of the test images, as much of it as takes some seconds."""
    members, reader, size = _copies(member, config.training.members), reader_of(images, config), config.detector
    find = partial(detect, members, reader=reader, height=size.height, width=size.width)
    begun = time.perf_counter()
    find(images.slice(0, min(images.num_rows, 8)))
    n = max(1, min(images.num_rows, int(PASS_S * min(images.num_rows, 8) / (time.perf_counter() - begun))))
    rows, watch = images.slice(0, n), Stopwatch()
    found, _ = find(rows, progress=watch)
    sizes = {row["image_id"]: (row["width"], row["height"]) for row in rows.to_pylist()}
    shown = pc.and_(
        pc.is_in(truth.boxes["image_id"], pa.array(list(sizes))),
        pc.is_in(truth.boxes["class"], pa.array(member.classes)),
    )
    known, measure_s = replace(truth, boxes=truth.boxes.filter(shown)), 0.0
    if known.boxes.num_rows:
        begun = time.perf_counter()
        evaluate(known, found, sizes, member.classes, len(members), config.evaluation.size_buckets)
        measure_s = (time.perf_counter() - begun) / n
    write_table(scratch / "found.parquet", DETECTIONS, found)
    a_member = 1 / len(members)
    seconds = (watch.figure() + Figure.exactly(measure_s)) * a_member
    return Evaluated(seconds, (scratch / "found.parquet").stat().st_size / n * a_member)


def reader_of(images: pa.Table, config: RunConfig) -> ImageReader:
    """A reader of the sample's images."""
    return image_reader(images, config.pool.max_pixels, Storage.of(config.pool))


def _copies(member: Member, n: int) -> list[Member]:
    """As many members with weights of their own: they do not share the processor's cache either."""
    return [Member(copy.deepcopy(member.model), member.card, member.device) for _ in range(n)]
