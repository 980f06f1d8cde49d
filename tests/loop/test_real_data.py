"""A short loop on real frames: every stage on real files, and a detector that has learnt something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest
import yaml

from poolscout.tables.declared import POOL, SCORES
from poolscout.tables.parquet import read_table
from tests.real_data import find


@pytest.mark.parametrize(
    ("name", "sequence", "steps", "floor"), [("carla_driving", "block", 160, 0.02), ("blood_cells", None, 50, 0.1)]
)
def test_a_short_loop(tmp_path: Path, name: str, sequence: str | None, steps: int, floor: float) -> None:
    folder = find(name)
    values = {
        "rounds": 1,
        "pool": {"source": str(folder / "annotations_pool.json"), "sequence": sequence},
        "evaluation": {"annotations": str(folder / "annotations_test.json")},
        "labelling": {"initial": 60, "initial_sampler": "random-per-sequence"},
        "detector": {"height": 192, "width": 320, "stem": 8, "widths": [16, 32, 48, 64], "neck": 24},
        "training": {"members": 2, "min_steps": steps, "max_steps": steps, "crop_height": 96, "crop_width": 160},
        "selection": {"n": 20},
        "report": {"images_per_round": 4},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    # As users run it: without the type checker of the tests, under which training takes several times as long.
    command = [sys.executable, "-c", "from poolscout.cli.app import main; main()", "run", "run.yaml", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pool = read_table(tmp_path / "run" / "pool" / "images", POOL)
    assert not {"bbox", "category_id", "annotations"} & set(pool.column_names)
    scores = read_table(tmp_path / "run" / "round-000" / "scores", SCORES)
    assert scores.num_rows == pool.num_rows - 60
    assert pc.min(scores["mutual_information_max"]).as_py() >= 0
    assert pc.stddev(scores["mutual_information_max"]).as_py() > 0, "scores tell images apart"
    metrics = json.loads((tmp_path / "run" / "round-001" / "metrics.json").read_text())
    assert metrics["images"]["unique"] == 80
    # What a detector that learnt nothing never reaches; chance is below 0.001.
    assert metrics["mean"]["AP50"] > floor
    assert (tmp_path / "run" / "report.html").read_text().count("data:image/jpeg") >= 4
