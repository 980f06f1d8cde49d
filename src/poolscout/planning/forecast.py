"""From what was measured on a sample to what the whole will take. Plain arithmetic: nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from poolscout.config import RunConfig, TrainingConfig
from poolscout.training.member import n_steps

REFERENCES = ("random", "full")


@dataclass(frozen=True)
class Figure:
    """A number with the interval it lies in: two standard errors around a sample's mean, or two bounds."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, sample: Sequence[float] | np.ndarray) -> Figure:
        """The mean of a sample, not below 0."""
        values = np.asarray(sample, np.float64)
        mean = float(values.mean())
        error = 2 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        return cls(mean, max(mean - error, 0.0), mean + error)

    @classmethod
    def exactly(cls, value: float) -> Figure:
        return cls(value, value, value)

    def __mul__(self, factor: float) -> Figure:
        return Figure(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, other: Figure) -> Figure:
        return Figure(self.value + other.value, self.low + other.low, self.high + other.high)


ZERO = Figure.exactly(0.0)


@dataclass(frozen=True)
class Growth:
    """Seconds of a selection over the number of candidates, the batch growing with them: seconds · (n / at)^exponent.

    Attributes:
        at: the largest number measured; from there on it is an extrapolation.
        seconds: measured there.
        exponent: measured between the two largest numbers; not below 1, as every candidate is looked at.
    """

    at: int
    seconds: Figure
    exponent: Figure

    def seconds_for(self, n: int) -> Figure:
        if n <= self.at:
            return self.seconds * (n / self.at)
        more = n / self.at
        return Figure(
            self.seconds.value * more**self.exponent.value,
            self.seconds.low * more**self.exponent.low,
            self.seconds.high * more**self.exponent.high,
        )


@dataclass(frozen=True)
class Measured:
    """What one machine took for a sample; seconds of wall clock with all its cores, or its GPU.

    Attributes:
        names_s: naming every image of the pool and reading all that the oracle knows, in full; 0 when it was listed.
        header_s: an image's header; zero when it was listed, or naming the images checks it.
        names_network_bytes, header_network_bytes: what these two read from other machines.
        row_disk_bytes, row_memory_bytes: an image's row of the pool table, in its file and in memory.
        encoded_bytes: an image as it is stored.
        remote: share of the sample that is not on a disk of this machine.
        read_s: an image from its storage to the detector's input.
        score_s: the same, and all that scoring does.
        step_s, calibrate_s: an optimiser step; a held-back image at the end of a member's training.
        member_bytes: a member's files.
        test_s, test_disk_bytes, test_encoded_bytes: a test image, for each member; None without test images.
        score_disk_bytes: an image's rows of all that scoring writes; from no box to as many as may be stored.
        selection: None for samplers that could not be measured.
        candidate_bytes: an image's scores and embedding in memory.
        base_bytes: memory of this process when it had done all this.
        pass_bytes: and at its highest in a pass over images.
        train_bytes: and at its highest in a training, without the labelled images' pixels.
    """

    names_s: float
    header_s: Figure
    names_network_bytes: float
    header_network_bytes: Figure
    row_disk_bytes: float
    row_memory_bytes: float
    encoded_bytes: Figure
    remote: float
    read_s: Figure
    score_s: Figure
    step_s: Figure
    calibrate_s: Figure
    member_bytes: float
    test_s: Figure
    test_disk_bytes: float
    test_encoded_bytes: Figure
    score_disk_bytes: Figure
    selection: Growth | None
    candidate_bytes: float
    base_bytes: float
    pass_bytes: float
    train_bytes: float


@dataclass(frozen=True)
class Extent:
    """How much there is to do.

    Attributes:
        pool: images in the pool that may be picked.
        test: test images.
        initial: images labelled before the first round.
        memory_bytes: of this machine; labelled images that fill more than a quarter of it are mapped from a file.
        listed: images that the pool's source names; more than `pool` where there is a short-list.
    """

    pool: int
    test: int
    initial: int
    memory_bytes: int
    listed: int

    def labelled(self, config: RunConfig, number: int) -> int:
        """Images that the training of a round learns from."""
        return min(self.initial + number * config.selection.n, self.pool)


@dataclass(frozen=True)
class StagePlan:
    """What one stage of one round will take.

    Attributes:
        seconds: for each number of workers asked about; None where it could not be measured.
        memory_bytes: at its highest.
        disk_bytes: what it leaves on disk.
        network_bytes: what it reads from other machines.
    """

    stage: str
    round: int | None
    seconds: dict[int, Figure | None]
    memory_bytes: float
    disk_bytes: Figure
    network_bytes: Figure


@dataclass(frozen=True)
class Plan:
    """A forecast and what it rests on.

    Attributes:
        workers: numbers of machines like this one that were asked about.
        stages: in the order of the run.
        notes: how it was measured, and what was not.
    """

    images: int
    workers: tuple[int, ...]
    stages: tuple[StagePlan, ...]
    measured: Measured
    notes: tuple[str, ...]

    def seconds(self, workers: int) -> Figure:
        """Of all stages that could be measured."""
        return sum((figure for stage in self.stages if (figure := stage.seconds[workers]) is not None), ZERO)

    @property
    def memory_bytes(self) -> float:
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def disk_bytes(self) -> Figure:
        return sum((stage.disk_bytes for stage in self.stages), ZERO)

    @property
    def network_bytes(self) -> Figure:
        return sum((stage.network_bytes for stage in self.stages), ZERO)

    def to_json(self) -> dict[str, Any]:
        total = {
            "seconds": {workers: asdict(self.seconds(workers)) for workers in self.workers},
            "memory_bytes": self.memory_bytes, "disk_bytes": asdict(self.disk_bytes),
            "network_bytes": asdict(self.network_bytes),
        }  # fmt: skip
        return {**asdict(self), "total": total}


