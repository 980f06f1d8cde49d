"""The streaming pass: decode once, every member, reduce, write a shard, forget it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from poolscout.config import ScoringConfig
from poolscout.detector.member import Member
from poolscout.detector.stream import stream_batches
from poolscout.errors import ConfigError, DataError, some
from poolscout.pool import ImageReader
from poolscout.scoring.api import check_scoring
from poolscout.scoring.glance import Glance, look
from poolscout.scoring.shards import ShardFolder, shard_tables
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import fingerprint
from poolscout.tables.parquet import iter_parts

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
        workers: decoding threads; default: one for each core.
        progress: called with (images done, images in all) after each batch.

    Raises:
        ConfigError: an unknown scorer or aggregate; no member, or members that disagree on the classes.
        CapabilityError: a scorer needs more than the ensemble gives.
        DataError: no rows.
        NonFiniteError: a detector gave NaN or infinity; names the images.
        StorageError: the disk is full or refuses.
    """
    _check(rows, members, config)
    folder = ShardFolder(out, _made_from(rows, reader, members, config, height, width))
    n_shards = -(-rows.num_rows // config.shard_size)
    todo = [shard for shard in range(n_shards) if not folder.is_done(shard)]
    done = n_kept = rows.num_rows - sum(len(ids) for _, ids in _plan(rows, config, todo))
    ids_ahead = (ids for _, ids in _plan(rows, config, todo))
    batches = stream_batches(ids_ahead, reader, height=height, width=width, stage=stage, workers=workers)
    with closing(batches), _Writer(folder, config, members[0].classes) as writer:
        planned = zip(_plan(rows, config, todo), batches, strict=True)
        for shard, group in groupby(planned, key=lambda pair: pair[0][0]):
            glances, rejected = [], []
            for (_, ids), batch in group:
                rejected += batch.rejected
                if batch.image_ids:
                    glances.append(look(members, batch, config))
                done += len(ids)
                if progress is not None:
                    progress(done, rows.num_rows)
            writer.submit(shard, glances, rejected)
    n_rejected = sum(part.num_rows for part in iter_parts(Path(out) / "quarantine", QUARANTINE))
    return ScoringSummary(rows.num_rows - n_rejected, n_rejected, n_kept)


def _plan(rows: pa.Table, config: ScoringConfig, todo: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """(shard, image ids) of each batch; no batch crosses shards, so that a shard's numbers depend on it alone."""
    for shard in todo:
        ids = rows["image_id"].slice(shard * config.shard_size, config.shard_size).to_pylist()
        for start in range(0, len(ids), config.batch_size):
            yield shard, ids[start : start + config.batch_size]


class _Writer:
    """Writes a shard in the background while the next one is computed; at most one waits."""

    def __init__(self, folder: ShardFolder, config: ScoringConfig, classes: Sequence[str]) -> None:
        self._folder, self._classes = folder, classes
        self._columns = [choice.column for choice in config.scorers]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poolscout-write")
        self._pending: Future[None] | None = None

    def submit(self, shard: int, glances: list[Glance], rejected: list[dict[str, str]]) -> None:
        self._wait()
        self._pending = self._thread.submit(self._write, shard, glances, rejected)

    def _write(self, shard: int, glances: list[Glance], rejected: list[dict[str, str]]) -> None:
        self._folder.write(shard, shard_tables(glances, rejected, self._columns, self._classes))

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()


def _check(rows: pa.Table, members: Sequence[Member], config: ScoringConfig) -> None:
    check_scoring(config.scorers, len(members))
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
            images.update(f"{image_id}\n{reader.uris.get(image_id)}\n".encode())
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
