"""Commands as a user types them."""

from __future__ import annotations

import sys

import pytest

from poolscout.cli import app as cli


def poolscout(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    sys.argv = ["poolscout", *map(str, words)]
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err
