"""The commands as a user types them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
import yaml

from poolscout import loop, sandbox
from poolscout.cli.document import cli_markdown, config_markdown
from poolscout.cli.summary import show_outcome
from poolscout.config import EngineConfig, build_config
from poolscout.tables.atomic import write_json
from tests.cli.typed import poolscout
from tests.loop.tiny import CLASSES, tiny_config, write_data
from tests.report.fake_run import figures

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("tiny"))
    values = tiny_config(folder, rounds=1).model_dump(mode="json", exclude_none=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    command = [
        sys.executable,
        "-c",
        "from poolscout.cli.app import main; main()",
        "run",
        data / "settings.yaml",
        "--out",
        out,
    ]
    ended = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["report"] == str(out / "report.html")
    assert [facts["images"] for facts in result["rounds"]] == [8, 14]
    assert "round 0: scoring" in ended.stderr
    return out


def test_each_stage_alone_on_tables(capsys: pytest.CaptureFixture[str], data: Path, done: Path, tmp_path: Path) -> None:
    settings = tiny_config(data).model_dump(mode="json")
    sets = [f"--set=detector={json.dumps(settings['detector'])}", f"--set=training={json.dumps(settings['training'])}"]
    code, out, _ = poolscout(capsys, "train", data / "pool.json", "--out", tmp_path / "models", *sets, "--json")
    assert (code, json.loads(out)["trained"]) == (0, 2)

    # Other data or settings are not passed off as the old result.
    code, _, err = poolscout(capsys, "train", data / "test.json", "--out", tmp_path / "models", *sets)
    assert code == 6
    assert "stage 'train'" in err
    code, out, _ = poolscout(
        capsys, "train", data / "pool.json", "--out", tmp_path / "models", *sets, "--set=training.members=1",
        "--redo-stale", "--json",
    )  # fmt: skip
    assert code == 0
    assert [path.name for path in sorted((tmp_path / "models").glob("*.safetensors"))] == ["member-0.safetensors"]

    models = done / "round-000" / "models"
    code, out, _ = poolscout(capsys, "score", data / "pool.json", "--models", models, "--out", tmp_path / "s", "--json")
    assert (code, json.loads(out)["scored"]) == (0, 40)

    new = ["score", data / "pool.json", "--models", models, "--out", tmp_path / "new"]
    code, _, err = poolscout(capsys, *new, "--set", "scoring.scorers=[{scorer: entropi}]")
    assert (code, "did you mean 'entropy'" in err, (tmp_path / "new").exists()) == (2, True, False)
    code, _, err = poolscout(capsys, "score", data / "pool.json", "--models", models, "--out", done / "round-000")
    assert code == 6, "a run's own scores are not overwritten"

    picks = tmp_path / "picks.csv"
    code, _, _ = poolscout(capsys, "select", "--scores", tmp_path / "s" / "scores", "--n", 5, "--out", picks)
    rows = list(csv.DictReader(picks.open()))
    assert (code, len(rows)) == (0, 5)
    assert [float(r["score"]) for r in rows] == sorted((float(r["score"]) for r in rows), reverse=True)

    code, _, _ = poolscout(
        capsys, "select", "--scores", tmp_path / "s" / "scores", "--n", 5, "--sampler", "random-per-sequence",
        "--pool", tmp_path / "s" / "pool" / "images", "--out", tmp_path / "picks.parquet",
    )  # fmt: skip
    assert code == 0

    code, out, _ = poolscout(capsys, "evaluate", data / "test.json", "--models", models, "--json")
    measured = json.loads((done / "round-000" / "metrics.json").read_text())["mean"]
    assert code == 0
    assert json.loads(out)["AP50"] == pytest.approx(measured["AP50"], abs=1e-6)

    code, out, _ = poolscout(capsys, "report", done)
    assert code == 0
    assert str(done / "report.html") in out


def test_a_run_that_waits_exits_with_3_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    words = ["run", data / "settings.yaml", "--out", tmp_path / "run", "--set", "labelling.mode=files"]
    code, out, _ = poolscout(capsys, *words, "--set", f"labelling.classes={json.dumps(CLASSES)}")
    assert code == 3
    assert "poolscout labels add FILE" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "none.yaml"], 2, "cannot be read"),
        (["run", "DATA/settings.yaml", "--set", "trainning.members=1"], 2, "did you mean 'training'"),
        (["run", "DATA/settings.yaml", "--out", "DATA"], 6, "files that no run wrote"),
        (["run", "DATA/settings.yaml", "--address", "auto"], 2, "add --engine ray"),
        (["train", "DATA/none.json", "--out", "x"], 4, "not there"),
        (["score", "DATA/pool.json", "--models", "DATA", "--out", "x"], 4, "no detectors"),
        (["select", "--scores", "none.parquet", "--n", "3"], 5, "is not there"),
        (["select", "--scores", "none.parquet", "--n", "0"], 2, "nothing to pick"),
        (["evaluate", "DATA/test.json"], 2, "what is to be evaluated"),
        (["report", "DATA"], None, "error:"),
        (["labels", "add", "x.json", "--run", "DATA"], 6, "no run here"),
    ],
)
def test_mistakes_end_in_a_message_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], code: int | None, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    got, _, err = poolscout(capsys, *[word.replace("DATA", str(data)) for word in words])
    assert message in err
    assert "Traceback" not in err
    assert got == code if code is not None else got > 0


def test_the_demo_settings_are_a_config(tmp_path: Path) -> None:
    settings = yaml.safe_load(files("poolscout.cli").joinpath("demo.yaml").read_text())
    config = build_config(settings, base=tmp_path)
    assert config.references.random
    assert config.pool.source == (tmp_path / "sandbox" / "annotations_pool.json").resolve()


def test_the_demo_ends_with_what_to_do_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "write_sandbox", lambda *_, **__: None)
    monkeypatch.setattr(loop, "run", lambda config, out, **_: loop.Outcome(out / "report.html", None))
    code, out, _ = poolscout(capsys, "demo", "--out", tmp_path)
    assert (code, "poolscout run run.yaml" in out.splitlines()[-1]) == (0, True)
    code, out, _ = poolscout(capsys, "demo", "--out", tmp_path, "--json")
    assert (code, set(json.loads(out))) == (0, {"report", "waiting_for", "rounds", "references", "took"})


def test_a_first_point_is_no_gain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = loop.Outcome(tmp_path / "report.html", tmp_path / "round-000" / "to_label")
    write_json(tmp_path / "round-000" / "metrics.json", figures(20, 259, 0.267, 2))
    show_outcome(tmp_path, outcome, as_json=False)
    told = capsys.readouterr().out
    assert "20 images with 259 boxes\n" in told
    assert "AP50 0.267, AP 0.1" in told
    assert "→" not in told
    assert "gained" not in told
    write_json(tmp_path / "round-001" / "metrics.json", figures(30, 300, 0.3, 2))
    show_outcome(tmp_path, outcome, as_json=False)
    told = capsys.readouterr().out
    assert "20 images with 259 boxes → 30 images with 300 boxes\n" in told
    assert "AP50 0.267 → 0.300" in told


def test_sandbox_and_doctor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = poolscout(
        capsys, "sandbox", tmp_path / "s", "--clips", 1, "--test-clips", 0, "--frames", 3, "--json"
    )
    assert (code, json.loads(out)["pool_images"]) == (0, 3)
    code, out, _ = poolscout(capsys, "doctor", "--json")
    assert code == 0
    assert json.loads(out)["cores"] >= 1


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    page = cli_markdown()
    commands = page.split("\n## ")[1:]
    assert len(commands) >= 10
    for section in commands:
        assert "Example: `poolscout" in section, section.splitlines()[0]
    code, out, _ = poolscout(capsys, "run", "--help")
    assert code == 0
    assert "--redo-stale" in out


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from poolscout.cli import app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_documentation_tells_bounds_and_what_every_value_means() -> None:
    page = config_markdown()
    assert "frames are fitted into it; > 0, a multiple of 32 |" in page
    assert "least and greatest random zoom of a crop |" in page
    name = next(line for line in page.splitlines() if line.startswith("| `name` | `threads`"))
    assert all(f"{engine}:" in name for engine in get_args(EngineConfig.model_fields["name"].annotation))


def test_the_documentation_is_the_code() -> None:
    assert (DOCS / "config.md").read_text(encoding="utf-8") == config_markdown(), "run `make docs`"
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_markdown(), "run `make docs`"
