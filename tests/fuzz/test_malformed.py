"""Malformed inputs end in a message, in quarantine or in a sane result; never in a traceback.

A failure is made again by its test's name: kind and seed say all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from poolscout.config import build_config
from tests.cli.typed import poolscout
from tests.fuzz import annotation_kinds, pool_kinds, run_kinds, table_kinds
from tests.fuzz.kinds import SECRET, Kind, digest, watched

KINDS = (*pool_kinds.KINDS, *annotation_kinds.KINDS, *table_kinds.KINDS, *run_kinds.KINDS)
_BY_NAME = {kind.name: kind for kind in KINDS}

pytestmark = pytest.mark.filterwarnings("ignore")  # decoders' own words about what is odd


@pytest.mark.parametrize(("seed", "kind"), [pytest.param(s, k, id=f"{k.name}/{s}") for k in KINDS for s in range(k.n)])
def test_no_traceback(tmp_path: Path, kind: Kind, seed: int) -> None:
    kind.outcome(seed, tmp_path)


def test_there_are_500_different_ones(tmp_path: Path) -> None:
    """Of the kinds that are quick to make; each is one of the tests above."""
    slow = ("run-looked-at", "run-continued", "keys")
    made = [(kind, seed) for kind in KINDS if kind.name not in slow for seed in range(kind.n)]
    digests = {digest(kind.made(seed, tmp_path / kind.name / str(seed))) for kind, seed in made}
    assert len(digests) >= 500


def test_the_config_that_is_damaged_was_good() -> None:
    build_config(annotation_kinds.CONFIG)


def test_the_same_seed_gives_the_same_input(tmp_path: Path) -> None:
    for kind in pool_kinds.KINDS[:3]:
        first, second = (digest(kind.made(7, tmp_path / kind.name / twice)) for twice in "ab")
        assert first == second


def test_what_is_opened_outside_is_seen(tmp_path: Path) -> None:
    """The watch that the tests above rely on."""

    def read(inside: Path) -> str:
        assert (inside / "../secret.png").read_bytes()
        return "succeeded"

    careless = Kind("careless", 1, lambda _, folder: None, read)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=f"opened outside its folder: .*{SECRET}"):
        careless.outcome(0, tmp_path)
    with watched() as opened:
        (tmp_path / SECRET).read_bytes()
    assert opened == [str(tmp_path / SECRET)]


_COMMANDS = {
    "coco": ("convert", "annotations.json", "out", "--to", "yolo"),
    "yolo": ("convert", "data.yaml", "out", "--to", "coco"),
    "tables": ("select", "--scores", "scores.parquet", "--pool", "pool.parquet", "--n", "3", "--out", "picks.csv"),
    "config": ("run", "run.yaml", "--out", "out"),
    "parquet-manifest": ("shortlist", "pool.parquet", "--where", "width > 3"),
    "tar-shard": ("shortlist", "shards", "--where", "width > 3"),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", list(_COMMANDS))
def test_commands_end_with_an_exit_code_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, seed: int
) -> None:
    monkeypatch.chdir(_BY_NAME[name].made(seed, tmp_path))
    code, out, err = poolscout(capsys, *_COMMANDS[name])
    assert code != 1, err
    assert "Traceback" not in out + err
    assert code == 0 or "error" in err.lower()
