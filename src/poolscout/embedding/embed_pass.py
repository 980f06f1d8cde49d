"""A pool's embeddings by a pre-trained backbone, written shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from poolscout.detector.sharded import Listener, Look, Pass, Rejected, Shards, Tables, pass_over, shard_digests
from poolscout.detector.stream import ImageBatch, read_batch
from poolscout.embedding.backbones import Backbone
from poolscout.engine import Executor
from poolscout.errors import DataError
from poolscout.pool import ImageReader, QuarantineLimit
from poolscout.tables.declared import EMBEDDINGS, QUARANTINE
from poolscout.tables.manifest import fingerprint
from poolscout.tables.parquet import float_lists, iter_parts
from poolscout.tables.shardfolder import ShardFolder

ORDER = (("quarantine", QUARANTINE), ("embeddings", EMBEDDINGS))
Embedded = tuple[list[str], np.ndarray]  # image ids and their vectors


@dataclass(frozen=True)
class EmbeddingSummary:
    """What a finished pass has on disk, and how much of it was there before.

    Attributes:
        n_embedded: images with an embedding.
        n_rejected: images in the pass's quarantine table.
        n_kept: of both, those in shards that an earlier, interrupted pass had finished.
    """

    n_embedded: int
    n_rejected: int
    n_kept: int


def embed_pool(
    rows: pa.Table,
    reader: ImageReader,
    backbone: Backbone,
    out: Path,
    *,
    batch_size: int = 8,
    shard_size: int = 1000,
    executor: Executor | None = None,
    limit: QuarantineLimit | None = None,
    progress: Listener | None = None,
    say: Callable[[str], object] | None = None,
) -> EmbeddingSummary:
    """Write one vector an image, as it goes; memory does not grow with the pool.

    A shard is one part of quarantine/ and embeddings/; the last commits it. Finished shards are kept as long as
    images, weights, backbone and sizes are the same: then same bytes. The arithmetic is float32 throughout.

    Args:
        rows: pool table; the order of its rows is kept.
        reader: reads the images of these rows.
        backbone: with its weights, where it is to run.
        out: the folder that gets the two tables.
        batch_size: images a forward pass.
        shard_size: images a part.
        executor: who does it; default: a thread for each core. The numbers do not depend on it.
        limit: how many images may be rejected.
        progress: called with (images done, images in all) after each batch.
        say: told which finished parts are damaged, and therefore made again.

    Raises:
        DataError: no rows, or more images are rejected than may be.
        WorkerLostError: workers die again and again.
        NonFiniteError: the backbone gave NaN or infinity; names the images.
        StorageError: the disk is full or refuses.
    """
    if rows.num_rows == 0:
        raise DataError(
            "there is nothing to embed", got="a pool without rows", expected="at least one image",
            fix="add images to the pool",
        )  # fmt: skip
    digests = shard_digests(rows["image_id"], reader, shard_size)
    folder = ShardFolder(out, _made_from(backbone, batch_size, shard_size), ORDER, shards=digests)
    shards = Shards(rows["image_id"], folder, batch_size, shard_size)
    work = Pass(partial(open_backbone, backbone), reader, partial(_tables, backbone.d), limit)
    n_kept = pass_over(shards, work, executor=executor, progress=progress, say=say)
    n_rejected = sum(part.num_rows for part in iter_parts(Path(out) / "quarantine", QUARANTINE))
    return EmbeddingSummary(rows.num_rows - n_rejected, n_rejected, n_kept)


def open_backbone(backbone: Backbone, device: str | None = None) -> Look[Embedded]:
    """How a batch is embedded, in the process that is going to do it; on `device`, or where the backbone is."""
    backbone = backbone if device is None else backbone.on(device)
    height, width = backbone.architecture.height, backbone.architecture.width

    def read(ids: Sequence[str], reader: ImageReader) -> ImageBatch:
        return read_batch(ids, reader, height, width, "embedding")

    def see(batch: ImageBatch, pixels: Tensor) -> Embedded:
        return batch.image_ids, pooled(backbone(pixels), batch).cpu().numpy()

    return Look(read, see, backbone.device)


def _tables(d: int, embedded: list[Embedded], rejected: Rejected) -> Tables:
    vectors = [one for _, one in embedded] or [np.empty((0, d), np.float32)]
    return {
        "quarantine": {column.name: [row[column.name] for row in rejected] for column in QUARANTINE.columns},
        "embeddings": {
            "image_id": [image_id for ids, _ in embedded for image_id in ids],
            "embedding": float_lists(np.concatenate(vectors)),
        },
    }


@torch.inference_mode()
def pooled(features: Float[Tensor, "images d rows columns"], batch: ImageBatch) -> Float[Tensor, "images d"]:
    """Each image's features averaged over the positions that show any of it; padding does not count."""
    rows, columns = features.shape[2:]
    if not batch.is_padded(rows, columns):
        return features.float().mean((2, 3))
    shown = batch.valid(rows, columns).to(features.device)[:, None]
    return (features.float() * shown).sum((2, 3)) / shown.sum((2, 3))


def _made_from(backbone: Backbone, batch_size: int, shard_size: int) -> str:
    """Digest of all that every shard's vectors depend on."""
    return fingerprint({
        "backbone": backbone.name,
        "weights": backbone.weights,
        "input": [backbone.architecture.height, backbone.architecture.width],
        "sizes": [batch_size, shard_size],
    })  # fmt: skip
