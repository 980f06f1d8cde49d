"""A pool of 1,000,000 rows through listing, short-list, plan, a slice of scoring and selection: seconds and memory.

20,000 distinct sandbox frames lie in 20 tar shards with their metadata; 50 folders link to the same shards, so that a
million members are listed, each by its header. Every step is a process of its own, whose peak memory is told. The
slice that is scored gives the embeddings and scores for all: those of its frames, with some noise.

    python benchmarks/million.py [--frames 20000] [--copies 50] [--slice 2000] [--work FOLDER] [--sandbox FOLDER]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.io import save_member
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.sandbox import CLASSES, write_sandbox
from poolscout.tables.declared import EMBEDDINGS, POOL, SCORES
from poolscout.tables.parquet import float_lists, part_path, read_table, write_table

A_SHARD, A_CLIP, A_PART, MEMBERS, MOST_GIB, MOST_SHORTLIST_S = 1000, 40, 10_000, 3, 3.0, 2.0
GIB = 2**30
WHERE = "time_of_day = 'night' AND frame > 5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("--slice", type=int, default=2000)
    parser.add_argument("--picks", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("million"))
    parser.add_argument("--sandbox", type=Path, help="written before; default: drawn into the work folder")
    a = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    work, n = a.work.resolve(), a.frames * a.copies
    work.mkdir(parents=True, exist_ok=True)
    _make_shards(work, a.sandbox or work / "frames", a.frames, a.copies)
    _make_members(work / "models")
    config = work / "config.yaml"
    config.write_text(json.dumps(_config(work, a.picks)))
    most = 0.0
    pool = work / "run" / "pool" / "images"
    if not pool.exists():
        listed_s, gib = _step("list_all", work)
        most = max(most, gib)
        rate = n / listed_s
        print(f"listing        {n:,} rows, every header read: {listed_s:.0f} s, {rate:,.0f} rows/s, peak {gib:.2f} GiB")
    _, gib = _step("shortlist_all", work)
    most = max(most, gib)
    inner_s, kept = json.loads((work / "shortlist.json").read_text())
    print(f"short-list     {WHERE!r}: {kept:,} of {n:,} in {inner_s:.2f} s (read, asked, written), peak {gib:.2f} GiB")
    plan_s, gib = _cli("plan", str(config), "--workers", "1,8")
    most = max(most, gib)
    print(f"plan           {plan_s:.0f} s, peak {gib:.2f} GiB")
    scored_s, gib = _score_slice(work, pool, a.slice)
    most = max(most, gib)
    hours = scored_s / a.slice * n / 3600
    print(f"scoring        {a.slice:,} rows in {scored_s:.0f} s → {hours:.1f} h for {n:,}, peak {gib:.2f} GiB")
    embeddings_gib = _scores_of_all(work, pool)
    select_s, gib = _cli(
        "select", "--scores", str(work / "all" / "scores"), "--embeddings", str(work / "all" / "embeddings"),
        "--pool", str(pool), "--sampler", "coreset", "--n", str(a.picks), "--out", str(work / "picks.parquet"),
    )  # fmt: skip
    beyond = gib - embeddings_gib
    most = max(most, beyond)
    beside = f"{beyond:.2f} GiB beyond the embeddings' {embeddings_gib:.2f}"
    print(f"selection      core-set of {a.picks:,}: {select_s:.0f} s, {beside}")
    print(f"most memory beyond the embeddings: {most:.2f} GiB (at most {MOST_GIB})")
    sys.exit(0 if most <= MOST_GIB and inner_s <= MOST_SHORTLIST_S else 1)


def list_all(work: str) -> None:
    """The pool table in parts, as a run writes it."""
    from poolscout.config import PoolConfig
    from poolscout.pool import list_pool

    listing = list_pool(PoolConfig(source=Path(work) / "tars", format="tar"))
    for part, start in enumerate(range(0, listing.pool.num_rows, 500_000)):
        write_table(part_path(Path(work) / "run" / "pool" / "images", part), POOL, listing.pool.slice(start, 500_000))


def shortlist_all(work: str) -> None:
    """Seconds for reading the pool, asking and writing what is kept."""
    from poolscout.pool.shortlist import shortlist

    start = time.perf_counter()
    kept = shortlist(read_table(Path(work) / "run" / "pool" / "images", POOL), WHERE)
    write_table(Path(work) / "shortlist.parquet", POOL, kept.pool)
    seconds = time.perf_counter() - start
    (Path(work) / "shortlist.json").write_text(json.dumps([seconds, kept.pool.num_rows]))


def _make_shards(work: Path, data: Path, frames: int, copies: int) -> None:
    first = work / "tars" / "drive-000"
    if not data.exists():
        write_sandbox(data, clips=-(-frames // A_CLIP), frames_per_clip=A_CLIP, seed=7)
    if not first.exists():
        images = json.loads((data / "annotations_pool.json").read_text())["images"][:frames]
        made = work / "making"
        made.mkdir(exist_ok=True)
        for start in range(0, frames, A_SHARD):
            with tarfile.open(made / f"shard-{start // A_SHARD:03d}.tar", "w") as tar:
                for image in images[start : start + A_SHARD]:
                    name = image["file_name"]
                    tar.add(data / "images" / name, name)
                    facts = {k: v for k, v in image.items() if k not in ("id", "file_name", "width", "height")}
                    sidecar, text = tarfile.TarInfo(name.rpartition(".")[0] + ".json"), json.dumps(facts).encode()
                    sidecar.size = len(text)
                    tar.addfile(sidecar, io.BytesIO(text))
        (work / "tars").mkdir(exist_ok=True)
        made.rename(first)
    for copy in range(1, copies):
        folder = work / "tars" / f"drive-{copy:03d}"
        folder.mkdir(exist_ok=True)
        for shard in first.iterdir():
            if not (folder / shard.name).exists():
                os.link(shard, folder / shard.name)


def _make_members(folder: Path) -> None:
    architecture, calibration = DetectorConfig(), Calibration(focus=0.0, biases=(0.0,) * len(CLASSES))
    for seed in range(MEMBERS):
        facts = {"architecture": architecture, "classes": tuple(CLASSES), "calibration": calibration}
        card = MemberCard(**facts, seed=seed, training={})
        save_member(folder / f"member-{seed}", Member(UNet(len(CLASSES), architecture), card))


def _config(work: Path, picks: int) -> dict:
    return {
        "name": "million",
        "rounds": 1,
        "pool": {"source": str(work / "run" / "pool" / "images"), "format": "parquet"},
        "labelling": {"mode": "files", "classes": list(CLASSES), "initial": 1000},
        "selection": {"sampler": "coreset", "n": picks},
    }


def _score_slice(work: Path, pool: Path, n: int) -> tuple[float, float]:
    """A slice spread over the distinct frames, scored by the command."""
    ids = read_table(pool, POOL, ["image_id", "uri"])
    distinct = ids.filter(pc.starts_with(ids["image_id"], "drive-000/"))
    rows = np.linspace(0, distinct.num_rows - 1, n).astype(np.int64)
    import pyarrow.parquet as pq

    pq.write_table(distinct.take(pa.array(np.unique(rows))), work / "slice.parquet")
    return _cli(
        "score", str(work / "slice.parquet"), "--models", str(work / "models"), "--out", str(work / "slice"),
        "--redo-stale",
    )  # fmt: skip


def _scores_of_all(work: Path, pool: Path) -> float:
    """Tables as the pass would write them; returns GiB of the embeddings."""
    embeddings = read_table(work / "slice" / "embeddings", EMBEDDINGS)["embedding"]
    vectors = np.stack(embeddings.to_numpy()).astype(np.float32)
    scores = read_table(work / "slice" / "scores", SCORES)
    column = next(name for name in scores.column_names if name.endswith("_max"))
    ids, generator = read_table(pool, POOL, ["image_id"])["image_id"], np.random.default_rng(0)
    noise = 0.1 * vectors.std()
    for part, start in enumerate(range(0, len(ids), A_PART)):
        mine = ids.slice(start, A_PART)
        which = generator.integers(0, len(vectors), len(mine))
        rows = vectors[which] + noise * generator.standard_normal((len(mine), vectors.shape[1]), dtype=np.float32)
        write_table(
            part_path(work / "all" / "embeddings", part), EMBEDDINGS, {"image_id": mine, "embedding": float_lists(rows)}
        )
        score = scores[column].to_numpy()[which % scores.num_rows] * generator.random(len(mine)).astype(np.float32)
        write_table(part_path(work / "all" / "scores", part), SCORES, {"image_id": mine, column: pa.array(score)})
    return len(ids) * vectors.shape[1] * 4 / GIB


def _step(function: str, work: Path) -> tuple[float, float]:
    """A function of this module in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import million; "
    return _measured(function, [sys.executable, "-c", f"{code}million.{function}({str(work)!r})"])


def _cli(*arguments: str) -> tuple[float, float]:
    return _measured(arguments[0], [str(Path(sys.executable).parent / "poolscout"), *arguments])


def _measured(name: str, command: list[str]) -> tuple[float, float]:
    """(seconds, GiB at the peak) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name} failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / GIB


if __name__ == "__main__":
    main()
