"""What every registered executor promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray

from poolscout.config import EngineConfig
from poolscout.engine import Executor, executor_names, open_executor, tell
from poolscout.errors import ConfigError, DataError, WorkerLostError
from poolscout.pool import RejectedImage

pytestmark = pytest.mark.parametrize("name", executor_names())
REMOTE = ("processes", "ray")


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """Executors of this module share one Ray instead of starting one each."""
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def settings_of(name: str, workers: int) -> EngineConfig:
    return EngineConfig(name=name, workers=None if name == "serial" else workers)


@pytest.fixture
def executor(name: str) -> Iterator[Executor]:
    with open_executor(settings_of(name, 2)) as opened:
        yield opened


def square(x: int) -> int:
    return x * x


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(name: str, workers: int) -> None:
    with open_executor(settings_of(name, workers)) as executor:
        assert list(executor.map(square, range(50))) == [x * x for x in range(50)]
        assert list(executor.map(str, range(3))) == ["0", "1", "2"], "it can be used again"


def test_nothing_in_nothing_out(executor: Executor) -> None:
    assert list(executor.map(str, [])) == []


def fail_at_three(folder: Path, x: int) -> int:
    (folder / str(x)).touch()
    if x == 3:
        raise DataError("three", got=x, expected="another number", fix="none")
    return x


def test_the_first_error_reaches_the_reader_and_stops_the_rest(executor: Executor, tmp_path: Path) -> None:
    results = executor.map(partial(fail_at_three, tmp_path), range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="three") as caught:
        next(results)
    assert (caught.value.got, caught.value.fix) == (3, "none")
    assert len(list(tmp_path.iterdir())) < 20


def reject(x: int) -> int:
    raise RejectedImage("truncated", f"image {x}")


def test_errors_with_other_arguments_arrive_whole(executor: Executor) -> None:
    with pytest.raises(RejectedImage) as caught:
        list(executor.map(reject, [7]))
    assert (caught.value.reason, caught.value.detail) == ("truncated", "image 7")


def test_only_a_bounded_number_of_items_is_taken_ahead(executor: Executor) -> None:
    taken = 0
    lock = threading.Lock()

    def items() -> Iterator[int]:
        nonlocal taken
        for x in range(1000):
            with lock:
                taken += 1
            yield x

    results = executor.map(square, items())
    for _ in range(10):
        next(results)
    assert taken <= 10 + 2 * 2 + 1
    results.close() if hasattr(results, "close") else None


def set_up(folder: Path) -> str:
    with (folder / f"{os.getpid()}").open("a") as file:
        file.write("x")
    return "ready"


def with_state(state: str, x: int) -> tuple[str, int]:
    return state, x


def test_a_worker_is_set_up_once(executor: Executor, tmp_path: Path) -> None:
    results = list(executor.map(with_state, range(20), setup=partial(set_up, tmp_path)))
    assert results == [("ready", x) for x in range(20)]
    times = [path.read_text() for path in tmp_path.iterdir()]
    assert 1 <= len(times) <= 2
    assert set(times) == {"x"}


def fail_at_two_before_one_is_done(folder: Path, n: int, state: str, x: int) -> int:
    if x == 0:  # with all workers there, 2 does not have to wait for the one that does 1
        eventually(lambda: [1] * len(list(folder.iterdir())), lambda workers: len(workers) >= n)
    if x == 1:
        eventually(lambda: [1] * (folder / "failed").exists(), bool, 5)
        time.sleep(0.3)  # the error is there before the result
    if x == 2:
        (folder / "failed").touch()
        raise DataError("two")
    return x


def test_an_error_waits_for_the_results_before_it(name: str, executor: Executor, tmp_path: Path) -> None:
    if name == "serial":
        pytest.skip("it does one after the other")
    work = partial(fail_at_two_before_one_is_done, tmp_path, 2 if name in REMOTE else 1)
    results = executor.map(work, range(1000), setup=partial(set_up, tmp_path))
    assert [next(results) for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="two"):
        next(results)


def fail_to_set_up() -> str:
    raise DataError("no models")


def test_a_set_up_that_fails_says_why(executor: Executor) -> None:
    with pytest.raises(DataError, match="no models"):
        list(executor.map(with_state, range(20), setup=fail_to_set_up))


def say(x: int) -> int:
    tell(("half", x))
    tell(("done", x))
    return x


def test_what_workers_tell_reaches_the_listener(executor: Executor) -> None:
    heard: list[object] = []
    assert list(executor.map(say, range(6), listener=heard.append)) == list(range(6))
    assert sorted(heard) == sorted([("half", x) for x in range(6)] + [("done", x) for x in range(6)])
    assert list(executor.map(say, range(3))) == [0, 1, 2], "and without one it is lost"


def die_once(folder: Path, x: int) -> int:
    marker = folder / f"died-{x}"
    if x % 7 == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def die(x: int) -> int:
    if x == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_a_lost_worker_is_replaced_and_its_work_done_again(name: str, executor: Executor, tmp_path: Path) -> None:
    if name not in REMOTE:
        pytest.skip("its workers are this process")
    assert list(executor.map(partial(die_once, tmp_path), range(12))) == [x * x for x in range(12)]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_worker_lost_while_the_reader_is_slow_loses_nothing(name: str, executor: Executor, tmp_path: Path) -> None:
    if name not in REMOTE:
        pytest.skip("its workers are this process")
    results = []
    for result in executor.map(partial(die_once, tmp_path), range(24)):
        time.sleep(0.05)  # the pool breaks while nobody waits for it
        results.append(result)
    assert results == [x * x for x in range(24)]


def test_work_that_kills_every_worker_is_given_up(name: str) -> None:
    if name not in REMOTE:
        pytest.skip("its workers are this process")
    with open_executor(EngineConfig(name=name, workers=2, retries=1)) as executor:
        results = executor.map(die, range(100))
        with pytest.raises(WorkerLostError, match="again and again"):
            list(results)


def test_no_workers_and_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        EngineConfig(name=name, workers=0)
    unknown = EngineConfig().model_copy(update={"name": f"{name}x"})
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"), open_executor(unknown):
        pytest.fail("opened")


DRIVER = """
import sys, time
from poolscout.config import EngineConfig
from poolscout.engine import open_executor
from tests.contracts.test_executors import note_and_wait
from functools import partial
from pathlib import Path
if __name__ == "__main__":
    with open_executor(EngineConfig(name=sys.argv[1], workers=2)) as executor:
        list(executor.map(partial(note_and_wait, Path(sys.argv[2])), range(9), listener=print))
"""


def note_and_wait(folder: Path, x: int) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def test_workers_end_with_the_process_that_started_them(name: str, tmp_path: Path) -> None:
    if name not in REMOTE:
        pytest.skip("its workers are this process")
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    command = [sys.executable, str(script), name, str(tmp_path)]
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, stderr=subprocess.DEVNULL)
    pids = eventually(lambda: [int(p.stem) for p in tmp_path.glob("*.pid")], lambda pids: len(pids) == 2)
    driver.kill()
    driver.wait()
    assert eventually(lambda: [pid for pid in pids if psutil.pid_exists(pid)], lambda left: not left) == []


def eventually(look: Callable[[], list[int]], enough: Callable[[list[int]], bool], patience_s: float = 90) -> list[int]:
    end = time.monotonic() + patience_s
    while not enough(found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found
