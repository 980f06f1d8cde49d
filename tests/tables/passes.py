"""Small work on disk, for processes that are killed: nothing is imported that takes time."""

from __future__ import annotations

from pathlib import Path

from poolscout.tables import atomic
from poolscout.tables.atomic import write_json, write_text
from poolscout.tables.declared import DETECTIONS, QUARANTINE
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.runfolder import RunFolder
from poolscout.tables.shardfolder import ShardFolder

ORDER = (("detections", DETECTIONS), ("quarantine", QUARANTINE))
SHARDS = 3


def tables_of(shard: int) -> dict:
    """What a pass would find: one box and one bad image."""
    box = dict.fromkeys(("probability", "x1_px", "y1_px", "x2_px", "y2_px"), 1.0 + shard)
    detection = {"image_id": f"good-{shard}", "member": 0, "class": "car", **box}
    rejected = {name: f"{name} {shard}" for name in ("image_id", "uri", "stage", "reason", "detail")}
    return {"detections": DETECTIONS.from_rows([detection]), "quarantine": QUARANTINE.from_rows([rejected])}


def passed_over(folder: ShardFolder, shards: int = SHARDS) -> list[int]:
    """Write what is not done, as a pass does; returns the shards that were written."""
    todo = [shard for shard in range(shards) if not folder.is_done(shard)]
    for shard in todo:
        folder.write(shard, tables_of(shard))
    return todo


def small_run(out: Path, settings: int = 1) -> None:
    """A pass in shards and what follows from it; as many shards as the settings say."""
    folder = RunFolder(out, redo_stale=True)
    at = out / "round-000"

    def score() -> None:
        passed_over(ShardFolder(at, f"made with {settings}", ORDER), settings)

    def select() -> None:
        write_text(at / "picks.txt", file_hash(at / "detections"))

    with folder.lock():
        folder.stage(at, Work("score", {"settings": settings}, {}), [at / name for name, _ in ORDER], score)
        folder.stage(at, Work("select", {}, {"scores": file_hash(at / "detections")}), [at / "picks.txt"], select)


def write_carelessly(path: Path) -> None:
    sync = atomic._sync
    atomic._sync = lambda at: sync(at) if at.is_dir() else None  # the content is never synced
    for number in range(20):
        write_json(path / "values.json", [number] * 1000)


def write_twenty(path: Path) -> None:
    for number in range(20):
        write_json(path / "values.json", [number] * 1000)
