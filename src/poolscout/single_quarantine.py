"""The images that a run, or a single pass, could not use: listed over all stages, read again, given another chance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.config import PoolConfig, build_config, load_config
from poolscout.engine import ThreadExecutor
from poolscout.engine.progress import SilentProgress
from poolscout.errors import RunError
from poolscout.pool import ImageReader, RejectedImage, Storage, files_digest, list_pool, source_digest
from poolscout.pool.listing_stage import images_path, list_into
from poolscout.pool.sources import container_is_whole, is_container, is_lost_container
from poolscout.tables.atomic import remove
from poolscout.tables.declared import POOL, QUARANTINE
from poolscout.tables.manifest import file_hash, manifest_path, read_manifest, renew, reopen
from poolscout.tables.parquet import read_table
from poolscout.tables.runfolder import RunFolder
from poolscout.tables.shardfolder import record_path
from poolscout.tables.stale import Stages, stage_name

# Reasons that reading an image again can refute; a name that is not safe, for one, stays so.
_MAY_PASS = ("missing", "unreadable", "empty", "truncated", "undecodable", "oversized", "size differs")
_AT_ONCE = 16  # images that are waited for at a time


@dataclass(frozen=True)
class Quarantined:
    """An image that one stage or more could not use, for one reason.

    Attributes:
        where: the folders of the run whose stages said so, e.g. `pool`, `references/random/round-001`.
        parts: the quarantine tables that name it.
    """

    image_id: str
    uri: str
    stage: str
    reason: str
    detail: str
    where: tuple[str, ...]
    parts: tuple[Path, ...]

    def row(self) -> dict[str, Any]:
        """For people and machines."""
        names = ("image_id", "stage", "reason", "detail", "uri")
        return {**{name: getattr(self, name) for name in names}, "where": list(self.where)}


def quarantined(run: Path) -> list[Quarantined]:
    """All images in quarantine in the run's folder, by image_id.

    Raises:
        TableError, CorruptPartError: a table cannot be read.
    """
    found: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    names = [column.name for column in QUARANTINE.columns]
    for part in sorted([*run.rglob("*quarantine.parquet"), *run.rglob("quarantine/part-*.parquet")]):
        for row in read_table(part, QUARANTINE).to_pylist():
            found[tuple(row[name] for name in names)].append(part)
    images = [
        Quarantined(**dict(zip(names, values, strict=True)), where=_where(run, parts), parts=tuple(parts))
        for values, parts in found.items()
    ]
    return sorted(images, key=lambda image: (image.image_id, image.stage, image.where))


def list_quarantine(run: Path) -> dict[str, Any]:
    """Every image in quarantine, and how many there are for each reason and stage.

    Args:
        run: the folder of a run, or the `--out` of `score` or `embed`.

    Raises:
        RunError: neither is in `run`.
    """
    _check_run(run)
    images = quarantined(run)
    return {
        "in quarantine": len({image.image_id for image in images}),
        "by reason": _counts((image.reason, image.image_id) for image in images),
        "by stage": _counts((image.stage, image.image_id) for image in images),
        "images": [image.row() for image in images],
    }


def retry_quarantine(run: Path, *, overrides: Sequence[str] = (), redo_stale: bool = False) -> dict[str, Any]:
    """Read every image in quarantine again, and have the next `poolscout run` use those that can be read now.

    The shards of a scoring pass that such an image is in are scored again; a listing that left it out is made again.
    Where other finished stages follow from these, they are left as they are unless `redo_stale` is on.
    Trainings and evaluations are not done again: the next round reads all images anew.

    Args:
        run: as for `list_quarantine`; in the second case the same `score` or `embed` goes on.
        overrides: `a.b=c` settings of the pool to read with, in the second case those that the pass was given.

    Returns:
        as `list_quarantine`; and `readable`: ids that can be used now; `done again`: the stages that the next run
        goes on with; `left`: stages that are not, each with what would be stale.

    Raises:
        RunError, RunLockedError: no run in `run`, or it is being written to.
        ConfigError: an override that is none.
    """
    listed, folder = list_quarantine(run), RunFolder(run, redo_stale=redo_stale)
    with folder.lock():
        pool = _pool_config(folder, overrides)
        readable = _readable(pool, quarantined(run))
        # Before anything is given back: it may fail.
        fresh = _listed_again(run, pool, readable)
        again, left = _retry(run, readable, redo_stale)
        if fresh is not None:
            _decide_on_listing(run, fresh, source_digest(pool), redo_stale, again, left)
        if again:
            _go_on_with_the_pool(folder, pool)
    return {**listed, "readable": sorted({image.image_id for image in readable}), "done again": again, "left": left}


def _retry(run: Path, readable: list[Quarantined], redo_stale: bool) -> tuple[list[str], dict[str, list[str]]]:
    """Give the stages the images back that can be read now: those done again; those left → what would be stale."""
    chances = sorted({part for image in readable for part in image.parts if _stage_of(part)})
    shards: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for part in chances:
        shards[part.parent if _stage_of(part) == "list" else part.parent.parent, _stage_of(part)].append(part)
    again: list[str] = []
    left: dict[str, list[str]] = {}
    stages = Stages(run)
    for (at, stage), parts in shards.items():
        name, stale = stage_name(run, at, stage), stages.after(at, stage)
        if stale and not redo_stale:
            left[name] = stale
            continue
        if stage == "list":
            remove(manifest_path(at, stage))  # the listing stays until the next one replaces it
        else:
            _undo(at, stage, parts)
            reopen(at, stage)
        again.append(name)
    return again, left


def _listed_again(run: Path, pool: PoolConfig, readable: list[Quarantined]) -> pa.Table | None:
    """The pool as it would be listed now, where its source has changed and something can be given back; else None."""
    listed = read_manifest(run / "pool", "list")
    if not readable or listed is None or listed["inputs"].get("source") == source_digest(pool):
        return None
    return list_pool(pool).pool


def _decide_on_listing(
    run: Path, fresh: pa.Table, source: str, redo_stale: bool, again: list[str], left: dict[str, list[str]]
) -> None:
    """A mended file may be of another size, which is a change of its folder: where the pool is the same all the same,
    its listing counts for the new state. Where it is not, the listing is made again, unless something follows from it.
    """
    at, name = run / "pool", stage_name(run, run / "pool", "list")
    if name in again or name in left:
        return
    if fresh.equals(read_table(images_path(at), POOL)):
        renew(at, "list", source=source)
        return
    stale = Stages(run).after(at, "list")
    if stale and not redo_stale:
        left[name] = stale
    else:
        remove(manifest_path(at, "list"))
        again.append(name)


def _go_on_with_the_pool(folder: RunFolder, pool: PoolConfig) -> None:
    """Outside a run: list the pool at once where that is to be, and have its pass go on with it: shards that have not
    changed stay."""
    at, passes = folder.path / "pool", [s for s in _LAST_TABLE if manifest_path(folder.path, s).exists()]
    for stage in passes:
        if not manifest_path(at, "list").exists():
            list_into(folder, at, pool, SilentProgress())
        uris = read_table(images_path(at), POOL, ["uri"])["uri"]
        now = {"pool": file_hash(images_path(at)), "images": files_digest(uris)}
        known = (read_manifest(folder.path, stage) or {"inputs": {}})["inputs"]
        reopen(folder.path, stage, **{name: digest for name, digest in now.items() if name in known})


def _undo(folder: Path, stage: str, parts: list[Path]) -> None:
    """Take back the commits of the shards of a pass that these quarantine tables belong to."""
    remove(*(record_path(folder / _LAST_TABLE[stage], int(part.stem.removeprefix("part-"))) for part in parts))


_LAST_TABLE = {"score": "scores", "embed": "embeddings"}  # holds the records that commit the shards of a pass


def _stage_of(part: Path) -> str:
    """The stage that a quarantine table's images can be given back to; empty for trainings and evaluations."""
    if part.name == "quarantine.parquet" and manifest_path(part.parent, "list").exists():
        return "list"
    passes = (stage for stage in _LAST_TABLE if manifest_path(part.parent.parent, stage).exists())
    return next(passes, "") if part.parent.name == "quarantine" else ""


