"""A run whose batches are held to constraints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from poolscout.engine.progress import SilentProgress
from poolscout.errors import ConfigError, DataError, RunError, TableError
from poolscout.labelling import ids_of, picks_of
from poolscout.loop import run
from poolscout.tables.declared import BOX_COUNTS, DETECTIONS, ENSEMBLE, POOL
from poolscout.tables.parquet import read_table
from tests.loop.tiny import tiny_config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


class Heard(SilentProgress):
    """What a person is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.notes.append(text)


def test_the_batches_of_a_run_keep_to_their_constraints(data: Path, tmp_path: Path) -> None:
    listed, heard = tmp_path / "first.txt", Heard()
    listed.write_text("pool-030.png\npool-031.png\npool-033.png\n")
    limits = {
        "cap_per_sequence": 1, "budget_boxes": 40, "exclude": [f"pool-{i:03d}.png" for i in range(20)],
        "include": str(listed), "min_distance": 1e-9,
    }  # fmt: skip
    settings = {"selection__constraints": limits, "selection__price": {"min_probability": 0.1}}
    out = tmp_path / "run"
    run(tiny_config(data, **settings), out, progress=heard)
    initial, first, second = (picks_of(out / name) for name in ("initial", "round-000", "round-001"))
    clips = dict(
        zip(*(read_table(out / "pool" / "images", POOL)[c].to_pylist() for c in ("image_id", "sequence")), strict=True)
    )
    must = [name for name in ("pool-030.png", "pool-031.png", "pool-033.png") if name not in ids_of(initial)]
    assert ids_of(first)[: len(must)] == must
    assert not any(int(name[5:8]) < 20 for picks in (first, second) for name in ids_of(picks))
    for number, picks in enumerate((first, second)):
        chosen = ids_of(picks)[len(must) if number == 0 else 0 :]
        assert max(Counter(clips[name] for name in chosen).values()) == 1
        boxes = read_table(out / f"round-{number:03d}" / "detections", DETECTIONS, BOX_COUNTS).to_pylist()
        shown = [b["image_id"] for b in boxes if b["member"] == ENSEMBLE and b["probability"] >= np.float32(0.1)]
        assert sum(name in ids_of(picks) for name in shown) <= 40
    assert any("round 1: include: 3 images are labelled already" in note for note in heard.notes)

    # The list is one of the stage's inputs: a run does not go on as if nothing had happened.
    listed.write_text("pool-030.png\n")
    with pytest.raises(RunError, match="select"):
        run(tiny_config(data, **settings), out)


@pytest.mark.parametrize(
    ("limits", "error", "message"),
    [
        ({"classes": ["dsc"]}, ConfigError, "did you mean 'disc'"),
        ({"min_gap": 2}, TableError, "40 of 40 images have no frame number"),
        ({"exclude": "nowhere.txt"}, DataError, "nowhere.txt"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    data: Path, tmp_path: Path, limits: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(tiny_config(data, selection__constraints=limits), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("member-*"))
