"""The scoring pass against what it cannot do without: decoding alone plus bare forward passes alone.

All sides are timed alternately in one run, and the median ratio counts. Peak memory is taken in fresh processes at
10,000 and 40,000 images. Exit code 1 when a bound is missed.

    python benchmarks/scoring_pass.py [--images 960] [--members 6]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
from poolscout.engine.memory import keep_freed_memory
from poolscout.pool import ImageReader
from poolscout.scoring import score_pool
from poolscout.scoring.registry import aggregates, scorers
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import read_table

MOST_OVERHEAD, MOST_GROWTH = 1.10, 1.05
CLASSES = ("car", "person", "bicycle", "road sign", "traffic light")
FILES, FRAME = 48, (640, 380)  # distinct images, each used many times; width, height in px
DETECTOR = DetectorConfig()
SMALL = DetectorConfig(height=64, width=96, stem=4, widths=(4, 8, 8, 16), neck=8)  # memory is measured with it: quick
MANY, FOUR_TIMES_AS_MANY = 10_000, 40_000  # images whose peaks of memory are compared
PASSES = 8  # of MC-dropout


def choices(*names: str) -> tuple[ScorerChoice, ...]:
    """Every aggregate of some scorers."""
    return tuple(
        ScorerChoice(scorer=name, aggregate=aggregate, k=10 if aggregates.get(aggregate).takes_k else None)
        for name in names
        for aggregate in aggregates.names()
        if scorers.get(name).gives in aggregates.get(aggregate).of
    )


# The same arithmetic on all sides, whichever scorer comes first.
ONE = ScoringConfig(
    scorers=(ScorerChoice(scorer="mutual_information"),), min_probability=0.05, dropout_passes=PASSES, float32="off"
)
OF_MAPS = [name for name in scorers.names() if scorers.get(name).gives != "boxes" and name != "mc_dropout"]
ALL = ONE.model_copy(update={"scorers": choices(*OF_MAPS)})
ALL_AND_DROPOUT = ONE.model_copy(update={"scorers": choices(*OF_MAPS, "mc_dropout")})
EVERYTHING = ONE.model_copy(update={"scorers": choices(*scorers.names())})


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


def make_member(seed: int, architecture: DetectorConfig = DETECTOR) -> Member:
    """Untrained, with its maps spread out so that there are some peaks to decode."""
    torch.manual_seed(seed)
    model = UNet(len(CLASSES), architecture)
    with torch.no_grad():
        model.output.weight[: len(CLASSES)] *= 30
        model.output.bias[: len(CLASSES)] = -1.7
    calibration = Calibration(focus=2.0, biases=(0.0,) * len(CLASSES))
    return Member(
        model, MemberCard(architecture=architecture, classes=CLASSES, calibration=calibration, seed=seed, training={})
    )


def run_pass(images: Path, n_images: int, members: list[Member], config: ScoringConfig, out: Path) -> None:
    rows, reader = make_pool(images, n_images)
    size = members[0].architecture
    score_pool(rows, reader, members, config, out, height=size.height, width=size.width)


def decode_alone(images: Path, n_images: int) -> None:
    rows, reader = make_pool(images, n_images)
    ids = rows["image_id"].to_pylist()
    batches = (ids[start : start + ONE.batch_size] for start in range(0, n_images, ONE.batch_size))
    for _ in stream_batches(batches, reader, height=DETECTOR.height, width=DETECTOR.width, stage="bench"):
        pass


def forward_alone(n_images: int, members: list[Member], *, batch_a_thread: bool, dropout: bool = False) -> None:
    """The networks alone: no calibration, no boxes from the maps; the input is converted once for all members.

    Either all threads work on one batch, or each on a batch of its own: the pass is compared with the faster way.
    """
    pixels = torch.randint(0, 256, (ONE.batch_size, 3, DETECTOR.height, DETECTOR.width), dtype=torch.uint8)
    batches = range(0, n_images, ONE.batch_size)
    threads = torch.get_num_threads()
    if batch_a_thread:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            list(pool.map(lambda _: bare_forward(members, pixels, dropout), batches))
        torch.set_num_threads(threads)
    else:
        for _ in batches:
            bare_forward(members, pixels, dropout)


@torch.inference_mode()
def bare_forward(members: list[Member], pixels: torch.Tensor, dropout: bool) -> None:
    prepared = members[0].prepare(pixels)
    for number, member in enumerate(members):
        output = member._forward(prepared)
        if dropout and number == 0:
            for _ in range(PASSES):
                member._fused.head(output.encoding)


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
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--members", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.peak:
            run_pass(options.folder, options.peak, [make_member(seed, SMALL) for seed in range(2)], ALL, Path(scratch))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            return 0
        return compare(Path(scratch), options.images, options.members, options.repeats)


def compare(scratch: Path, n_images: int, n_members: int, repeats: int) -> int:
    images = scratch / "images"
    write_images(images)
    keep_freed_memory()
    members = [make_member(seed) for seed in range(n_members)]
    sides: dict[str, Callable[[Path], object]] = {
        "decode + fit alone": lambda out: decode_alone(images, n_images),
        "forward passes alone, batch by batch": lambda out: forward_alone(n_images, members, batch_a_thread=False),
        "forward passes alone, a batch a thread": lambda out: forward_alone(n_images, members, batch_a_thread=True),
        f"… with {PASSES} dropout passes of the head": lambda out: forward_alone(
            n_images, members, batch_a_thread=True, dropout=True
        ),
        "whole pass, MI max alone": lambda out: run_pass(images, n_images, members, ONE, out),
        f"whole pass, {len(OF_MAPS)} map scorers, {len(ALL.scorers)} scores": lambda out: run_pass(
            images, n_images, members, ALL, out
        ),
        f"… and MC-dropout, {len(ALL_AND_DROPOUT.scorers)} scores": lambda out: run_pass(
            images, n_images, members, ALL_AND_DROPOUT, out
        ),
        f"… and all scorers of boxes, {len(EVERYTHING.scorers)} scores": lambda out: run_pass(
            images, n_images, members, EVERYTHING, out
        ),
    }
    run_pass(images, 4 * ONE.batch_size, members, ALL_AND_DROPOUT, scratch / "warm")
    times = []
    for repeat in range(repeats):
        outs = [scratch / f"out-{repeat}-{number}" for number in range(len(sides))]
        times.append([seconds(partial(do, out)) for do, out in zip(sides.values(), outs, strict=True)])
    n_boxes = read_table(scratch / f"out-0-{len(sides) - 1}" / "detections", DETECTIONS).num_rows
    elapsed, processor = np.array(times).transpose(2, 0, 1)  # [repeats, sides]
    for name, s, cpu_s in zip(sides, np.median(elapsed, 0), np.median(processor, 0), strict=True):
        print(f"{name:48} {s:7.2f} s  {n_images / s:6.0f} images/s  {cpu_s:7.2f} s of processor")
    alone, by_batch, by_thread, with_dropout, one, everything, and_dropout, and_boxes = elapsed.T
    forward = min(by_batch, by_thread, key=np.median)  # the faster way; not the faster of two noisy figures each time
    small, large = peak_mib(images, MANY), peak_mib(images, FOUR_TIMES_AS_MANY)
    size = "×".join(map(str, FRAME))
    print(f"{n_images} images of {size} px, {n_members} members, {n_boxes / n_images:.1f} detections an image")
    print(f"medians of {repeats} repeats; ratios within a repeat, with the least and the greatest")
    bounds = [
        ("all map scorers / (decode + forward)", everything / (alone + forward), MOST_OVERHEAD),
        ("with MC-dropout / (decode + its forward)", and_dropout / (alone + with_dropout), MOST_OVERHEAD),
        ("all map scorers / MI max alone", everything / one, MOST_GROWTH),
        ("with scorers of boxes / without them", and_boxes / and_dropout, float("inf")),
        (
            f"peak memory at {FOUR_TIMES_AS_MANY:,} / {MANY:,} images ({small:.0f} MiB)",
            np.array([large / small]),
            MOST_GROWTH,
        ),
    ]
    for what, ratios, bound in bounds:
        ratio = float(np.median(ratios))
        spread = f"{ratios.min():.3f}–{ratios.max():.3f}"
        verdict = f"at most {bound:.2f}  {'ok' if ratio <= bound else 'MISSED'}" if bound < float("inf") else "no aim"
        print(f"{what:52} {ratio:6.3f}  {spread:12} {verdict}")
    return int(any(np.median(ratios) > bound for _, ratios, bound in bounds))


if __name__ == "__main__":
    sys.exit(main())
