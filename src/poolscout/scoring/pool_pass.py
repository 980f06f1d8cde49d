"""The streaming pass: decode once, every member, reduce, write a shard, forget it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import torch

from poolscout.config import ScoringConfig
from poolscout.detector.member import Member
from poolscout.detector.stream import ImageBatch, available_cores, on_device, read_batch
from poolscout.engine import ThreadExecutor
from poolscout.errors import ConfigError, DataError, some
from poolscout.pool import ImageReader, file_state
from poolscout.scoring.api import gives_of
from poolscout.scoring.glance import Glance, as_configured, look
from poolscout.scoring.plan import Plan
from poolscout.scoring.shards import ShardFolder, shard_tables
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import fingerprint
from poolscout.tables.parquet import iter_parts

Seen = tuple[Glance | None, list[dict[str, str]]]  # of a batch: None when every image was rejected
Listener = Callable[[int, int], object]


@dataclass(frozen=True)
class ScoringSummary:
    """What a finished pass has on disk, and how much of it was there before.

    Attributes:
        n_scored: images with scores.
        n_rejected: images in the pass's quarantine table.
        n_kept: of both, those in shards that an earlier, interrupted pass had finished.
    """

    n_scored: int
    n_rejected: int
    n_kept: int


def score_pool(
    rows: pa.Table,
    reader: ImageReader,
    members: Sequence[Member],
    config: ScoringConfig,
    out: Path,
    *,
    height: int,
    width: int,
    stage: str = "scoring",
    workers: int | None = None,
    progress: Listener | None = None,
) -> ScoringSummary:
    """Score a pool with an ensemble, writing as it goes; memory does not grow with the pool or the ensemble.

    A shard of `config.shard_size` rows is one part of detections/, embeddings/, quarantine/ and scores/; the last,
    scores, commits it. Finished shards are kept as long as pool, config and weights are the same: then same bytes.

    Args:
        rows: pool table; the order of its rows is kept.
        reader: reads the images of these rows.
        members: the ensemble; the first one gives the embeddings.
        config: scorers, batch and shard sizes, which detections to store.
        out: the folder that gets the four tables.
        height, width: the detectors' input, px.
        stage: what the quarantine table says found a bad image.
        workers: threads; default: one for each core. On a CPU each takes a batch from file to figures by itself, so
            that the numbers do not depend on how many there are.
        progress: called with (images done, images in all) after each batch.

    Raises:
        ConfigError: an unknown scorer or aggregate; no member, or members that disagree on the classes.
        CapabilityError: a scorer needs more than the ensemble gives.
        DataError: no rows.
        NonFiniteError: a detector gave NaN or infinity; names the images.
        StorageError: the disk is full or refuses.
    """
    plan = Plan(config.scorers)
    _check(rows, members, plan)
    members = as_configured(members, config)
    folder = ShardFolder(out, _made_from(rows, reader, members, config, height, width))
    n_shards = -(-rows.num_rows // config.shard_size)
    todo = [shard for shard in range(n_shards) if not folder.is_done(shard)]
    done = n_kept = rows.num_rows - sum(len(ids) for _, ids in _plan(rows, config, todo))
    ids_ahead = (ids for _, ids in _plan(rows, config, todo))
    read = partial(read_batch, reader=reader, height=height, width=width, stage=stage)
    provenance = gives_of(members).provenance
    if config.compile and todo:
        members = _compiled(members, (config.batch_size, 3, height, width))
    seen = _look_at_all(ids_ahead, read, members, plan, config, workers or available_cores())
    with closing(seen), _Writer(folder, config, members[0].classes, provenance) as writer:
        planned = zip(_plan(rows, config, todo), seen, strict=True)
        for shard, group in groupby(planned, key=lambda pair: pair[0][0]):
            glances, rejected = [], []
            for (_, ids), (glance, bad) in group:
                rejected += bad
                if glance is not None:
                    glances.append(glance)
                done += len(ids)
                if progress is not None:
                    progress(done, rows.num_rows)
            writer.submit(shard, glances, rejected)
    n_rejected = sum(part.num_rows for part in iter_parts(Path(out) / "quarantine", QUARANTINE))
    return ScoringSummary(rows.num_rows - n_rejected, n_rejected, n_kept)


def _look_at_all(
    batches: Iterable[Sequence[str]],
    read: Callable[[Sequence[str]], ImageBatch],
    members: Sequence[Member],
    plan: Plan,
    config: ScoringConfig,
    workers: int,
) -> Generator[Seen, None, None]:
    """What the ensemble sees in each batch, in order."""

    def see(batch: ImageBatch, pixels: torch.Tensor) -> Seen:
        return look(members, batch, pixels, plan, config) if batch.image_ids else None, batch.rejected

    def read_and_see(ids: Sequence[str]) -> Seen:
        batch = read(ids)
        return see(batch, batch.pixels)

    device = members[0].device
    if device.type == "cpu":
        # A core takes a batch from file to figures: no core waits for another inside an operation, and decoding
        # fills the gaps.
        with _restored_threads():
            yield from ThreadExecutor(workers, begin=_one_thread).map(read_and_see, batches)
    else:
        for batch, pixels in on_device(ThreadExecutor(workers).map(read, batches), device):
            yield see(batch, pixels)


def _compiled(members: Sequence[Member], shape: tuple[int, int, int, int]) -> list[Member]:
    """The members compiled as they will run: with one thread inside each operation on a CPU."""
    begin = _one_thread if members[0].device.type == "cpu" else None
    with _restored_threads():
        return list(ThreadExecutor(1, begin).map(lambda member: member.compiled(shape), members))


def _one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def _restored_threads() -> Iterator[None]:
    """torch counts threads for the whole process, also when a single thread sets it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _plan(rows: pa.Table, config: ScoringConfig, todo: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """(shard, image ids) of each batch; no batch crosses shards, so that a shard's numbers depend on it alone."""
    for shard in todo:
        ids = rows["image_id"].slice(shard * config.shard_size, config.shard_size).to_pylist()
        for start in range(0, len(ids), config.batch_size):
            yield shard, ids[start : start + config.batch_size]


class _Writer:
    """Writes a shard in the background while the next one is computed; at most one waits."""

    def __init__(self, folder: ShardFolder, config: ScoringConfig, classes: Sequence[str], provenance: str) -> None:
        self._folder, self._classes, self._provenance = folder, classes, provenance
        self._columns = [choice.column for choice in config.scorers]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poolscout-write")
        self._pending: Future[None] | None = None

    def submit(self, shard: int, glances: list[Glance], rejected: list[dict[str, str]]) -> None:
        self._wait()
        self._pending = self._thread.submit(self._write, shard, glances, rejected)

    def _write(self, shard: int, glances: list[Glance], rejected: list[dict[str, str]]) -> None:
        self._folder.write(shard, shard_tables(glances, rejected, self._columns, self._classes, self._provenance))

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()


def _check(rows: pa.Table, members: Sequence[Member], plan: Plan) -> None:
    plan.check(gives_of(members))
    if rows.num_rows == 0:
        raise DataError(
            "there is nothing to score", got="a pool without rows", expected="at least one image",
            fix="add images to the pool, or run fewer rounds",
        )  # fmt: skip
    sizes = {(member.architecture.height, member.architecture.width) for member in members}
    if len(sizes) > 1:
        raise ConfigError(
            "the members were trained for inputs of different size",
            got=some(sorted(sizes)),
            expected="one height and width",
            fix="score with members of one training",
        )
    for number, member in enumerate(members):
        if member.classes != members[0].classes:
            raise ConfigError(
                f"member {number} was trained on other classes than member 0",
                got=", ".join(member.classes),
                expected=", ".join(members[0].classes),
                fix="score with members of one training",
            )


def _made_from(
    rows: pa.Table, reader: ImageReader, members: Sequence[Member], config: ScoringConfig, height: int, width: int
) -> str:
    """Digest of all that the numbers depend on, as far as it can be told without reading the images."""
    images = hashlib.sha256()
    for chunk in rows["image_id"].chunks:
        for image_id in chunk.to_pylist():
            uri = reader.uris.get(image_id, "")
            images.update(f"{image_id}\n{uri}\n{file_state(uri)}\n".encode())
    return fingerprint(
        {
            "config": config.model_dump(mode="json"),
            "images": images.hexdigest(),
            "members": [_member_hash(member) for member in members],
            "input": [height, width],
        }
    )


def _member_hash(member: Member) -> str:
    weights = hashlib.sha256(member.card.model_dump_json().encode())
    for value in member.model.state_dict().values():
        weights.update(value.cpu().contiguous().numpy().tobytes())
    return weights.hexdigest()