def _pool_config(folder: RunFolder, overrides: Sequence[str]) -> PoolConfig:
    if folder.config.exists():
        return load_config(folder.config, overrides).pool
    listed = read_manifest(folder.path / "pool", "list")
    return build_config({"pool": listed["config"] if listed else {"source": str(folder.path)}}, overrides).pool


def _readable(pool: PoolConfig, images: list[Quarantined]) -> list[Quarantined]:
    """Those that can be used now, by all that reading them tells."""
    reader = ImageReader({image.uri: image.uri for image in images}, pool.max_pixels, Storage.of(pool))

    def can_be_read(image: Quarantined) -> bool:
        if image.reason not in _MAY_PASS:
            return False
        if is_container(image.uri):  # which is never read as a whole
            is_lost = is_lost_container(image.image_id, image.uri)
            return is_lost and container_is_whole(image.uri, pool, reader.storage)
        try:
            height, width = reader.read(image.uri).shape[:2]
        except RejectedImage:
            return False
        # One that is readable but not as large as its source says is no better until its size has changed.
        return not (image.reason == "size differs" and image.detail.endswith(f" {width}×{height}"))

    could = ThreadExecutor(_AT_ONCE).map(can_be_read, images)
    return [image for image, can in zip(images, could, strict=True) if can]


def _counts(pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Kind → different images, the most frequent first."""
    return dict(Counter(kind for kind, _ in sorted(set(pairs))).most_common())


def _where(run: Path, parts: list[Path]) -> tuple[str, ...]:
    folders = (part.parent.parent if part.parent.name == "quarantine" else part.parent for part in parts)
    return tuple(str(folder.relative_to(run)) for folder in folders)


def _check_run(run: Path) -> None:
    if not (run / "run.yaml").is_file() and not manifest_path(run / "pool", "list").exists():
        raise RunError(
            f"{run}: no run here", got="neither run.yaml nor a pass's manifest" if run.is_dir() else "no such folder",
            expected="the folder of a run, or the --out of score or embed",
            fix="name the folder that `poolscout run`, `score` or `embed` wrote",
        )  # fmt: skip
