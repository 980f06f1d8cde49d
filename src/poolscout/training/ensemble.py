"""An ensemble: members that differ in initialisation, data order and held-back images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from poolscout.config import DetectorConfig, TrainingConfig
from poolscout.detector.io import member_files, save_member
from poolscout.detector.member import Member
from poolscout.engine import Executor, SerialExecutor, available_cores, tell
from poolscout.training.dataset import TrainingSet
from poolscout.training.member import Progress, train_member

FOLD_SEED = 7919  # keeps the folds' shuffle apart from the members' seeds


def train_ensemble(
    data: TrainingSet,
    classes: Sequence[str],
    detector: DetectorConfig,
    training: TrainingConfig,
    out_dir: Path,
    members: int,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Callable[[int, Progress], None] | None = None,
    executor: Executor | None = None,
    start: Sequence[Member] = (),
) -> list[Path]:
    """Train `members` detectors into `out_dir`; one that is finished there already is kept.

    Args:
        data: all labelled images; each member holds back another part of them for calibration.
        classes: class names in the order of the class indices.
        detector, training: architecture and schedule.
        out_dir: gets member-0.safetensors, member-0.json, … each as soon as it and those before it are trained.
        members: how many.
        seed: of the ensemble; member i is seeded with seed · 1000 + i.
        device: where they train.
        progress: called with the member's number and where it stands; of members at the same time, in turns.
        executor: processes or actors train a member each; else they are trained one after the other. The number of
            threads of a training changes its last bits, and so, in the end, what it learns.
        start: members to begin with, on the CPU, in turns where they are fewer; default: from scratch.

    Returns:
        The members' paths, without suffix.

    Raises:
        NonFiniteError: the loss of a member is no longer a number.
        WorkerLostError: workers die again and again.
    """
    paths = [Path(out_dir) / f"member-{i}" for i in range(members)]
    missing = [i for i, path in enumerate(paths) if not all(file.is_file() for file in member_files(path))]
    executor = executor or SerialExecutor()
    where = "cuda" if executor.uses_gpus else str(device)
    job = _Training(data, tuple(classes), detector, training, seed, where, tuple(start))
    listener = None if progress is None else (lambda told: progress(*told))
    if executor.shares_memory:
        # One after the other: a training keeps the cores, or the GPU, of this process busy by itself.
        trained = SerialExecutor().map(job.train, missing, listener=listener)
    else:
        # Not by those that are missing: a run that goes on trains its last member as it would have the first time.
        alone = partial(_alone, job, min(executor.workers, members))
        trained = executor.map(_Training.train, missing, setup=alone, listener=listener)
    for i, member in zip(missing, trained, strict=True):
        save_member(paths[i], member)
    return paths


@dataclass(frozen=True)
class _Training:
    """What training a member takes."""

    data: TrainingSet
    classes: tuple[str, ...]
    detector: DetectorConfig
    training: TrainingConfig
    seed: int
    device: str
    start: tuple[Member, ...]

    def train(self, i: int) -> Member:
        start = self.start[i % len(self.start)] if self.start else None
        learnt, held = hold_back(self.data, self.training.hold_back, fold=i, seed=self.seed)
        return train_member(
            self.data.subset(learnt), self.classes, self.detector, self.training, self.seed * 1000 + i, self.device,
            self.data.subset(held), lambda state: tell((i, state)), start,
        )  # fmt: skip


def _alone(job: _Training, n_trained: int) -> _Training:
    """The job in a process of its own, where so many are trained side by side."""
    torch.set_num_threads(max(1, available_cores() // n_trained))
    return job


def hold_back(data: TrainingSet, share: float, fold: int, seed: int) -> tuple[list[int], list[int]]:
    """Positions to learn from and positions held back; whole sequences, another part for each fold.

    The shuffled sequences are laid in a ring; fold i starts where fold i − 1 ended and leaves out sequences that would
    hold back far too much. Where every sequence is too long for that, the shortest is held back. At least one
    sequence is always learnt from; with a single sequence nothing is held back.
    """
    by_sequence: dict[str, list[int]] = {}
    for position, sequence in enumerate(data.sequences):
        by_sequence.setdefault(sequence, []).append(position)
    groups = [by_sequence[name] for name in sorted(by_sequence)]
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed + FOLD_SEED)).tolist()
    wanted, held, at = share * len(data), list[int](), 0
    for _ in range(fold + 1):
        held, seen, taken = [], 0, 0
        while seen < len(order) and len(held) < wanted and taken < len(groups) - 1:
            group = groups[order[at % len(order)]]
            at, seen = at + 1, seen + 1
            if len(held) + 0.5 * len(group) <= wanted:
                held, taken = held + group, taken + 1
    if share > 0 and not held and len(groups) > 1:
        held = min(groups, key=len)
    kept = set(range(len(data))) - set(held)
    return sorted(kept), sorted(held)
