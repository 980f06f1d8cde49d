"""The A/B experiment: an expert and active learning pick from one short-list, anew for each seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from poolscout import stages
from poolscout.config import build_as
from poolscout.config_experiment import ExperimentRunConfig
from poolscout.errors import ConfigError, DataError
from poolscout.experiments import ab
from poolscout.experiments.ab import run_picking_ab
from poolscout.experiments.ab_findings import AbFindings
from poolscout.labels import LabelStore
from tests.cli.typed import poolscout
from tests.loop.tiny import tiny_config, write_data

SEEDS, SPLITS, N = 2, 2, 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four; every second one by night."""
    folder = write_data(tmp_path_factory.mktemp("tiny"), n_pool=96, n_test=0)
    pool = json.loads((folder / "pool.json").read_text())
    for image in pool["images"]:
        image |= {"night": image["id"] // 4 % 2 == 0, "frame": image["id"] % 4}
    (folder / "pool.json").write_text(json.dumps(pool))
    return folder


def config_of(data: Path, seeds: int = SEEDS, **changes: Any) -> ExperimentRunConfig:
    small = {
        "training__members": 1, "training__min_steps": 10, "training__max_steps": 10, "evaluation__annotations": None,
        "selection__n": N, "labelling__initial": 10, "rounds": 1,
    }  # fmt: skip
    values = tiny_config(data, **small).model_dump(mode="json")
    learning = {"scorer": "entropy", "selection": {"constraints": {"classes": ["disc", "bar"]}}}
    room = {"classes": ["disc", "bar"], "where": "night", "learning": learning, "splits": SPLITS, "held_out": 0.3}
    experiment = {"seeds": seeds, "near_duplicates": -1, "ab": room | changes}
    return build_as(ExperimentRunConfig, values | {"experiment": experiment})


@pytest.fixture(scope="module")
def tested(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AbFindings]:
    out = tmp_path_factory.mktemp("ab") / "out"
    return out, run_picking_ab(config_of(data), out)


def arms_of(out: Path, seed: int) -> dict[str, Any]:
    return json.loads((out / "seeds" / f"seed-{seed:03d}" / "arms.json").read_text())


def number_of(image_id: str) -> int:
    return int(image_id[5:8])


def test_both_arms_pick_as_many_new_images_from_the_short_list(tested: tuple[Path, AbFindings]) -> None:
    out, _ = tested
    for seed in range(SEEDS):
        kept = arms_of(out, seed)
        assert len(kept["reference"]) == 10
        for picked in kept["arms"].values():
            assert len(set(picked)) == N
            assert not set(picked) & set(kept["reference"])
            assert all(number_of(image) // 4 % 2 == 0 for image in picked), "by night"
    assert any(number_of(image) // 4 % 2 for image in arms_of(out, 0)["reference"]), "from the whole pool"
    assert arms_of(out, 0) != arms_of(out, 1)


def test_every_figure_can_be_traced_to_its_picks(tested: tuple[Path, AbFindings]) -> None:
    out, _ = tested
    for seed in range(SEEDS):
        at, kept = out / "seeds" / f"seed-{seed:03d}", arms_of(out, seed)
        picks = pq.read_table(at / "start" / "round-000" / "selection.parquet")
        assert sorted(picks["image_id"].to_pylist()) == kept["arms"]["al"]
        assert picks["class"].to_pylist() == ["disc", "bar"] * (N // 2), "in turn"
        stretches = json.loads((at / "manual.json").read_text())["stretches"]
        assert sorted(i for one in stretches for i in one["image_ids"]) == kept["arms"]["manual"]
        assert [one["wanted"] for one in stretches[:2]] == ["disc", "bar"]
        for split in range(SPLITS):
            folder = out / "repeats" / f"repeat-{seed * SPLITS + split:03d}"
            learnt = {
                name: set(LabelStore(folder / name / "labels").current(1).labelled["image_id"].to_pylist())
                for name in ("reference", "manual", "al")
            }
            assert learnt["reference"] <= set(kept["reference"])
            for arm in ("manual", "al"):
                assert learnt["reference"] <= learnt[arm] <= learnt["reference"] | set(kept["arms"][arm])
            cards = [json.loads(card.read_text())["training"]["steps"] for card in folder.rglob("member-0.json")]
            assert cards == [10, 10, 10]


def test_seeds_count_and_not_their_splits(tested: tuple[Path, AbFindings]) -> None:
    out, found = tested
    assert (found.repeats, [arm.name for arm in found.arms]) == (SEEDS, ["manual", "al"])
    assert found.arms[0].cost["images"] == N
    for arm in found.arms:
        cost = arm.cost
        assert sum(cost["boxes_per_class"].values()) == pytest.approx(cost["boxes"])
    assert found.reference["both"]["AP50"].n == SEEDS
    values = [
        [
            json.loads((out / "repeats" / f"repeat-{seed * SPLITS + split:03d}" / "al" / "round-000" / "metrics.json")
                       .read_text())["mean"]["AP50"]
            for split in range(SPLITS)
        ]
        for seed in range(SEEDS)
    ]  # fmt: skip
    assert found.arms[1].figures["both"]["AP50"].mean == pytest.approx(sum(map(sum, values)) / (SEEDS * SPLITS))
    written = json.loads((out / "ab.json").read_text())
    assert set(written["ratio"]) == {"al / manual"}
    assert set(written["ratio"]["al / manual"]["both"]) == set(written["arms"][0]["gain"]["both"])
    assert len(written["words"]) == 2


def test_the_command_tells_cost_gains_and_what_they_say(
    tested: tuple[Path, AbFindings], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ab.yaml"
    config.write_text(yaml.safe_dump(config_of(data).model_dump(mode="json")))
    code, out, err = poolscout(capsys, "experiment", "ab", config, "--out", tested[0])
    assert code == 0, err
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["manual", str(N)], ["al", str(N)]]
    assert all(" ".join(sentence.split()) in " ".join(out.split()) for sentence in tested[1].words)


def test_killed_among_its_picks_or_trainings_it_goes_on_also_over_processes(
    tested: tuple[Path, AbFindings], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dying_after(times: int, function: Callable[..., None]) -> Callable[..., None]:
        done: list[Any] = []

        def do(*given: Any) -> None:
            if len(done) == times:
                raise Killed
            function(*given)
            done.append(given)

        return do

    for module, name, times in ((stages, "select", 0), (ab, "play_ab", 1), (stages, "evaluate", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, dying_after(times, getattr(module, name)))
            with pytest.raises(Killed):
                run_picking_ab(config_of(data, seeds=1), tmp_path / "out")
    config = config_of(data, seeds=1)
    processes = config.engine.model_copy(update={"name": "processes", "workers": 2})
    run_picking_ab(config.model_copy(update={"engine": processes}), tmp_path / "out")
    assert arms_of(tmp_path / "out", 0) == arms_of(tested[0], 0)
    figures = sorted(tmp_path.glob("out/repeats/*/*/round-000/metrics.json"))
    assert len(figures) == SPLITS * 3
    for path in figures:
        assert path.read_bytes() == (tested[0] / path.relative_to(tmp_path / "out")).read_bytes()


def test_the_default_goes_by_turns_over_the_wanted_classes(data: Path) -> None:
    config, learning = ab.settled(config_of(data, learning=None, classes=["bar"]))
    selection = config.selection_of(learning)
    assert selection.constraints.classes == ("bar",)
    assert config.scoring.scorers == (learning.choice,)


def test_mistakes_are_told_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted classes are not named"):
        run_picking_ab(config_of(data, classes=[]), tmp_path / "out")
    with pytest.raises(ConfigError, match="no such class: person"):
        run_picking_ab(config_of(data, classes=["person"]), tmp_path / "out")
    with pytest.raises(ConfigError, match="nigth"):
        run_picking_ab(config_of(data, where="nigth"), tmp_path / "out")
    with pytest.raises(ConfigError, match="both arms pick new images"):
        config_of(data, learning={"over": "all"})
    with pytest.raises(ConfigError, match="has not seen the labels"):
        config_of(data, learning={"knows_labels": True})
    assert not (tmp_path / "out" / "seeds").exists()
    with pytest.raises(DataError, match="fewer new images than an arm picks"):
        run_picking_ab(config_of(data, where="night AND frame = 0 AND image_id < 'pool-064'"), tmp_path / "out")