def forecast(
    measured: Measured, extent: Extent, config: RunConfig, workers: Sequence[int], notes: Sequence[str] = ()
) -> Plan:
    """What a run takes.

    A worker is a machine like the one that was measured. Members are trained side by side, each on one worker; scoring
    is shared by all; the rest is done by one.

    Args:
        measured: on a sample.
        extent: of the whole.
        config: of the run.
        workers: numbers of machines.
        notes: of the measurement.
    """
    reckon = _Reckoning(measured, extent, config, tuple(workers))
    stages = [reckon.listing()]
    for number in range(config.rounds + 1):
        n_labelled = extent.labelled(config, number)
        stages += reckon.trained_and_evaluated("", number, n_labelled, config.training.members)
        if number < config.rounds:
            n_scored = extent.pool - (n_labelled if config.scoring.over == "unlabelled" else 0)
            stages += [reckon.scored(number, n_scored), reckon.selected(number, n_scored)]
    members = config.references.members
    if config.references.random:
        for number in range(1, config.rounds + 1):
            n_labelled = extent.labelled(config, number)
            stages += reckon.trained_and_evaluated("random reference: ", number, n_labelled, members)
    if config.references.full:
        stages += reckon.trained_and_evaluated("full reference: ", 0, extent.pool, members)
    return Plan(extent.pool, tuple(workers), tuple(stages), measured, tuple(notes))


@dataclass(frozen=True)
class _Reckoning:
    measured: Measured
    extent: Extent
    config: RunConfig
    workers: tuple[int, ...]

    def listing(self) -> StagePlan:
        m, n = self.measured, self.extent.listed
        seconds = Figure.exactly(m.names_s) + m.header_s * n
        memory = m.base_bytes + 2 * n * m.row_memory_bytes  # the batches, and the table they become
        network = Figure.exactly(m.names_network_bytes) + m.header_network_bytes * n
        disk = Figure.exactly(n * m.row_disk_bytes)
        return StagePlan("list", None, self._by_one(seconds), memory, disk, network)

    def trained_and_evaluated(self, arm: str, number: int, n_labelled: int, members: int) -> list[StagePlan]:
        trained = [self.trained(arm, number, n_labelled, members)]
        return trained + ([self.evaluated(arm, number, members)] if self.extent.test else [])

    def trained(self, arm: str, number: int, n_labelled: int, members: int) -> StagePlan:
        m, detector = self.measured, self.config.detector
        n_held = round(self.config.training.hold_back * n_labelled)
        one = m.step_s * steps_of(self.config.training, n_labelled) + m.calibrate_s * n_held
        reading = m.read_s * n_labelled
        seconds: dict[int, Figure | None] = {k: reading + one * math.ceil(members / k) for k in self.workers}
        pixels = n_labelled * 3 * detector.height * detector.width
        held = pixels if pixels <= self.extent.memory_bytes / 4 else 0
        return StagePlan(
            f"{arm}train", number, seconds, m.train_bytes + held + self._pool_table,
            Figure.exactly(members * m.member_bytes), m.encoded_bytes * (n_labelled * m.remote),
        )  # fmt: skip

    def evaluated(self, arm: str, number: int, members: int) -> StagePlan:
        m, n = self.measured, self.extent.test
        return StagePlan(
            f"{arm}evaluate", number, self._by_one(m.test_s * (n * members)), m.pass_bytes + self._pool_table,
            Figure.exactly(m.test_disk_bytes * n * members), m.test_encoded_bytes * n,
        )  # fmt: skip

    def scored(self, number: int, n: int) -> StagePlan:
        m = self.measured
        seconds: dict[int, Figure | None] = {k: m.score_s * (n / k) for k in self.workers}
        return StagePlan(
            "score", number, seconds, m.pass_bytes + self._pool_table, m.score_disk_bytes * n,
            m.encoded_bytes * (n * m.remote),
        )  # fmt: skip

    def selected(self, number: int, n: int) -> StagePlan:
        m = self.measured
        seconds: dict[int, Figure | None] = dict.fromkeys(self.workers)
        if m.selection is not None:
            seconds = self._by_one(m.selection.seconds_for(n))
        memory = m.base_bytes + self._pool_table + n * m.candidate_bytes
        return StagePlan("select", number, seconds, memory, ZERO, ZERO)

    @property
    def _pool_table(self) -> float:
        return self.extent.pool * self.measured.row_memory_bytes

    def _by_one(self, seconds: Figure) -> dict[int, Figure | None]:
        return dict.fromkeys(self.workers, seconds)


def steps_of(training: TrainingConfig, n_labelled: int) -> int:
    """Optimiser steps of a member that learns from so many labelled images but those it holds back."""
    return n_steps(n_labelled - round(training.hold_back * n_labelled), training)
