"""The power goes at every single step of a small run: started again, it ends with the same bytes."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from poolscout.tables.atomic import write_json
from tests.tables.passes import small_run, write_carelessly, write_twenty
from tests.tables.powerloss import KEPT, run_until_cut


def content(run: Path) -> dict[str, bytes]:
    files = (path for path in run.rglob("*") if path.is_file() and path.name not in KEPT)
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def test_the_power_goes_at_any_step(tmp_path: Path) -> None:
    small_run(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for step in count():
        out = tmp_path / f"run-{step}"
        cut = run_until_cut(small_run, (out,), out, tmp_path / f"backups-{step}", step, seed=step)
        small_run(out)
        assert content(out) == whole, f"cut at step {step}"
        if not cut:
            break
    assert step > 20


def test_the_power_goes_at_any_step_of_a_redoing_with_fewer_shards(tmp_path: Path) -> None:
    small_run(tmp_path / "whole", 1)
    whole = content(tmp_path / "whole")
    for step in count():
        out = tmp_path / f"run-{step}"
        small_run(out, 2)
        cut = run_until_cut(small_run, (out, 1), out, tmp_path / f"backups-{step}", step, seed=step)
        small_run(out, 1)
        assert content(out) == whole, f"cut at step {step}"
        if not cut:
            break
    assert step > 20


@pytest.mark.parametrize(("work", "holds"), [(write_twenty, True), (write_carelessly, False)])
def test_such_a_disk_finds_writing_that_does_not_sync(tmp_path: Path, work: object, holds: bool) -> None:
    allowed = {b""}
    for number in range(20):
        write_json(tmp_path / "clean.json", [number] * 1000)
        allowed.add((tmp_path / "clean.json").read_bytes())
    found = []
    for step in range(3, 15):
        out = tmp_path / f"run-{step}"
        assert run_until_cut(work, (out,), out, tmp_path / f"backups-{step}", step, seed=step)
        path = out / "values.json"
        found.append(not path.exists() or path.read_bytes() in allowed)
    assert all(found) == holds
