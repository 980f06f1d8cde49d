from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .fake_run import make_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that change something take `run`."""
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run to take things away from; the pictures stay where they are."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
