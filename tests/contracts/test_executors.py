"""What every registered executor promises."""

from __future__ import annotations

import threading

import pytest

from poolscout.engine import executor_names, make_executor
from poolscout.errors import ConfigError

pytestmark = pytest.mark.parametrize("name", executor_names())


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(name: str, workers: int) -> None:
    assert list(make_executor(name, workers).map(lambda x: x * x, range(50))) == [x * x for x in range(50)]


def test_nothing_in_nothing_out(name: str) -> None:
    assert list(make_executor(name, 2).map(str, [])) == []


def test_the_first_error_reaches_the_reader_and_stops_the_rest(name: str) -> None:
    seen: list[int] = []

    def fail_at_three(x: int) -> int:
        seen.append(x)
        if x == 3:
            raise ValueError("three")
        return x

    results = make_executor(name, 2).map(fail_at_three, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(seen) < 20


def test_only_a_bounded_number_of_items_is_taken_ahead(name: str) -> None:
    taken = 0
    lock = threading.Lock()

    def items():
        nonlocal taken
        for x in range(1000):
            with lock:
                taken += 1
            yield x

    results = make_executor(name, 2).map(lambda x: x, items())
    for _ in range(10):
        next(results)
    assert taken <= 10 + 2 * 2 + 1
    results.close() if hasattr(results, "close") else None


def test_no_workers_and_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        make_executor(name, 0)
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        make_executor(name + "x", 1)
