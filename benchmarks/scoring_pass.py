"""The scoring pass against what it cannot do without: decoding alone plus bare forward passes alone.

Both sides are timed alternately in one run, and the best of each counts. Peak memory is taken in fresh processes at n
and at 4n images. Exit code 1 when a bound is missed.

    python benchmarks/scoring_pass.py [--images 480] [--members 6]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from poolscout.config import DetectorConfig, ScorerChoice, ScoringConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.detector.stream import stream_batches
from poolscout.pool import ImageReader
from poolscout.scoring import score_pool
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import read_table

MOST_OVERHEAD, MOST_GROWTH = 1.10, 1.05
CLASSES = ("car", "person", "bicycle", "road sign", "traffic light")
FILES, FRAME = 48, (640, 380)  # distinct images, each used many times; width, height in px
DETECTOR = DetectorConfig()
ONE = ScoringConfig(
    scorers=(ScorerChoice(scorer="mutual_information"),), min_probability=0.001, max_boxes=15, shard_size=200
)
ALL = ONE.model_copy(
    update={
        "scorers": tuple(
            ScorerChoice(scorer=scorer, aggregate=aggregate)
            for scorer in ("mutual_information", "entropy")
            for aggregate in ("max", "average")
        )
    }
)


def write_images(folder: Path) -> None:
    """Smooth random scenes with some texture, so that JPEG decoding costs what it costs on photographs."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        coarse = Image.fromarray(generator.integers(0, 255, (24, 40, 3), dtype=np.uint8)).resize(FRAME, Image.BICUBIC)
        noisy = np.asarray(coarse, np.int16) + generator.integers(-12, 12, (FRAME[1], FRAME[0], 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)


def make_pool(folder: Path, n_images: int) -> tuple[pa.Table, ImageReader]:
    ids = [f"{number:07d}" for number in range(n_images)]
    uris = {image_id: str(folder / f"{number % FILES}.jpg") for number, image_id in enumerate(ids)}
    return pa.table({"image_id": ids}), ImageReader(uris, max_pixels=10**8)


def make_member(seed: int) -> Member:
    """Untrained, with its maps spread out so that there are some peaks to decode."""
    torch.manual_seed(seed)
    model = UNet(len(CLASSES), DETECTOR)
    with torch.no_grad():
        model.output.weight[: len(CLASSES)] *= 30
        model.output.bias[: len(CLASSES)] = -4
    calibration = Calibration(focus=2.0, biases=(0.0,) * len(CLASSES))
    return Member(
        model, MemberCard(architecture=DETECTOR, classes=CLASSES, calibration=calibration, seed=seed, training={})
    )


def run_pass(images: Path, n_images: int, members: list[Member], config: ScoringConfig, out: Path) -> None:
    rows, reader = make_pool(images, n_images)
    score_pool(rows, reader, members, config, out, height=DETECTOR.height, width=DETECTOR.width)


def decode_alone(images: Path, n_images: int) -> None:
    rows, reader = make_pool(images, n_images)
    ids = rows["image_id"].to_pylist()
    batches = (ids[start : start + ONE.batch_size] for start in range(0, n_images, ONE.batch_size))
    for _ in stream_batches(batches, reader, height=DETECTOR.height, width=DETECTOR.width, stage="bench"):
        pass


def forward_alone(n_images: int, members: list[Member]) -> None:
    pixels = torch.randint(0, 256, (ONE.batch_size, 3, DETECTOR.height, DETECTOR.width), dtype=torch.uint8)
    for _ in range(0, n_images, ONE.batch_size):
        for member in members:
            bare_forward(member, pixels)


@torch.inference_mode()
def bare_forward(member: Member, pixels: torch.Tensor) -> None:
    """The network alone: no calibration, no boxes from the maps."""
    x = pixels.to(torch.float32, memory_format=torch.channels_last) / 255
    with torch.autocast("cpu", torch.bfloat16, enabled=member._bf16):
        member._forward(x)


def seconds(do: Callable[[], object]) -> tuple[float, float]:
    """(elapsed, summed over the cores)."""
    start, cpu_start = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - start, time.process_time() - cpu_start


def peak_mib(images: Path, n_images: int) -> float:
    """Peak resident memory of a fresh process that scores `n_images`."""
    command = [sys.executable, __file__, "--peak", str(n_images), "--folder", str(images)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.peak:
            run_pass(options.folder, options.peak, [make_member(0), make_member(1)], ALL, Path(scratch))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return 0
        return compare(Path(scratch), options.images, options.members, options.repeats)


def compare(scratch: Path, n_images: int, n_members: int, repeats: int) -> int:
    images = scratch / "images"
    write_images(images)
    members = [make_member(seed) for seed in range(n_members)]
    sides: dict[str, Callable[[Path], object]] = {
        "decode + fit alone": lambda out: decode_alone(images, n_images),
        "bare forward passes alone": lambda out: forward_alone(n_images, members),
        "whole pass, one score": lambda out: run_pass(images, n_images, members, ONE, out),
        "whole pass, all scores": lambda out: run_pass(images, n_images, members, ALL, out),
    }
    forward_alone(ONE.batch_size, members)  # warm up
    best = dict.fromkeys(sides, (float("inf"), float("inf")))
    for repeat in range(repeats):
        for number, (name, do) in enumerate(sides.items()):
            out = scratch / f"out-{repeat}-{number}"
            best[name] = min(best[name], seconds(lambda do=do, out=out: do(out)))
    n_boxes = read_table(out / "detections", DETECTIONS).num_rows
    for name, (elapsed_s, cpu_s) in best.items():
        print(f"{name:28} {elapsed_s:7.2f} s  {n_images / elapsed_s:6.0f} images/s  {cpu_s:7.2f} s of processor")
    (alone, _), (forward, _), (one, _), (everything, _) = best.values()
    small, large = peak_mib(images, 2 * n_images), peak_mib(images, 8 * n_images)
    size = "×".join(map(str, FRAME))
    print(f"{n_images} images of {size} px, {n_members} members, {n_boxes / n_images:.1f} detections an image")
    bounds = [
        ("whole pass / (decode + forward)", everything / (alone + forward), MOST_OVERHEAD),
        ("all scores / one score", everything / one, MOST_GROWTH),
        (f"peak memory at {8 * n_images} / {2 * n_images} images ({small:.0f} MiB)", large / small, MOST_GROWTH),
    ]
    for what, ratio, bound in bounds:
        print(f"{what:56} {ratio:6.3f}  at most {bound:.2f}  {'ok' if ratio <= bound else 'MISSED'}")
    return int(any(ratio > bound for _, ratio, bound in bounds))


if __name__ == "__main__":
    sys.exit(main())
