"""A short-list alone, outside a run: what `poolscout shortlist` calls."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from poolscout.config_room import is_url
from poolscout.engine.progress import Progress, SilentProgress
from poolscout.errors import DataError
from poolscout.pool.shortlist import shortlist
from poolscout.single import listed
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import read_manifest
from poolscout.tables.named import check_ending, write_as_named
from poolscout.tables.parquet import read_table
from poolscout.tables.schema import NAME_KEY


def shortlist_source(
    source: Path | str,
    where: str,
    tables: Mapping[str, Path],
    out: Path | None,
    *,
    images: Path | str | None,
    overrides: Sequence[str],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Keep the images of a source, a run or a pool table for which `where` is true; the table goes to `out`.

    Raises:
        ConfigError: an `out` that is neither .parquet nor .csv, or a column that CSV cannot hold.
        ConfigError, DataError: as `pool.shortlist.shortlist`; the source cannot be listed.
        TableError: a pool table that cannot be read.
    """
    if out is not None and out.is_dir():
        raise DataError(f"--out: {out} is a folder", got="a folder", expected="a file, e.g. shortlist.parquet")
    if out is not None:
        check_ending(out)
    begun = time.perf_counter()
    pool, quarantined = _pool(source, images, overrides, progress or SilentProgress())
    listed_s, begun = time.perf_counter() - begun, time.perf_counter()
    found = shortlist(pool, where, tables)
    if out is not None:
        write_as_named(out, POOL, found.pool)
    result: dict[str, Any] = {
        "kept": found.pool.num_rows,
        "of": found.n_rows,
        "sequences": pc.count_distinct(found.pool["sequence"]).as_py(),
        "left out for an empty cell": found.n_unknown,
    }
    result |= {f"in {name}": n for name, n in found.n_matched.items()}
    result |= {} if quarantined is None else {"in quarantine": quarantined}
    seconds = {"seconds to list": round(listed_s, 3), "seconds": round(time.perf_counter() - begun, 3)}
    return result | seconds | ({} if out is None else {"written": out})


def _pool(
    source: Path | str, images: Path | str | None, overrides: Sequence[str], progress: Progress
) -> tuple[pa.Table, int | None]:
    """The pool table, sorted by image_id, and how many images its listing had to set aside (None: not listed here)."""
    if not is_url(str(source)):
        path = Path(source)
        manifest = read_manifest(path / "pool", "list")
        if manifest is not None and not manifest["finished"]:
            raise DataError(
                f"{source}: its pool is not listed to its end", got="a listing under way, or one that was stopped",
                expected="a finished one", fix="wait for it, or start its command again",
            )  # fmt: skip
        path = next((p for p in (path / "pool" / "images", path) if p.is_dir()), path)
        if _is_pool_table(path):
            pool = read_table(path, POOL)
            ids = pool["image_id"]
            in_order = pc.all(pc.less(ids[:-1], ids[1:])).as_py() if len(ids) > 1 else True
            return pool if in_order else pool.sort_by("image_id"), None
    _, listing = listed(source, images, overrides, progress)
    return listing.pool, listing.quarantine.num_rows


def _is_pool_table(path: Path) -> bool:
    files = sorted(path.glob("part-*.parquet"))[:1] if path.is_dir() else [path]
    try:
        return bool(files) and (pq.read_schema(files[0]).metadata or {}).get(NAME_KEY) == POOL.name.encode()
    except (pa.ArrowException, OSError):
        return False
