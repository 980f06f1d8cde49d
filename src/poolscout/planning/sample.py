"""A random sample of a pool that is not listed yet, or is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poolscout.config import PoolConfig, ShortlistConfig
from poolscout.errors import DataError
from poolscout.planning.forecast import ZERO, Figure
from poolscout.pool import Storage, list_pool
from poolscout.pool.columns import pool_columns, unified
from poolscout.pool.listing import needs_check
from poolscout.pool.sources import read_source
from poolscout.pool.storage import is_elsewhere, member_place
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import read_manifest
from poolscout.tables.parquet import read_table

ALL = ShortlistConfig()

_COLUMNS = ("image_id", "uri")
_BLOCKS = 5  # of headers timed apart, for a spread


@dataclass(frozen=True)
class Sample:
    """Some images of a pool, their headers checked.

    Attributes:
        n_pool: images that a run may pick: of all, those of the short-list.
        n_listed: images the whole pool names.
        images: POOL rows of the sample, sorted by image_id.
        n_asked: images drawn, those among them that cannot be used.
        names_s: seconds to name all images; 0 when a run has listed them.
        header_s: seconds an image to check headers; zero when a run has listed them, or naming them checks them.
        names_network_bytes, header_network_bytes: what the two read from other machines.
        is_listed: a run has listed the pool.
    """

    n_pool: int
    n_listed: int
    images: pa.Table
    n_asked: int
    names_s: float
    header_s: Figure
    names_network_bytes: float
    header_network_bytes: Figure
    is_listed: bool


def sample_pool(
    config: PoolConfig, listed: Path | None, n: int, seed: int, scratch: Path, kept: ShortlistConfig = ALL
) -> Sample:
    """Draw `n` images of a pool without repeats; the headers of no others are looked at (except inside tar shards).

    Args:
        config: the pool.
        listed: a run's folder of the listed pool (`pool`); None, or not finished: the source is asked.
        n: images, at most.
        seed: of the draw.
        scratch: a folder for a small file.
        kept: only images of this short-list are drawn.

    Raises:
        DataError: no image, or none of the sample that can be used.
        ConfigError: the source cannot be told.
        both also as `shortlist`.
    """
    random = np.random.default_rng(seed)
    manifest = None if listed is None else read_manifest(listed, "list")
    if listed is not None and manifest is not None and manifest["finished"]:
        pool = read_table(listed / "images", POOL)
        n_listed, pool = pool.num_rows, _kept(pool, kept)
        rows = _draw(pool.num_rows, n, random)
        return Sample(
            pool.num_rows, n_listed, pool.take(pa.array(rows)), len(rows), 0.0, ZERO, 0.0, ZERO, is_listed=True
        )
    begun, received = time.perf_counter(), list[int]()
    storage = replace(Storage.of(config), received=received.append)
    names, unchecked = _named(config, storage, kept)
    names_s, n_listed = time.perf_counter() - begun, names.num_rows
    if not names.num_rows:
        raise DataError(
            f"pool.source: {config.source} names no image", got="0 images", expected="at least one",
            fix="check pool.source",
        )  # fmt: skip
    names = _kept(names, kept)
    drawn = names.select(_COLUMNS).take(pa.array(_draw(names.num_rows, n, random)))
    names_bytes = float(sum(received))
    images, seconds, n_bytes = _checked(drawn, config, storage, received, scratch)
    return Sample(
        names.num_rows, n_listed, images, drawn.num_rows, names_s, seconds * unchecked, names_bytes,
        n_bytes * unchecked, is_listed=False,
    )  # fmt: skip


def _named(config: PoolConfig, storage: Storage, kept: ShortlistConfig) -> tuple[pa.Table, float]:
    """What a source names, and the share of it whose headers are still to be checked: as a rule 0 or 1.

    Of the images ids and URIs, and all that the source says of them where a short-list asks for it.
    """
    n = n_unchecked = 0
    names, batches = [_no_names()], []
    for batch in read_source(config, storage):
        n += batch.images.num_rows
        n_unchecked += batch.images.num_rows if needs_check(batch, config) else 0
        names.append(batch.images.select(_COLUMNS))
        if kept.where is not None:  # else the metadata of a large pool would be held for nothing
            batches.append(batch)
    unchecked = n_unchecked / max(n, 1)
    if not batches:
        return pa.concat_tables(names), unchecked
    images = pa.concat_tables([batch.images for batch in batches])
    sides = {name: images[name] for name in ("width", "height")}
    for name, side in sides.items():  # a pool's are never empty
        images = images.set_column(images.column_names.index(name), name, side.fill_null(0))
    pool = pool_columns(images, unified([batch.metadata for batch in batches]), config)
    for name, side in sides.items():
        pool = pool.set_column(pool.column_names.index(name), name, side)
    return pool, unchecked


def _kept(pool: pa.Table, config: ShortlistConfig) -> pa.Table:
    if config.where is None:
        return pool
    from poolscout.pool.shortlist import shortlist  # DuckDB takes half a second to load

    return shortlist(pool, config.where, config.tables).pool


def _checked(
    drawn: pa.Table, config: PoolConfig, storage: Storage, received: list[int], scratch: Path
) -> tuple[pa.Table, Figure, Figure]:
    """The usable images among those drawn, listed as a pool of their own in several blocks; seconds and bytes of one.

    Args:
        received: where `storage` puts the bytes of each answer.
    """
    tables, seconds, n_bytes, first_error = [], [], [], None
    size = -(-drawn.num_rows // _BLOCKS)
    for start in range(0, drawn.num_rows, size):
        block = drawn.slice(start, size)
        manifest = scratch / f"sample-{start}.parquet"
        pq.write_table(block, manifest)
        source = PoolConfig(
            source=manifest, format="parquet", max_pixels=config.max_pixels, retries=config.retries,
            storage_options=config.storage_options,
        )  # fmt: skip
        begun, before = time.perf_counter(), sum(received)
        try:
            tables.append(list_pool(source, storage).pool.select([column.name for column in POOL.columns]))
        except DataError as error:  # no image of this block can be used
            first_error = error
        seconds.append((time.perf_counter() - begun) / block.num_rows)
        n_bytes.append((sum(received) - before) / block.num_rows)
    if not tables:
        assert first_error is not None
        raise first_error
    return pa.concat_tables(tables).sort_by("image_id"), Figure.of(seconds), Figure.of(n_bytes)


def _draw(n_pool: int, n: int, random: np.random.Generator) -> list[int]:
    return sorted(random.choice(n_pool, min(n, n_pool), replace=False).tolist())


def _no_names() -> pa.Table:
    return POOL.empty().select(_COLUMNS)


def encoded_bytes(uris: Iterable[str], storage: Storage) -> list[int]:
    """Bytes of each image as it is stored; those whose size cannot be told are left out."""
    sizes = []
    for uri in uris:
        _, place = member_place(uri)
        try:
            sizes.append(storage.size(uri) if place is None else place[1])
        except (DataError, OSError):
            continue
    return sizes


def remote_share(uris: Iterable[str]) -> float:
    """Share of the images that other machines hold."""
    told = [is_elsewhere(uri) for uri in uris]
    return sum(told) / len(told)


def machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
