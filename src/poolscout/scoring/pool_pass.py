"""The streaming pass: decode once, every member, reduce, write a shard, forget it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
    Rejected,
    Shards,
    Tables,
    one_thread,
    pass_over,
    restored_threads,
)
from poolscout.detector.stream import ImageBatch, read_batch
from poolscout.engine import ThreadExecutor
from poolscout.errors import ConfigError, DataError, some
from poolscout.pool import ImageReader, file_state
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
    folder = ShardFolder(out, _made_from(rows, reader, members, config, height, width), ORDER)
    shards = Shards(rows["image_id"], folder, config.batch_size, config.shard_size)
    if config.compile and shards.todo():
        members = _compiled(members, (config.batch_size, 3, height, width))
    columns, classes = [choice.column for choice in config.scorers], members[0].classes
    provenance = gives_of(members).provenance

    def see(batch: ImageBatch, pixels: torch.Tensor) -> Glance:
        return look(members, batch, pixels, plan, config)

    def tables(glances: list[Glance], rejected: Rejected) -> Tables:
        return shard_tables(glances, rejected, columns, classes, provenance)

    read = partial(read_batch, reader=reader, height=height, width=width, stage=stage)
    n_kept = pass_over(shards, Look(read, see, tables, members[0].device), workers=workers, progress=progress)
    n_rejected = sum(part.num_rows for part in iter_parts(Path(out) / "quarantine", QUARANTINE))
    return ScoringSummary(rows.num_rows - n_rejected, n_rejected, n_kept)


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
