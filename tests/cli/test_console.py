import io

import pytest
from rich.console import Console

from poolscout.cli import console


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error as a log file sees it."""
    written = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=written, highlight=False, width=200))
    return written


def test_a_log_file_shows_that_long_work_lives(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    with console.ConsoleProgress().task("training", 300) as task:
        task.update(120, "loss 0.5")
        task.update(240, "loss 0.4")
    lines = log.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["· training: 120 of 300", "· training: 240 of 300", "✓ training"]
    assert "loss 0.4" in lines[1]


def test_short_work_is_one_line(log: io.StringIO) -> None:
    with console.ConsoleProgress().task("listing", 3) as task:
        for done in range(4):
            task.update(done)
    assert len(log.getvalue().splitlines()) == 1
