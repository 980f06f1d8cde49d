"""The listing of a source as a stage: made once, in a folder of its own, and read from there afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poolscout.config import PoolConfig
from poolscout.engine.progress import Progress
from poolscout.errors import DataError
from poolscout.pool.digest import source_digest
from poolscout.pool.kept import KeptBatches
from poolscout.pool.limit import check_listing
from poolscout.pool.listing import PoolListing, list_pool
from poolscout.pool.storage import Storage
from poolscout.tables.declared import POOL, QUARANTINE
from poolscout.tables.manifest import Work, fingerprint
from poolscout.tables.parquet import part_path, read_table, write_table
from poolscout.tables.runfolder import RunFolder

PART_ROWS = 500_000


def images_path(at: Path) -> Path:
    """The POOL table of a listing that lies in the folder `at`."""
    return at / "images"


def listed_in(folder: RunFolder, at: Path, config: PoolConfig, progress: Progress) -> PoolListing:
    """List a source into the folder `at`, or read what was listed there; see `list_into`.

    Raises:
        DataError: too many images cannot be used.
    """
    listing, where = list_into(folder, at, config, progress), str(at / "quarantine.parquet")
    if n_rejected := listing.quarantine.num_rows:
        progress.say(f"{at.name}: {n_rejected} images in quarantine (see {where})")
    check_listing(config.max_quarantined, listing.pool, listing.quarantine, where)
    return listing


def list_into(folder: RunFolder, at: Path, config: PoolConfig, progress: Progress) -> PoolListing:
    """The same, however many images cannot be used.

    A listing that is killed keeps what it has checked (`.found`), and goes on from there.

    Args:
        at: inside the folder; its name is that of the source in messages, `pool` or `test`.

    Raises:
        DataError, ConfigError: as `list_pool`.
        RunError: it was listed with other settings or has changed since, and the folder may not redo it.
    """
    if isinstance(config.images, Path) and not config.images.exists():
        raise DataError(
            f"{at.name}.images: {config.images} is not there", got="nothing at this path",
            expected="the folder that file names start from",
            fix="check the path; relative ones start at the config file's folder",
        )  # fmt: skip
    storage, images, quarantine = Storage.of(config), images_path(at), at / "quarantine.parquet"
    settings, source = _settings(config), source_digest(config, storage)
    kept = KeptBatches(at / ".found", fingerprint(settings), source)

    def do() -> None:
        with progress.task(f"listing {config.source}", 0) as task:  # how many there are shows at the end
            listing = list_pool(config, storage, task.update, kept)
        starts = range(0, listing.pool.num_rows, PART_ROWS)
        for number, start in enumerate(starts):
            write_table(part_path(images, number), POOL, listing.pool.slice(start, PART_ROWS))
        for left_over in sorted(images.glob("part-*.parquet"))[len(starts) :]:  # of an attempt that found more
            left_over.unlink()
        write_table(quarantine, QUARANTINE, listing.quarantine)

    folder.stage(at, Work("list", settings, {"source": source}), [images, quarantine], do)
    kept.clear()
    return PoolListing(read_table(images, POOL), read_table(quarantine, QUARANTINE))


def _settings(config: PoolConfig) -> dict[str, Any]:
    """What the pool table depends on; settings that older runs do not know count where they are set."""
    unset = {name for name in ("every", "check") if getattr(config, name) == PoolConfig.model_fields[name].default}
    return config.model_dump(mode="json", exclude={"retries", "storage_options", "max_quarantined"} | unset)
