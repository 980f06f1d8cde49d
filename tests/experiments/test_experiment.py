"""A whole experiment on a tiny data set: paired, resumable, traceable, and the same again from its saved config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from poolscout.config import ScorerChoice
from poolscout.config_experiment import ExperimentRunConfig, load_experiment
from poolscout.config_selection import SelectionConfig
from poolscout.errors import ConfigError, DataError, RunError
from poolscout.experiments import cells, runner
from poolscout.experiments.presets import EXPERIMENTS
from poolscout.experiments.results import Point, check_effort
from poolscout.experiments.runner import (
    Outcome,
    check_split,
    check_strategies,
    conclude_again,
    run_experiment,
    settled,
)
from poolscout.labelling import ids_of, picks_of
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import file_hash
from poolscout.tables.parquet import read_table
from poolscout.tables.runfolder import RunFolder
from tests.embedding.scenes import random_weights
from tests.loop.tiny import tiny_config, write_data

SEEDS = 2
STRATEGIES = {
    "random": {"selection": {"sampler": "random"}},
    "top": {"scorer": "entropy"},
    "again": {"scorer": "entropy", "over": "all"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp("tiny"))
    test = json.loads((folder / "test.json").read_text())
    for image in test["images"]:
        image["clip"] = f"test-{image['id']}"
    (folder / "test.json").write_text(json.dumps(test))
    return folder


def config_of(data: Path, folder: Path, **changes: Any) -> ExperimentRunConfig:
    """Its YAML, as a user would write it, read again."""
    small = {"training__members": 1, "training__min_steps": 10, "training__max_steps": 10}
    values = tiny_config(data, **small).model_dump(mode="json")
    room = {"seeds": SEEDS, "strategies": STRATEGIES, "near_duplicates": -1, **changes.pop("experiment", {})}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(values | {"experiment": room}))
    return load_experiment(path, [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()])


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("experiment")
    return run_experiment("loop", config_of(data, folder), folder / "out")


def seed(outcome: Outcome, number: int) -> Path:
    return outcome.path / "seeds" / f"seed-{number:03d}"


def rows_of_seed_0(table: pa.Table) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["seed"] == 0]


def test_every_cell_is_there_and_paid_for(finished: Outcome) -> None:
    rows = {(p.seed, p.strategy, p.round): p for p in finished.points}
    assert len(rows) == SEEDS * (len(STRATEGIES) * 3 + 1)
    for number in range(SEEDS):
        for name in STRATEGIES:
            assert [rows[number, name, r].images for r in range(3)] == [8, 14, 20]
        assert rows[number, "full", 0].images == 40
        assert rows[number, "full", 0].sequences == 10
        assert 0 < rows[number, "random", 0].sequences <= 8
        assert rows[number, "again", 2].unique <= 20
    assert {p.steps for p in finished.points} == {10}
    table = pq.read_table(finished.path / "results.parquet")
    assert table.num_rows == len(rows)
    assert (finished.path / "results.csv").read_text().count("\n") == len(rows) + 1


def test_strategies_of_a_seed_share_its_start_and_seeds_differ(finished: Outcome) -> None:
    first = {name: picks_of(seed(finished, 0) / name / "initial") for name in ("start", *STRATEGIES)}
    assert all(picks.equals(first["start"]) for picks in first.values())
    assert not picks_of(seed(finished, 1) / "start" / "initial").equals(first["start"])
    for name in STRATEGIES:
        assert not (seed(finished, 0) / name / "round-000" / "models").exists(), "round 0 is the start's"
    rows = {(p.strategy, p.round): p for p in finished.points if p.seed == 0}
    assert {rows[name, 0].figures["wMAP"] for name in STRATEGIES} == {rows["top", 0].figures["wMAP"]}


def test_picks_follow_the_start_s_scores(finished: Outcome) -> None:
    scores = pq.read_table(seed(finished, 0) / "start" / "round-000" / "scores")
    labelled = set(ids_of(picks_of(seed(finished, 0) / "start" / "initial")))
    ranked = [row["image_id"] for row in sorted(scores.to_pylist(), key=lambda r: (-r["entropy_max"], r["image_id"]))]
    assert len(ranked) == 40, "all are scored, as one strategy looks at labelled images too"
    top = ids_of(picks_of(seed(finished, 0) / "top" / "round-000"))
    assert top == [image for image in ranked if image not in labelled][:6]
    assert ids_of(picks_of(seed(finished, 0) / "again" / "round-000")) == ranked[:6]


def test_the_saved_config_gives_the_same_tables_again(finished: Outcome, tmp_path: Path) -> None:
    config = load_experiment(finished.path / "run.yaml", ["experiment.seeds=1"])
    run_experiment("loop", config, tmp_path / "again")
    mine, theirs = (pq.read_table(path / "results.parquet") for path in (tmp_path / "again", finished.path))
    assert rows_of_seed_0(mine) == rows_of_seed_0(theirs)


def test_trained_out_the_last_round_takes_the_steps_of_the_whole_pool(data: Path, tmp_path: Path) -> None:
    # a step an image, 10 at least: 8 and 14 images are labelled, at last 20, and the whole pool has 40
    steps = {"training__epochs": 4.0, "training__batch_size": 4, "training__max_steps": 100}
    for train_out, last in ((True, 40), (False, 20)):
        room = {"seeds": 1, "strategies": {"random": STRATEGIES["random"]}, "train_out": train_out}
        outcome = run_experiment("loop", config_of(data, tmp_path, experiment=room, **steps), tmp_path / str(train_out))
        taken = {(p.strategy, p.round): p.steps for p in outcome.points}
        assert taken == {("random", 0): 10, ("random", 1): 14, ("random", 2): last, ("full", 0): 40}
        assert ("trained as long as the whole pool" in outcome.told.what) is train_out
        assert ("No areas: the last round was trained longer" in outcome.page.read_text()) is train_out


def test_the_same_command_again_does_nothing(finished: Outcome, data: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished.path / "seeds").rglob("*.parquet")}
    run_experiment("loop", config_of(data, tmp_path), finished.path)
    assert {path: path.stat().st_mtime_ns for path in (finished.path / "seeds").rglob("*.parquet")} == before


def test_killed_in_a_cell_it_goes_on_from_there(
    finished: Outcome, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    trained: list[str] = []
    train = cells.stages.train

    def dying(world: Any, arm: Any, number: int) -> None:
        if len(trained) == 5:
            raise Killed
        train(world, arm, number)
        trained.append(f"{arm.path.parent.name}/{arm.path.name}/{number}")

    config = config_of(data, tmp_path, experiment={"seeds": 1})
    with monkeypatch.context() as patch:
        patch.setattr(cells.stages, "train", dying)
        with pytest.raises(Killed):
            run_experiment("loop", config, tmp_path / "out")
    assert len(trained) == 5
    assert "No seed is finished" in conclude_again(tmp_path / "out").page.read_text(), "a page can be had meanwhile"
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "seeds").rglob("member-0.safetensors")}
    assert len(done) == 5
    with pytest.raises(RunError, match="holds another experiment"):
        run_experiment("scoring", config, tmp_path / "out")
    run_experiment("loop", config, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert rows_of_seed_0(pq.read_table(tmp_path / "out" / "results.parquet")) == rows_of_seed_0(
        pq.read_table(finished.path / "results.parquet")
    )


def test_over_processes_the_same_tables(finished: Outcome, data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path, engine__name="processes", engine__workers=2, experiment={"seeds": 1})
    run_experiment("loop", config, tmp_path / "out")
    mine, theirs = (pq.read_table(path / "results.parquet") for path in (tmp_path / "out", finished.path))
    assert rows_of_seed_0(mine) == rows_of_seed_0(theirs)


def test_strategies_look_at_another_backbone_s_embeddings(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random_weights(tmp_path / "resnet.safetensors")
    monkeypatch.setattr(runner, "pretrained_weights", lambda name, say: weights)
    coreset = {"scorer": "entropy", "selection": {"sampler": "coreset"}}
    strategies = {"own": coreset, "other": {**coreset, "embeddings": "resnet"}}
    room = {"strategies": strategies, "embeddings": {"resnet": "test_resnet"}, "baselines": ["own"], "full": False}
    config = config_of(data, tmp_path, rounds=1, experiment={"seeds": 1, **room})
    outcome = run_experiment("diversity", config, tmp_path / "out")
    table, scored = tmp_path / "out/embeddings/resnet/embeddings", seed(outcome, 0) / "start/round-000/embeddings"
    for name, embeddings in (("other", table), ("own", scored)):
        made_from = json.loads((seed(outcome, 0) / name / "round-000/select.manifest.json").read_text())["inputs"]
        assert made_from["embeddings"] == file_hash(embeddings)
    own, other = (ids_of(picks_of(seed(outcome, 0) / name / "round-000")) for name in ("own", "other"))
    assert set(own) != set(other)
    assert {point.strategy for point in outcome.points} == {"own", "other"}


def test_a_share_of_the_pool_s_sequences_is_held_out(data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path, rounds=1, experiment={"validation": 0.3, "seeds": 1, "full": False})
    outcome = run_experiment("loop", config, tmp_path / "out")
    pool, held = (read_table(tmp_path / "out" / "split" / name, POOL) for name in ("pool", "held_out"))
    assert held.num_rows == 12
    assert not set(pool["sequence"].to_pylist()) & set(held["sequence"].to_pylist())
    assert not (tmp_path / "out" / "test").exists(), "the test images are not even listed"
    picked = {i for path in (tmp_path / "out").rglob("selection.parquet") for i in ids_of(picks_of(path.parent))}
    assert picked <= set(pool["image_id"].to_pylist())
    assert outcome.points[0].figures["wMAP"] is not None
    other = config_of(data, tmp_path, rounds=1, experiment={"validation": 0.5, "seeds": 1, "full": False})
    with pytest.raises(RunError, match="split"):
        run_experiment("loop", other, tmp_path / "out")


def test_a_split_that_leaks_is_refused(data: Path, tmp_path: Path) -> None:
    leaky = json.loads((data / "test.json").read_text())
    for image in leaky["images"]:
        image["clip"] = "clip-3" if image["id"] == 2 else image["clip"]
    (data / "leaky.json").write_text(json.dumps(leaky))
    config = config_of(data, tmp_path, evaluation__annotations=str(data / "leaky.json"))
    with pytest.raises(DataError, match=r"1 sequences are on both sides[^$]*clip-3[^$]*test-002.png"):
        run_experiment("loop", config, tmp_path / "a")
    for image in leaky["images"]:
        image["clip"] = f"test-{image['id']}"
    copy = data / "images" / "test-003.png"
    original = copy.read_bytes()
    (data / "leaky.json").write_text(json.dumps(leaky))
    copy.write_bytes((data / "images" / "pool-017.png").read_bytes())
    try:
        config = config_of(
            data, tmp_path, evaluation__annotations=str(data / "leaky.json"), experiment={"near_duplicates": 12}
        )
        with pytest.raises(DataError, match=r"1 pairs[^$]*pool-017.png ~ test-003.png \(0 bits\)"):
            run_experiment("loop", config, tmp_path / "b")
    finally:
        copy.write_bytes(original)


def test_recordings_that_nobody_named_are_not_parted(data: Path, tmp_path: Path) -> None:
    nameless: dict[str, Any] = {"pool__sequence": None}
    config, _ = settled("loop", config_of(data, tmp_path, experiment={"validation": 0.3}, **nameless))
    with pytest.raises(DataError, match="40 of 40 images[^$]*set pool.sequence to one of clip;"):
        cells.open_experiment(config, tmp_path / "a")
    independent = {"validation": 0.3, "independent_images": True}
    config, _ = settled("loop", config_of(data, tmp_path, experiment=independent, **nameless))
    assert cells.open_experiment(config, tmp_path / "b").pool.num_rows == 28


def test_a_test_set_that_names_no_recordings_is_said(data: Path, tmp_path: Path) -> None:
    nameless = json.loads((data / "test.json").read_text())
    for image in nameless["images"]:
        del image["clip"]
    (data / "nameless.json").write_text(json.dumps(nameless))
    for file, said in (("nameless.json", ["the test images name no recordings"]), ("test.json", [])):
        heard: list[str] = []
        config, _ = settled("loop", config_of(data, tmp_path, evaluation__annotations=str(data / file)))
        folder = RunFolder(tmp_path / file, say=heard.append)
        check_split(folder, cells.open_experiment(config, folder.path, folder), config)
        assert [text.partition(":")[0] for text in heard] == said


def test_strategies_are_the_run_s_selection_but_for_what_they_say(data: Path, tmp_path: Path) -> None:
    (tmp_path / "not.txt").write_text("pool-001.png")
    strategies = {
        "as-it-is": {"scorer": "entropy"},
        "else": {"scorer": "entropy", "selection": {"sampler": "top-n", "constraints": {"exclude": "not.txt"}}},
    }
    room = {"strategies": strategies, "baselines": ["else"]}
    limits = {"selection__sampler": "half-half", "selection__constraints": {"cap_per_sequence": 2}}
    config = config_of(data, tmp_path, experiment=room, **limits)
    mine, other = (config.selection_of(one) for one in (config.experiment.strategies or {}).values())
    assert (mine.sampler, mine.constraints.cap_per_sequence) == ("half-half", 2)
    assert (other.sampler, other.constraints.cap_per_sequence) == ("top-n", 2)
    assert other.constraints.exclude == tmp_path / "not.txt", "beside the config, as all its paths"


@pytest.mark.parametrize(
    "ranking",
    [
        {"selection__constraints": {"classes": ["disc"], "class_quota": {"disc": 1.0}, "cap_per_sequence": 2}},
        {"selection__constraints": {"prefilter": 2, "cap_per_sequence": 2}},
        {"selection__normalise_classes": True, "selection__over_classes": "weighted",
         "selection__class_weights": {"disc": 2}, "selection__constraints": {"cap_per_sequence": 2}},
    ],
)  # fmt: skip
def test_random_picks_rank_by_nothing_whatever_the_run_ranks_by(
    ranking: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    strategies = {"random": {"selection": {"sampler": "random"}}, "ours": {"scorer": "entropy"}}
    config = config_of(data, tmp_path, experiment={"strategies": strategies}, **ranking)
    config, settled_ones = settled("loop", config)
    chance, ours = (config.selection_of(settled_ones[name]) for name in strategies)
    check_strategies(config, settled_ones, cells.open_experiment(config, tmp_path / "out"))
    assert ours == config.selection
    plain = SelectionConfig(sampler="random", n=config.selection.n, constraints={"cap_per_sequence": 2})
    assert chance == plain, "what it holds to, but for its ranking, is the run's"


def test_a_budget_in_boxes_is_kept_by_random_picks_too(data: Path, tmp_path: Path) -> None:
    strategies = {"random": {"selection": {"sampler": "random"}}}
    config = config_of(
        data, tmp_path, experiment={"strategies": strategies, "seeds": 1, "full": False},
        selection__constraints={"budget_boxes": 1000},
    )  # fmt: skip
    assert [point.round for point in run_experiment("loop", config, tmp_path / "out").points] == [0, 1, 2]


def test_a_pass_that_strategies_share_is_as_exact_as_any_of_them_needs(data: Path, tmp_path: Path) -> None:
    config, strategies = settled("loop", config_of(data, tmp_path))
    given = cells.Cells(cells.open_experiment(config, tmp_path / "out"), config, strategies, {})
    clear, blurred = ScorerChoice(scorer="gradient"), ScorerChoice(scorer="entropy")
    for choices, float32 in (((clear,), "auto"), ((clear, blurred), "on"), ((blurred, clear), "on")):
        assert cells._at(given, 0, 0, choices, "unlabelled").config.scoring.float32 == float32


def test_unequal_effort_is_not_compared() -> None:
    points = [Point(s, name, 1, 8, 8, 20, {}, 3, 100, {}) for s in range(2) for name in ("a", "b")]
    check_effort(points)
    odd = Point(2, "a", 1, 8, 8, 20, {}, 3, 90, {})
    with pytest.raises(DataError, match=r"unequal training effort[^$]*seed 2 a: 90 steps"):
        check_effort([*points, odd])


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_the_tables_of_the_paper_are_settled(kind: str, data: Path, tmp_path: Path) -> None:
    config, strategies = settled(kind, config_of(data, tmp_path, experiment={"strategies": None}))
    assert "random" in strategies
    assert config.rounds == (2 if kind == "loop" else 1)
    for strategy in strategies.values():
        assert config.selection_of(strategy).n == config.selection.n
        assert strategy.title
    # what is saved is what was compared, whatever a later release compares by default
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    saved = load_experiment(tmp_path / "run.yaml")
    assert list(saved.experiment.strategies or {}) == list(strategies)
    assert settled("loop" if kind == "loop" else "scoring", saved) == (config, strategies)


def test_mistakes_are_told_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path)
    with pytest.raises(ConfigError, match="no experiment 'lopo'"):
        run_experiment("lopo", config, tmp_path / "out")
    wrong = config_of(data, tmp_path, experiment={"baselines": ["randon"]})
    with pytest.raises(ConfigError, match="no such strategy: randon"):
        run_experiment("loop", wrong, tmp_path / "out")
    strategies = {**STRATEGIES, "odd": {"scorer": "entropi"}}
    with pytest.raises(ConfigError, match="entropi"):
        run_experiment("loop", config_of(data, tmp_path, experiment={"strategies": strategies}), tmp_path / "out")
    for name in ("a/b", "..", "."):
        with pytest.raises(ConfigError, match="a strategy's name"):
            config_of(data, tmp_path, experiment={"strategies": {name: {}}})
    strategies = {**STRATEGIES, "odd": {}}
    with pytest.raises(ConfigError, match="strategy odd: top-n looks at scores, and none is named"):
        run_experiment("loop", config_of(data, tmp_path, experiment={"strategies": strategies}), tmp_path / "out")
    strategies = {**STRATEGIES, "odd": {"selection": {"samler": "random"}}}
    with pytest.raises(ConfigError, match=r"strategy odd: selection: no such key 'samler'[^$]*did you mean 'sampler'"):
        config_of(data, tmp_path, experiment={"strategies": strategies})
    strategies = {**STRATEGIES, "odd": {"selection": {"sampler": "random", "n": 7}}}
    with pytest.raises(ConfigError, match="strategy odd: all pick as many images"):
        config_of(data, tmp_path, experiment={"strategies": strategies})
    strategies = {**STRATEGIES, "odd": {"selection": {"sampler": "random", "constraints": {"prefilter": 2}}}}
    with pytest.raises(ConfigError, match="strategy odd: constraints.prefilter looks at scores"):
        run_experiment("loop", config_of(data, tmp_path, experiment={"strategies": strategies}), tmp_path / "out")
    given = config_of(data, tmp_path, labelling__initial_labels=str(data / "pool.json"))
    with pytest.raises(ConfigError, match="each seed of an experiment draws first labels of its own"):
        run_experiment("loop", given, tmp_path / "out")
    with pytest.raises(ConfigError, match="labels that are known"):
        config_of(data, tmp_path, labelling__mode="files", labelling__classes=["disc"])
    assert not (tmp_path / "out" / "seeds").exists()
