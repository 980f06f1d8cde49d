"""A short-list of a pool of 1,000,000 rows against pyarrow's own filter of the same condition, and 250,000 rows.

    python benchmarks/shortlist.py [ROWS]

Each in a process of its own, so that the peak of its memory is its own. Prints one JSON object.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from poolscout.tables.declared import POOL
from poolscout.tables.parquet import float_lists, part_path, read_table, write_table

PLAIN = "time_of_day = 'night' AND speed_kmh > 5"
JOINED = f"{PLAIN} AND scores.mi_max > 0.5"
PART_ROWS = 250_000


def write_pool(folder: Path, n_rows: int) -> None:
    """A pool with six columns of metadata, and a table of scores with lists, in parts."""
    rng = np.random.default_rng(0)
    for part, start in enumerate(range(0, n_rows, PART_ROWS)):
        rows = range(start, min(n_rows, start + PART_ROWS))
        ids, n = [f"drive-{i // 500:05d}/frame-{i:08d}.jpg" for i in rows], len(rows)
        pool = pa.table({
            "image_id": ids, "uri": [f"s3://fleet/2026/{i}" for i in ids],
            "width": pa.array(np.full(n, 1920, np.int32)), "height": pa.array(np.full(n, 1080, np.int32)),
            "sequence": [i.split("/")[0] for i in ids], "frame": pa.array(np.arange(n)),
            "time_of_day": rng.choice(["day", "dusk", "night", "dawn"], n), "weather": rng.choice(["sun", "rain"], n),
            "speed_kmh": rng.random(n) * 60, "city": rng.choice([f"city {i}" for i in range(40)], n),
            "camera": rng.integers(0, 8, n), "tunnel": rng.random(n) < 0.02,
        })  # fmt: skip
        write_table(part_path(folder / "pool", part), POOL, pool)
        scores = pa.table({
            "image_id": ids, "mi_max": rng.random(n).astype(np.float32),
            "mi_max_per_class": float_lists(rng.random((n, 8)).astype(np.float32)),
        })  # fmt: skip
        (folder / "scores").mkdir(exist_ok=True)
        pq.write_table(scores, part_path(folder / "scores", part))


def ours(folder: Path, where: str) -> int:
    """From the files to a written table of what is kept."""
    from poolscout.pool.shortlist import shortlist

    tables = {"scores": folder / "scores"} if "scores" in where else {}
    found = shortlist(read_table(folder / "pool", POOL), where, tables)
    write_table(folder / "ours.parquet", POOL, found.pool)
    return found.pool.num_rows


def arrows(folder: Path) -> int:
    """The same of the plain condition with pyarrow alone."""
    kept = ds.dataset(folder / "pool").to_table(
        filter=(ds.field("time_of_day") == "night") & (ds.field("speed_kmh") > 5)
    )
    write_table(folder / "arrow.parquet", POOL, kept)
    return kept.num_rows


def measure(folder: Path, name: str) -> dict[str, float]:
    """Kept rows, seconds of the best of five, cores' seconds of it, and the peak of memory beyond the imports, MiB."""
    import duckdb  # noqa: F401  (its import is no part of either)

    wheres = {"plain": PLAIN, "joined": JOINED}
    work = functools.partial(ours, folder, wheres[name]) if name in wheres else functools.partial(arrows, folder)
    before, tries = peak_mib(), []
    for _ in range(5):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        kept = work()
        tries.append((time.perf_counter() - begun, time.process_time() - begun_cpu))
    best_s, cpu_s = min(tries)
    return {"kept": kept, "best_s": best_s, "cpu_s": cpu_s, "peak_mib": peak_mib() - before}


def peak_mib() -> float:
    """The most memory this process has held at a time, MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", status)[1]) / 1024  # type: ignore[index]


def main(n_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, object] = {}
        for rows in (n_rows // 4, n_rows):
            at = Path(folder) / str(rows)
            at.mkdir()
            write_pool(at, rows)
            found = {
                name: json.loads(subprocess.check_output([sys.executable, __file__, str(at), name]))
                for name in ("arrow", "plain", "joined")
            }
            assert found["arrow"]["kept"] == found["plain"]["kept"] > found["joined"]["kept"] > 0
            ratios = {
                f"{name}_over_arrow": found[name]["best_s"] / found["arrow"]["best_s"] for name in ("plain", "joined")
            }
            result[f"{rows:,} rows"] = found | ratios
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else 1_000_000)
