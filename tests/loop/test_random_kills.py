"""Killed at random moments, without power, with a full disk: the same command ends with the same selections."""

from __future__ import annotations

import multiprocessing
import random
import resource
import signal
from pathlib import Path

import pytest

from poolscout.config import RunConfig
from poolscout.errors import StorageError
from poolscout.loop import run
from tests.loop.kills import facts, images_of, kill_until_done, lost_and_double, seconds_of
from tests.loop.tiny import tiny_config, write_data
from tests.tables.powerloss import run_until_cut

KILLS, RAY_KILLS = 12, 1


def config_of(data: Path, **engine: object) -> RunConfig:
    """Many small shards, and little else."""
    training = {"training__members": 1, "training__min_steps": 10, "training__max_steps": 10}
    scoring = {"scoring__scorers": [{"scorer": "entropy"}], "scoring__shard_size": 3, "scoring__batch_size": 3}
    changes = {"evaluation__annotations": None, "report__images_per_round": 0, **training, **scoring, **engine}
    return tiny_config(data, rounds=1, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("tiny"))
    broken = folder / "images" / "pool-011.png"
    broken.write_bytes(broken.read_bytes()[:3000])
    return folder


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float]:
    out = tmp_path_factory.mktemp("whole") / "run"
    seconds_of(config_of(data), out)  # the server that is forked takes its time to start
    seconds = seconds_of(config_of(data), out.with_name("again"))
    whole = facts(out)
    assert facts(out.with_name("again")) == whole
    assert len(images_of(out / "round-000")) == 40 - 8
    return whole, seconds


def test_killed_at_random_moments(data: Path, unbroken: tuple[dict[str, object], float], tmp_path: Path) -> None:
    whole, seconds = unbroken
    dice, kills, runs = random.Random(0), 0, 0
    while kills < KILLS:
        out = tmp_path / f"run-{runs}"
        kills += kill_until_done(config_of(data), out, seconds / 3, dice)
        runs += 1
        assert lost_and_double(facts(out), whole) == (0, 0)
        assert facts(out) == whole


def test_killed_at_random_moments_on_ray(data: Path, unbroken: tuple[dict[str, object], float], tmp_path: Path) -> None:
    config = config_of(data, engine__name="ray", engine__workers=2)
    # Weights depend on how many threads a training has: they are compared with those of a whole run on Ray.
    seconds = seconds_of(config, tmp_path / "whole")
    whole, out = facts(tmp_path / "whole"), tmp_path / "run"
    assert whole["images"] == unbroken[0]["images"]
    kills = kill_until_done(config, out, seconds / 2, random.Random(2), most=RAY_KILLS)
    assert kills >= 1
    assert lost_and_double(facts(out), whole) == (0, 0)
    assert facts(out) == whole


def test_without_power_at_random_steps(data: Path, unbroken: tuple[dict[str, object], float], tmp_path: Path) -> None:
    dice, cuts, out = random.Random(1), 0, tmp_path / "run"
    while run_until_cut(
        run, (config_of(data), out), out, tmp_path / f"backups-{cuts}", dice.randint(0, 60 + 10 * cuts), seed=cuts
    ):
        cuts += 1
    assert cuts >= 2
    assert facts(out) == unbroken[0]


def _run_within(config: RunConfig, out: Path, most_bytes: int) -> None:
    """A file larger than this is refused by the kernel, as a full disk's would be."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        run(config, out)
    except StorageError as error:
        raise SystemExit(error.exit_code if "finished parts are kept" in str(error) else 1) from error


def test_refused_by_the_kernel_in_the_middle_of_a_file(
    data: Path, unbroken: tuple[dict[str, object], float], tmp_path: Path
) -> None:
    out, codes = tmp_path / "run", []
    for most_bytes in (1_000, 6_000, 12_000, 2**30):
        process = multiprocessing.get_context("forkserver").Process(
            target=_run_within, args=(config_of(data), out, most_bytes)
        )
        process.start()
        process.join()
        codes.append(process.exitcode)
        assert not list(out.rglob("*.tmp"))
    assert codes == [StorageError.exit_code] * 3 + [0]
    assert facts(out) == unbroken[0]
