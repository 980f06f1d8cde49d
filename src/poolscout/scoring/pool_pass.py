"""The streaming pass: decode once, every member, reduce, write a shard, forget it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch

from poolscout.config import ScoringConfig
from poolscout.detector.member import Member
from poolscout.detector.sharded import (
    Listener,
    Look,
    Pass,
    Shards,
    one_thread,
    pass_over,
    restored_threads,
    shard_digests,
)
from poolscout.detector.stream import ImageBatch, read_batch
from poolscout.engine import Executor, ThreadExecutor
from poolscout.errors import ConfigError, DataError, some
from poolscout.pool import ImageReader, QuarantineLimit
from poolscout.scoring.api import gives_of
from poolscout.scoring.glance import Glance, as_configured, look
from poolscout.scoring.plan import Plan
from poolscout.scoring.shards import ORDER, shard_tables
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import fingerprint
from poolscout.tables.parquet import iter_parts
from poolscout.tables.shardfolder import ShardFolder


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
    executor: Executor | None = None,
    limit: QuarantineLimit | None = None,
    progress: Listener | None = None,
    say: Callable[[str], object] | None = None,
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
        executor: who does it; default: a thread for each core. The numbers do not depend on it.
        limit: how many images may be rejected.
        progress: called with (images done, images in all) after each batch.
        say: told which finished parts are damaged, and therefore made again.

    Raises:
        ConfigError: an unknown scorer or aggregate; no member, or members that disagree on the classes.
        CapabilityError: a scorer needs more than the ensemble gives.
        DataError: no rows, or more images are rejected than may be.
        WorkerLostError: workers die again and again.
        NonFiniteError: a detector gave NaN or infinity; names the images.
        StorageError: the disk is full or refuses.
    """
    plan = Plan(config.scorers)
    _check(rows, members, plan)
    members = as_configured(members, config)
    digests = shard_digests(rows["image_id"], reader, config.shard_size)
    folder = ShardFolder(out, _made_from(members, config, height, width), ORDER, shards=digests)
    shards = Shards(rows["image_id"], folder, config.batch_size, config.shard_size)
    columns = [choice.column for choice in config.scorers]
    tables = partial(shard_tables, columns=columns, classes=members[0].classes, provenance=gives_of(members).provenance)
    work = Pass(partial(open_ensemble, members, config, height, width, stage), reader, tables, limit)
    n_kept = pass_over(shards, work, executor=executor, progress=progress, say=say)
    n_rejected = sum(part.num_rows for part in iter_parts(Path(out) / "quarantine", QUARANTINE))
    return ScoringSummary(rows.num_rows - n_rejected, n_rejected, n_kept)


def open_ensemble(
    members: Sequence[Member], config: ScoringConfig, height: int, width: int, stage: str, device: str | None = None
) -> Look[Glance]:
    """How a batch is looked at, in the process that is going to do it.

    Args:
        device: where the members are to be; None = where they are.
    """
    members = [member if device is None else member.on(device) for member in members]
    if config.compile:
        members = _compiled(members, (config.batch_size, 3, height, width))
    plan = Plan(config.scorers)

    def read(ids: Sequence[str], reader: ImageReader) -> ImageBatch:
        return read_batch(ids, reader, height, width, stage)

    def see(batch: ImageBatch, pixels: torch.Tensor) -> Glance:
        return look(members, batch, pixels, plan, config)

    return Look(read, see, members[0].device)


def _compiled(members: Sequence[Member], shape: tuple[int, int, int, int]) -> list[Member]:
    """The members compiled as they will run: with one thread inside each operation on a CPU."""
    begin = one_thread if members[0].device.type == "cpu" else None
    with restored_threads():
        return list(ThreadExecutor(1, begin).map(lambda member: member.compiled(shape), members))


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


def _made_from(members: Sequence[Member], config: ScoringConfig, height: int, width: int) -> str:
    """Digest of all that every shard's numbers depend on."""
    return fingerprint(
        {
            "config": config.model_dump(mode="json"),
            "members": [_member_hash(member) for member in members],
            "input": [height, width],
        }
    )


def _member_hash(member: Member) -> str:
    weights = hashlib.sha256(member.card.model_dump_json().encode())
    for value in member.model.state_dict().values():
        weights.update(value.cpu().contiguous().numpy().tobytes())
    return weights.hexdigest()
