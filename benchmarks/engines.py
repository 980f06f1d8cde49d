"""Scoring the same pool with every engine: the same bytes, and what spreading costs on one machine.

Seconds are of the whole pass, with the start of workers and of a local Ray; ratios are against threads in the same run.

    python benchmarks/engines.py [--images 20000] [--members 3] [--workers 2] [--engines ray] [--frames FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

import torch

from poolscout.config import DetectorConfig, EngineConfig, PoolConfig, ScoringConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.engine import executor_names, open_executor
from poolscout.engine.memory import keep_freed_memory
from poolscout.pool import ImageReader, Uris, list_pool
from poolscout.sandbox import write_sandbox
from poolscout.scoring import score_pool

MOST_OVERHEAD = 1.15
FRAMES_A_CLIP = 40
CLASSES = ("car", "person", "bicycle", "road sign", "traffic light")


def untrained(seed: int) -> Member:
    """A pass costs the same with whatever weights."""
    torch.manual_seed(seed)
    architecture = DetectorConfig()
    calibration = Calibration(focus=0.0, biases=(0.0,) * len(CLASSES))
    card = MemberCard(architecture=architecture, classes=CLASSES, calibration=calibration, seed=seed, training={})
    return Member(UNet(len(CLASSES), architecture), card)


def digest(folder: Path) -> str:
    """Of every part of every table."""
    parts = hashlib.sha256()
    for part in sorted(folder.rglob("part-*.parquet")):
        parts.update(str(part.relative_to(folder)).encode() + part.read_bytes())
    return parts.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engines", nargs="+", default=[n for n in executor_names() if n not in ("threads", "serial")])
    parser.add_argument("--frames", type=Path, help="folder of images; default: sandbox frames, made first")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as work:
        frames = arguments.frames
        if frames is None:
            clips = -(-arguments.images // FRAMES_A_CLIP)
            write_sandbox(Path(work) / "sandbox", clips=clips, frames_per_clip=FRAMES_A_CLIP)
            frames = Path(work) / "sandbox" / "images"
        pool = list_pool(PoolConfig(source=frames)).pool.slice(0, arguments.images)
        members = [untrained(seed) for seed in range(arguments.members)]
        seconds, digests = {}, {}
        size = members[0].architecture
        for name in ("threads", *arguments.engines, "threads again"):
            settings, start = EngineConfig(name=name.split()[0], workers=arguments.workers), time.perf_counter()
            with open_executor(settings) as executor:
                score_pool(
                    pool, ImageReader(Uris(pool), 10**8), members, ScoringConfig(), Path(work) / name,
                    height=size.height, width=size.width, executor=executor,
                )  # fmt: skip
            seconds[name], digests[name] = time.perf_counter() - start, digest(Path(work) / name)
            print(f"{name:13} {seconds[name]:7.1f} s  {pool.num_rows / seconds[name]:6.0f} images/s", flush=True)
    local = min(seconds["threads"], seconds["threads again"])
    same = len(set(digests.values())) == 1
    print(f"same bytes of every part: {same}")
    for name in seconds:
        print(f"{name:13} / threads = {seconds[name] / local:.3f}")
    remote = [name for name in seconds if not name.startswith("threads")]
    sys.exit(0 if same and all(seconds[name] <= MOST_OVERHEAD * local for name in remote) else 1)


if __name__ == "__main__":
    main()
