"""What a training reports, as TensorBoard events: `tensorboard --logdir RUN/metrics` draws it while it trains."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from poolscout.tables.atomic import storage_errors
from poolscout.training.member import Progress

FLUSH_EVERY_S = 10.0  # a flush waits for the disk


class EnsembleMetrics:
    """Writes each member's reports into a folder of its own, `member-0`, `member-1` …

    A member that begins again, in this process or a later one, replaces its folder. All is done in the calling thread.

    Args:
        folder: holds the members' folders.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._open: dict[int, _Events] = {}

    def __call__(self, member: int, state: Progress) -> None:
        """Write where the training of a member stands.

        Raises:
            StorageError: the disk is full or refuses.
        """
        with storage_errors(self.folder):
            events = self._open.get(member)
            if events is None or state.step <= events.step:
                self._close(member)
                events = self._open[member] = _Events(self.folder / f"member-{member}")
            figures = {
                "loss/total": state.loss, "loss/map": state.map_loss, "loss/box": state.box_loss,
                "learning_rate": state.learning_rate, "crops_per_s": state.crops_per_s,
            }  # fmt: skip
            events.write(state.step, figures)
            if state.step == state.steps:
                self._close(member)

    def close(self) -> None:
        """Write what is still held back."""
        with storage_errors(self.folder):
            for member in list(self._open):
                self._close(member)

    def _close(self, member: int) -> None:
        if (events := self._open.pop(member, None)) is not None:
            events.close()


@contextmanager
def ensemble_metrics(folder: Path) -> Iterator[EnsembleMetrics]:
    """A listener for `train_ensemble` that is closed at the end of the block."""
    metrics = EnsembleMetrics(folder)
    try:
        yield metrics
    finally:
        metrics.close()


def write_round_metrics(folder: Path, rounds: Mapping[int, Mapping[str, float | None]]) -> None:
    """Figures of every round so far, over the number of the round; replaces what the folder held.

    Args:
        folder: gets one event file.
        rounds: number of the round → name → figure; None is left out.

    Raises:
        StorageError: the disk is full or refuses.
    """
    with storage_errors(folder):
        events = _Events(folder)
        for number, figures in rounds.items():
            events.write(number, {name: value for name, value in figures.items() if value is not None})
        events.close()


class _Events:
    """One event file in a folder that held others before."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.step, self._flushed = -1, time.monotonic()
        self._file = EventsWriter(str(folder / "events"))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._file.write_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
        self.step = step
        if time.monotonic() - self._flushed >= FLUSH_EVERY_S:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._file.close()
