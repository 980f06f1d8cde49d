"""Runs that are killed, again and again, in one folder; and what must be true of them in the end."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq

from poolscout.config import RunConfig
from poolscout.loop import run
from tests.loop.tiny import selections


def start(config: RunConfig, out: Path) -> multiprocessing.process.BaseProcess:
    """Begin or continue a run in a process, and a session, of its own."""
    # A server that has imported torch but computed nothing is forked: no second start-up, no inherited threads.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["__main__", "pandas", "poolscout.loop", "tests.loop.kills", "tests.tables.passes"]
    )
    process = processes.Process(target=_run, args=(config, out))
    process.start()
    return process


def _run(config: RunConfig, out: Path) -> None:
    os.setsid()  # what it starts can be ended with it
    run(config, out)


def seconds_of(config: RunConfig, out: Path) -> float:
    """How long an unbroken run takes."""
    began = time.monotonic()
    process = start(config, out)
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def kill_until_done(
    config: RunConfig, out: Path, longest_s: float, dice: random.Random, most: int | None = None
) -> int:
    """Start a run in `out` until it ends by itself, and kill it each time after a random while; returns the kills.

    Args:
        longest_s: of the first while; it grows a little with each, so that the run gets through its longest work.
        most: after so many kills it is left to its end.
    """
    kills, sessions = 0, list[int | None]()
    while True:
        process = start(config, out)
        process.join(None if kills == most else dice.uniform(0, longest_s * 1.1**kills))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)  # it alone: its workers see for themselves
            process.join()
        # Workers that outlive their run may meet the next one, but do not pile up.
        for session in sessions:
            _end(session)
        sessions = [process.pid]
        if process.exitcode != -signal.SIGKILL:
            break
        kills += 1
    _end(process.pid)
    assert process.exitcode == 0, f"after {kills} kills the run fails"
    return kills


def _end(session: int | None) -> None:
    try:
        os.killpg(session or 0, signal.SIGKILL)
    except ProcessLookupError:
        return  # all have ended


def facts(out: Path) -> dict[str, object]:
    """What a run must come to, however often it was killed: its selections, and each round's images, once each."""
    passes = sorted(folder.parent for folder in out.rglob("scores") if folder.is_dir())
    return {
        "selections": selections(out),
        "images": {str(folder.relative_to(out)): sorted(images_of(folder)) for folder in passes},
        "temporary files": [str(path) for path in out.rglob("*.tmp")],
    }


def images_of(folder: Path) -> list[str]:
    """Ids in the scores and in the quarantine of a pass, as often as they are there."""
    parts = [part for name in ("scores", "quarantine") for part in sorted((folder / name).glob("part-*.parquet"))]
    return [image_id for part in parts for image_id in pq.read_table(part, columns=["image_id"])[0].to_pylist()]


def lost_and_double(found: dict[str, object], whole: dict[str, object]) -> tuple[int, int]:
    """Images that are missing, and rows too many, in the passes of a run against those of an unbroken one."""
    mine, theirs = found["images"], whole["images"]
    assert isinstance(mine, dict)
    assert isinstance(theirs, dict)
    lost = sum(len(set(theirs[name]) - set(mine.get(name, []))) for name in theirs)
    double = sum(len(images) - len(set(images)) for images in mine.values())
    return lost, double
