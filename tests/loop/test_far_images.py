"""Labels on this machine, their images at a URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from poolscout.engine.progress import SilentProgress
from poolscout.tables.runfolder import RunFolder
from poolscout.world import _test_set
from tests.cli.typed import poolscout
from tests.loop.tiny import tiny_config, write_data

FAR = "memory://far/images"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder, memory = write_data(tmp_path / "tiny", n_pool=12, n_test=4), fsspec.filesystem("memory")
    for image in (folder / "images").iterdir():
        memory.pipe(f"/far/images/{image.name}", image.read_bytes())
        image.unlink()
    (folder / "images").rmdir()
    yield folder
    memory.rm("/far", recursive=True)


def test_the_test_set_of_a_run(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, evaluation__images=FAR)
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        test = _test_set(folder, config, SilentProgress())
    assert test is not None
    assert test.images["uri"].to_pylist() == [f"{FAR}/test-{number:03d}.png" for number in range(4)]
    assert all(test.reader.read(image_id).shape == (64, 64, 3) for image_id in test.images["image_id"].to_pylist())


def test_training_and_evaluating_alone(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    config, models = tiny_config(data), tmp_path / "models"
    settings = []
    for room in ("detector", "training"):
        values = getattr(config, room).model_dump(mode="json", exclude_unset=True)
        settings += [part for key, value in values.items() for part in ("--set", f"{room}.{key}={json.dumps(value)}")]
    settings += ["--set", "training.members=1", "--json"]
    code, out, err = poolscout(capsys, "train", data / "pool.json", "--out", models, "--images", FAR, *settings)
    assert code == 0, err
    assert json.loads(out)["images"] == 12
    command = ("evaluate", data / "test.json", "--models", models, "--images", FAR, "--json")
    code, out, err = poolscout(capsys, *command)
    assert code == 0, err
    assert json.loads(out)["members"] == 1
