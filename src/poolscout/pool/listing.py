"""The pool table: every image of a source, its header checked, those that cannot be used set aside."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import PoolConfig
from poolscout.engine.local import ThreadExecutor
from poolscout.errors import ConfigError, DataError, some
from poolscout.pool.columns import pool_columns, taken, unified
from poolscout.pool.decode import upright_size
from poolscout.pool.kept import KeptBatches, table_digest
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.sources import SourceBatch, read_source
from poolscout.pool.sources.base import Rejected, Size, rejected_table
from poolscout.pool.storage import Storage
from poolscout.tables.declared import POOL

_CHUNK = 64  # images a task: headers are too quick to hand over one by one
Listener = Callable[[int, str], object]  # images listed so far, a few words


@dataclass(frozen=True)
class PoolListing:
    """A pool and what had to be left out of it.

    Attributes:
        pool: POOL table, sorted by image_id.
        quarantine: QUARANTINE table, sorted by image_id.
    """

    pool: pa.Table
    quarantine: pa.Table


def list_pool(
    config: PoolConfig,
    storage: Storage | None = None,
    progress: Listener | None = None,
    kept: KeptBatches | None = None,
) -> PoolListing:
    """List a source and check every image's header; no image is decoded.

    What is held grows with the pool in Arrow columns only; Python objects exist for a batch at a time (for the images
    of one shard, and for a whole COCO json).

    Args:
        config: the source, and how to read it.
        storage: reads the bytes; default: as the config says.
        progress: told how many images are listed so far, and in words how many were found; nobody knows of how many.
        kept: batches that an earlier attempt has checked, and where this one's go; default: nothing is kept.

    Raises:
        ConfigError: `sequence` or `frame` names a column that the source does not have, or frames that are no numbers;
            `check: none` where the source does not give every image's size.
        DataError: the source cannot be read, names an image twice, or no image of it can be used.
    """
    storage, kept = storage or Storage.of(config), kept or KeptBatches()
    batches = _batches(config, storage, progress or (lambda *_: None), kept)
    quarantine = pa.concat_tables([batch.rejected for batch in batches] or [rejected_table([])])
    quarantine = quarantine.take(pc.sort_indices(quarantine, [("image_id", "ascending"), ("reason", "ascending")]))
    images = pa.concat_tables([batch.images for batch in batches] or [_no_images()])
    if not images.num_rows:
        kept.clear()  # what is wrong may be mended without a change that the source shows
        raise DataError(
            f"pool.source: no image of {config.source} can be used",
            got=_reasons(quarantine) or "no images", expected="at least one image",
            fix="check pool.images, the folder that file names start from" if len(quarantine) else "check the source",
        )  # fmt: skip
    metadata = unified([batch.metadata for batch in batches])
    order = pc.sort_indices(images["image_id"])
    return PoolListing(pool_columns(taken(images, order), taken(metadata, order), config), quarantine)


def _batches(config: PoolConfig, storage: Storage, progress: Listener, kept: KeptBatches) -> list[SourceBatch]:
    """All batches of the source, checked. An image of one that needs no check is listed as soon as it is found."""
    found: list[SourceBatch] = []
    n_found = n_listed = 0
    for batch in read_source(config, storage, kept):
        found.append(batch)
        n_found += batch.images.num_rows
        n_listed += 0 if needs_check(batch, config) else batch.images.num_rows
        progress(n_listed, f"{n_found:,} found")
    _check_ids(found, config)
    checked: list[SourceBatch] = []
    for before, batch in zip(found, _checked(found, config, storage, kept), strict=True):
        checked.append(batch)
        n_listed += before.images.num_rows if needs_check(before, config) else 0
        progress(n_listed, f"{n_found:,} found")
    return checked


def needs_check(batch: SourceBatch, config: PoolConfig) -> bool:
    """Whether the headers of a batch are still to be looked at."""
    return config.check != "none" and not batch.checked


def _no_images() -> pa.Table:
    return POOL.empty().select(["image_id", "uri", "width", "height"])


def _check_ids(batches: Iterable[SourceBatch], config: PoolConfig) -> None:
    chunks = [chunk for batch in batches for chunk in batch.images["image_id"].chunks]
    ids = pa.chunked_array(chunks, pa.string())
    ids = taken(pa.table({"image_id": ids}), pc.sort_indices(ids))["image_id"]
    twice = ids[1:].filter(pc.equal(ids[1:], ids[:-1])).unique().to_pylist() if len(ids) > 1 else []
    if twice:
        raise DataError(
            f"{config.source}: {len(twice)} image ids are listed more than once", got=some(twice),
            expected="each image once", fix="remove the repeated rows",
        )  # fmt: skip


def _checked(
    batches: Iterable[SourceBatch], config: PoolConfig, storage: Storage, kept: KeptBatches
) -> Iterable[SourceBatch]:
    """The batches with every size filled in, and images that cannot be used among the rejected."""
    for batch in batches:
        if config.check == "none":
            yield _trusted(batch, config)
        elif batch.checked:
            yield batch
        else:
            key = partial(_key, batch, kept.source)
            yield kept(key, partial(_looked_at, batch, config, storage))


def _key(batch: SourceBatch, source: str) -> tuple[str, ...]:
    return "batch", source, table_digest(batch.images), table_digest(batch.metadata)


def _looked_at(batch: SourceBatch, config: PoolConfig, storage: Storage) -> SourceBatch:
    n_workers = min(16, 4 * (os.cpu_count() or 1))  # mostly waiting for files
    chunks = [batch.images.slice(start, _CHUNK) for start in range(0, batch.images.num_rows, _CHUNK)]
    check = partial(_check_chunk, max_pixels=config.max_pixels, storage=storage)
    found = [size for sizes in ThreadExecutor(n_workers).map(check, chunks) for size in sizes]
    return _sized(batch, found)


def _trusted(batch: SourceBatch, config: PoolConfig) -> SourceBatch:
    sides = [batch.images[name] for name in ("width", "height")]
    known = pc.and_(*(pc.fill_null(pc.greater(side, 0), False) for side in sides))
    unknown = batch.images["image_id"].filter(pc.invert(known))
    if len(unknown):
        raise ConfigError(
            "pool.check: none needs the width and height of every image",
            got=f"{len(unknown)} without, such as {unknown[0]}", expected=f"both, in px, from {config.source}",
            fix="use check: headers, or add the columns width and height",
        )  # fmt: skip
    pixels = pc.multiply(*(side.cast(pa.int64()) for side in sides))
    large = pc.indices_nonzero(pc.greater(pixels, config.max_pixels)).to_pylist()
    found: dict[int, RejectedImage] = {
        row: RejectedImage("oversized", f"{pixels[row]} pixels, at most {config.max_pixels} allowed") for row in large
    }
    return _without(batch, found) if found else batch


def _check_chunk(images: pa.Table, max_pixels: int, storage: Storage) -> list[tuple[int, int] | RejectedImage]:
    uris, widths, heights = (images[name].to_pylist() for name in ("uri", "width", "height"))
    return [
        _check(uri, said, max_pixels, storage)
        for uri, said in zip(uris, zip(widths, heights, strict=True), strict=True)
    ]


def _check(uri: str, said: Size, max_pixels: int, storage: Storage) -> tuple[int, int] | RejectedImage:
    try:
        found = upright_size(uri, max_pixels, storage)
    except RejectedImage as rejected:
        return rejected
    if any(a is not None and a != b for a, b in zip(said, found, strict=True)):
        told = "×".join("?" if side is None else str(side) for side in said)
        return RejectedImage("size differs", f"the source says {told}, the upright image is {found[0]}×{found[1]}")
    return found


def _sized(batch: SourceBatch, found: list[tuple[int, int] | RejectedImage]) -> SourceBatch:
    sizes = [(0, 0) if isinstance(size, RejectedImage) else size for size in found]
    images = batch.images.drop_columns(["width", "height"])
    images = images.append_column("width", pa.array([width for width, _ in sizes], pa.int32()))
    images = images.append_column("height", pa.array([height for _, height in sizes], pa.int32()))
    bad = {row: rejected for row, rejected in enumerate(found) if isinstance(rejected, RejectedImage)}
    return _without(SourceBatch(images, batch.metadata, batch.rejected, checked=True), bad)


def _without(batch: SourceBatch, bad: dict[int, RejectedImage]) -> SourceBatch:
    """The batch with some rows moved to the rejected ones."""
    if not bad:
        return batch
    ids, uris = (batch.images[name].take(pa.array(list(bad), pa.int64())).to_pylist() for name in ("image_id", "uri"))
    rows: list[Rejected] = [
        (image_id, uri, why.reason, why.detail) for image_id, uri, why in zip(ids, uris, bad.values(), strict=True)
    ]
    kept = pa.array([row for row in range(batch.images.num_rows) if row not in bad], pa.int64())
    rejected = pa.concat_tables([batch.rejected, rejected_table(rows)])
    return SourceBatch(batch.images.take(kept), batch.metadata.take(kept), rejected, batch.checked)


def _reasons(quarantine: pa.Table) -> str:
    counts = Counter(quarantine["reason"].to_pylist())
    told = ", ".join(f"{times} {reason}" for reason, times in counts.most_common())
    return f"{told}; the first: {quarantine['detail'][0]}" if told else ""
