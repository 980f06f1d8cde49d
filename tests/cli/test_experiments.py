"""`poolscout experiment` and `poolscout ab` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.typed import poolscout
from tests.loop.tiny import tiny_config, write_data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    data = write_data(folder / "data", n_pool=60, n_test=0)
    small = {"rounds": 1, "training__members": 1, "training__min_steps": 10, "training__max_steps": 10}
    values = tiny_config(data, evaluation__annotations=None, **small).model_dump(mode="json")
    values["scoring"]["scorers"] = [{"scorer": "entropy"}]
    values["experiment"] = {
        "seeds": 1, "validation": 0.3, "near_duplicates": -1, "full": False,
        "strategies": {
            "random": {"selection": {"sampler": "random"}},
            "top": {"scorer": "entropy", "title": "the top"},
        },
    }  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    for name, numbers in (("manual", range(12, 36)), ("al", range(13, 60, 3))):
        (folder / f"{name}.txt").write_text("\n".join(f"pool-{number:03d}.png" for number in numbers))
    return path


def test_an_experiment_tells_its_table(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = poolscout(capsys, "experiment", "loop", config, "--out", tmp_path / "e")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["random", "the"]
    assert "top against random: wMAP" in out
    assert "no difference shown" in out, "with one seed nothing can be"
    code, out, _ = poolscout(capsys, "experiment", "loop", config, "--out", tmp_path / "e", "--json")
    assert (code, [one["name"] for one in json.loads(out)["summaries"]]) == (0, ["random", "top"])


def test_an_experiment_has_a_page_that_can_be_written_again(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "e"
    code, out, err = poolscout(capsys, "experiment", "loop", config, "--out", folder)
    assert code == 0, err
    told = " ".join(out.split())
    assert "2 strategies were compared on data over 1 paired seed" in told
    assert "No strategy was shown to be better than random" in told
    assert "at least 6 seeds are needed" in told
    assert f"report {folder / 'experiment.html'}" in told
    page = (folder / "experiment.html").read_bytes()
    (folder / "experiment.html").unlink()
    code, out, _ = poolscout(capsys, "report", folder)
    assert (code, out.split()) == (0, ["report", str(folder / "experiment.html")])
    assert (folder / "experiment.html").read_bytes() == page
    code, out, _ = poolscout(capsys, "experiment", "loop", config, "--out", folder, "--json")
    assert (code, json.loads(out)["report"]) == (0, str(folder / "experiment.html"))
    assert json.loads(out)["told"]["gained"] == []


def test_an_ab_test_tells_cost_and_gain(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = [word for name in ("manual", "al") for word in ("--arm", f"{name}={config.parent / name}.txt")]
    words = ["ab", config, *arms, "--out", tmp_path / "ab", "--set", "labelling.initial=20"]
    code, _, err = poolscout(capsys, *words)
    assert (code, "sequences that no arm picked from" in err) == (4, True)
    (tmp_path / "reference.txt").write_text("\n".join(f"pool-{number:03d}.png" for number in range(0, 60, 8)))
    code, out, err = poolscout(capsys, *words, "--reference", tmp_path / "reference.txt")
    assert code == 0, err
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["manual", "24"], ["al", "16"]]
    assert "wMAP disc" in out
    code, out, _ = poolscout(capsys, *words, "--reference", tmp_path / "reference.txt", "--json")
    assert (code, [arm["name"] for arm in json.loads(out)["arms"]]) == (0, ["manual", "al"])


@pytest.mark.parametrize("arm", ["manual", "=x", "both=a.txt", "a b=a.txt"])
def test_an_arm_has_a_name_and_a_file(config: Path, arm: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = poolscout(capsys, "ab", config, "--arm", arm)
    assert (code, "NAME=FILE" in err) == (2, True)


def test_arms_of_one_name_are_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = poolscout(capsys, "ab", config, "--arm", "a=x.txt", "--arm", "a=y.txt")
    assert (code, "the name a is taken" in err) == (2, True)


@pytest.mark.parametrize(
    ("kind", "fix"), [("lop", "did you mean 'loop'"), ("run.yaml", "the kind comes first: poolscout experiment loop")]
)
def test_an_unknown_kind_is_refused(kind: str, fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = poolscout(capsys, "experiment", kind, "loop")
    assert (code, fix in err, "scoring, sampling, diversity, loop, ab" in err) == (2, True, True)
