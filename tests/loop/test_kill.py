"""SIGKILL in every stage: the same command goes on and ends with the same selections, byte for byte."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from poolscout.config import RunConfig
from poolscout.loop import run
from poolscout.tables import atomic
from tests.loop.tiny import selections, tiny_config, write_data

# The moment each of these files would be put in place, by the stage it belongs to.
MOMENTS = (
    "pool/images/part-00000.parquet",
    "pool/list.manifest.json",
    "initial/selection.parquet",
    "labels/labelled-00000.parquet",
    "round-000/labels.json",
    "round-000/models/member-0.json",
    "round-000/models/member-1.safetensors",
    "round-000/metrics.json",
    "round-000/detections/part-00001.parquet",
    "round-000/scores/part-00002.parquet",
    "round-000/selection.parquet",
    "labels/boxes-00001.parquet",
    "round-001/models/member-1.json",
    "round-001/scores/part-00000.parquet",
    "round-002/metrics.json",
    "references/random/labels/labelled-00001.parquet",
    "references/random/round-001/models/member-0.json",
    "references/random/round-001/selection.parquet",
    "report.html",
)


def kill_config(data: Path) -> RunConfig:
    return tiny_config(data, references__random=True)


def _run_until(data: Path, out: Path, moment: str) -> None:
    """In a process of its own: run, and be killed by SIGKILL just before `moment` is put in place."""
    sync = atomic._sync

    def sync_or_die(path: Path) -> None:
        if path.suffix == ".tmp" and path.parent / path.name[1:].rsplit(".", 2)[0] == out / moment:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    atomic._sync = sync_or_die
    run(kill_config(data), out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "run"
    run(kill_config(data), out)
    return selections(out)


@pytest.mark.parametrize("moments", [MOMENTS[::3], MOMENTS[1::3], MOMENTS[2::3]], ids=["first", "second", "third"])
def test_a_run_killed_at_these_moments_ends_with_the_same_selections(
    data: Path, whole: dict[str, bytes], tmp_path: Path, moments: tuple[str, ...]
) -> None:
    # A server that has imported torch but computed nothing is forked: no second start-up, no inherited threads.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["poolscout.loop"])
    for moment in moments:
        process = processes.Process(target=_run_until, args=(data, tmp_path / "run", moment))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, f"{moment} was never reached"
        assert not (tmp_path / "run" / moment).exists()
    run(kill_config(data), tmp_path / "run")
    assert selections(tmp_path / "run") == whole
    assert not list((tmp_path / "run").rglob("*.tmp"))
