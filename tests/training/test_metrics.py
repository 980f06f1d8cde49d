"""The curves of a training: what they say, and that they change nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from poolscout.errors import StorageError
from poolscout.training import train_ensemble
from poolscout.training.member import Progress, one_cycle
from poolscout.training.metrics import EnsembleMetrics, ensemble_metrics, write_round_metrics
from tests.training.test_ensemble import SHORT, TINY, make_data

LONGER = SHORT.model_copy(update={"min_steps": 20, "max_steps": 20})


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Every figure of the one event file in a folder, by tag and step; read by the format's definition."""
    (file,) = folder.iterdir()
    assert "tfevents" in file.name
    data, at, found = file.read_bytes(), 0, {}
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def train(out: Path, progress=None) -> dict[str, bytes]:
    data = make_data([str(i) for i in range(8)])
    train_ensemble(data, ["a"], TINY, LONGER, out, members=2, seed=0, progress=progress)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_curves_are_what_was_reported_and_change_no_weight(tmp_path: Path) -> None:
    told: dict[tuple[int, int], Progress] = {}
    with ensemble_metrics(tmp_path / "metrics") as metrics:

        def both(member: int, state: Progress) -> None:
            told[member, state.step] = state
            metrics(member, state)

        watched = train(tmp_path / "watched", both)
    assert watched == train(tmp_path / "alone")
    assert set(told) == {(member, step) for member in (0, 1) for step in (10, 20)}
    for (member, step), state in told.items():
        found = {tag: curve[step] for tag, curve in scalars(tmp_path / "metrics" / f"member-{member}").items()}
        assert found == pytest.approx(
            {
                "loss/total": state.loss, "loss/map": state.map_loss, "loss/box": state.box_loss,
                "learning_rate": LONGER.learning_rate * one_cycle((step - 0.5) / 20), "crops_per_s": state.crops_per_s,
            }
        )  # fmt: skip
        assert state.loss == pytest.approx(state.map_loss + LONGER.box_weight * state.box_loss, rel=1e-5)


def state(step: int, loss: float) -> Progress:
    return Progress(step, 30, loss, 1.0, 1.0, 1.0, 0.1)


def test_a_member_that_begins_again_replaces_its_curves(tmp_path: Path) -> None:
    with ensemble_metrics(tmp_path) as metrics:
        for member, step, loss in ((0, 10, 5.0), (1, 10, 6.0), (0, 20, 4.0), (1, 20, 3.0)):  # trained side by side
            metrics(member, state(step, loss))
        metrics(0, state(10, 9.0))  # its worker was lost
    assert scalars(tmp_path / "member-0")["loss/total"] == {10: 9.0}
    assert scalars(tmp_path / "member-1")["loss/total"] == {10: 6.0, 20: 3.0}
    with ensemble_metrics(tmp_path) as metrics:  # the next process: only member 1 was not finished
        metrics(1, state(10, 7.0))
    assert scalars(tmp_path / "member-0")["loss/total"] == {10: 9.0}
    assert scalars(tmp_path / "member-1")["loss/total"] == {10: 7.0}


def test_rounds_are_one_curve(tmp_path: Path) -> None:
    for n_rounds in (1, 2):
        rounds = {number: {"AP50": number / 4, "wMAP": None} for number in range(n_rounds)}
        write_round_metrics(tmp_path / "rounds", rounds)
    assert scalars(tmp_path / "rounds") == {"AP50": {0: 0.0, 1: 0.25}}


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file")
    with pytest.raises(StorageError):
        EnsembleMetrics(tmp_path / "metrics")(0, state(10, 1.0))
