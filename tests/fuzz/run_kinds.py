"""Folders of runs, malformed: what `run`, `status`, `report` and `quarantine` make of them."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import yaml

from poolscout.config import load_config
from poolscout.errors import PoolscoutError
from poolscout.loop import run
from poolscout.report import write_report
from poolscout.single_quarantine import list_quarantine
from poolscout.status import RunWatch
from tests.fuzz.kinds import SHARED, Kind, Outcome, check_message
from tests.fuzz.mutations import damaged, damaged_json, damaged_text, damaged_tree
from tests.loop.tiny import tiny_config, write_data
from tests.pool.images import save


@cache
def _finished() -> Path:
    """A run of one round, and the data that it and its damaged copies read."""
    folder = Path(tempfile.mkdtemp(prefix="poolscout-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    SHARED.append(str(folder))
    data = write_data(folder / "data", n_pool=16, n_test=0)
    broken = data / "images" / "pool-003.png"
    broken.write_bytes(broken.read_bytes()[:300])
    changes = {"training__members": 1, "training__min_steps": 10, "training__max_steps": 10, "labelling__initial": 4}
    config = tiny_config(data, rounds=1, evaluation__annotations=None, selection__n=3, report__images_per_round=0,
                         scoring__scorers=[{"scorer": "entropy"}],
                         pool__max_quarantined=0.5, **changes)  # fmt: skip
    run(config, folder / "run")
    return folder


def _make(random: Random, folder: Path) -> None:
    shutil.copytree(_finished() / "run", folder / "run")
    files = sorted(path for path in (folder / "run").rglob("*") if path.is_file() and path.name != "report.html")
    kinds = sorted({path.suffix for path in files})
    suffix = random.choice(kinds)
    for path in random.sample(
        chosen := [one for one in files if one.suffix == suffix], min(len(chosen), random.choice((1, 1, 2)))
    ):
        save(path, _damaged_file(random, path))


def _damaged_file(random: Random, path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json" and random.random() < 0.8:
        return damaged_json(random, damaged_tree(random, json.loads(data)))
    if path.suffix == ".jsonl" and random.random() < 0.8:
        lines = data.splitlines()
        at = random.randrange(len(lines))
        lines[at] = damaged_json(random, damaged_tree(random, json.loads(lines[at])))
        return b"\n".join(lines) + b"\n"
    if path.suffix == ".yaml":
        if random.random() < 0.5:
            return json.dumps(damaged_tree(random, yaml.safe_load(data))).encode()
        text = damaged_text(random, data.decode())
        return text if isinstance(text, bytes) else text.encode()
    return damaged(random, data)


def _looked_at(inside: Path) -> Outcome:
    """Who looks on is told what can be told; each command answers or refuses by itself."""
    outcomes = []
    for look in (
        lambda: RunWatch(inside / "run").look().to_json(),
        lambda: list_quarantine(inside / "run"),
        lambda: write_report(inside / "run"),
    ):
        try:
            assert look()
            outcomes.append(True)
        except PoolscoutError as error:
            check_message(error)
            outcomes.append(False)
    return "succeeded" if all(outcomes) else "refused"


def _gone_on_with(inside: Path) -> Outcome:
    """The same command again finishes the run, or says why not."""
    config = load_config(_finished() / "run" / "run.yaml")
    assert run(config, inside / "run").waiting_for is None
    return "succeeded"


KINDS = (Kind("run-looked-at", 40, _make, _looked_at), Kind("run-continued", 16, _make, _gone_on_with))
