"""What a meter says of a task's speed and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.engine import progress
from poolscout.engine.progress import Meter, resident_bytes


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_an_earlier_process_did_is_not_speed() -> None:
    clock = Clock()
    meter = Meter(1000, clock)
    assert (meter.rate, meter.left_s) == (None, None)
    meter.update(400)
    assert meter.rate is None
    clock.now += 10
    meter.update(500, "loss 1")
    assert (meter.rate, meter.left_s, meter.seconds, meter.note) == (10.0, 50.0, 10.0, "loss 1")
    clock.now += 10
    meter.update(500)
    assert (meter.rate, meter.left_s, meter.note) == (5.0, 100.0, "loss 1")


@given(steps=st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 50)), min_size=2, max_size=20))
@settings(max_examples=30, deadline=None)
def test_the_rate_lies_between_the_slowest_and_the_fastest_step(steps: list[tuple[float, int]]) -> None:
    clock, done = Clock(), 0
    meter = Meter(10_000, clock)
    meter.update(0)
    for seconds, units in steps:
        clock.now += seconds
        done += units
        meter.update(done)
    rates = [units / seconds for seconds, units in steps]
    assert min(rates) * 0.999 <= meter.rate <= max(rates) * 1.001
    assert meter.left_s == pytest.approx((10_000 - done) / meter.rate)


def test_memory_is_looked_at_once_a_second_and_its_peak_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([10, 70, 30, 20])
    monkeypatch.setattr(progress, "resident_bytes", lambda: next(sizes))
    clock = Clock()
    meter = Meter(10, clock)
    for done in range(11):  # 0.2 s apart: looked at twice in 2 s
        meter.update(done)
        clock.now += 0.2
    assert (meter.resident_bytes, meter.peak_bytes) == (30, 70)
    meter.look()
    assert (meter.resident_bytes, meter.peak_bytes) == (20, 70)


def test_children_count() -> None:
    before = resident_bytes()
    hold = "data = bytearray(64 * 2**20); print('here', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout.readline() == b"here\n"
        assert resident_bytes() - before > 60 * 2**20
        child.communicate(b"\n")
