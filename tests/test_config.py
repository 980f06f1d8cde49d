"""A config says what is wrong with it: the key, what was found, what was expected, the nearest known key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poolscout.config import DetectorConfig, build_config, build_engine, load_config
from poolscout.config_experiment import load_experiment
from poolscout.errors import ConfigError

GOOD = "pool: {source: frames.json}\n"


def load(tmp_path: Path, text: str, *overrides: str):
    (tmp_path / "run.yaml").write_text(text)
    return load_config(tmp_path / "run.yaml", overrides)


def test_paths_start_at_the_config_and_overrides_are_yaml(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD, "training.members=5", "labelling.classes=[car, bus]", "references.random=true")
    assert config.pool.source == (tmp_path / "frames.json").resolve()
    assert (config.training.members, config.labelling.classes, config.references.random) == (5, ("car", "bus"), True)


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        (GOOD + "rouds: 3", (), ["no such key 'rouds'", "did you mean 'rounds'?"]),
        (GOOD, ("training.membrs=3",), ["no such key 'training.membrs'", "did you mean 'members'?"]),
        (GOOD + "scoring: {scorers: [{scorrer: entropy}]}", (), ["did you mean 'scorer'?"]),
        ("rounds: 3", (), ["pool", "Field required"]),
        (GOOD + "rounds: 0", (), ["rounds", "got:      0", "greater than or equal to 1"]),
        (GOOD + "labelling: {mode: magic}", (), ["labelling.mode", "'magic'", "'oracle' or 'files'"]),
        (GOOD + "name: a/b", (), ["name", "'a/b'"]),
        (GOOD + "scoring: {scorers: [{scorer: entropy}, {scorer: entropy}]}", (), ["same scorer and aggregate twice"]),
        ("pool: [", (), ["not valid YAML", "line 1"]),
        ("- 1", (), ["not a config", "list"]),
        (GOOD, ("rounds",), ["--set rounds", "key.key=value"]),
        (GOOD, ("rounds.deep=1", "rounds.deep.er=1"), ["rounds.deep holds a value, not keys"]),
        (GOOD + "rounds: 2", ("rounds.deep=1",), ["rounds holds a value, not keys"]),
        (GOOD, ("rounds=[",), ["--set rounds=[", "not valid YAML"]),
        (GOOD, ("experiment.seeds=3",), ["experiment.seeds: the section", "`poolscout experiment` and `poolscout ab`"]),
        (GOOD, ("experiment={seeds: 3}",), ["experiment: the section"]),
        (GOOD, ("training=3",), ["training", "got:      3", "a section with keys such as members, epochs,"]),
        (GOOD, ("scoring.scorers=[entropy]",), ["scorers.0\n", "a section with keys such as scorer, aggregate, k"]),
        (GOOD + "detector: {height: 33, width: 34}", (), ["detector.height (also detector.width: ", "multiple of 32)"]),
        (GOOD + "detector: {height: 33, widht: 34}", (), ["no such key 'detector.widht' (also detector.height: "]),
        (
            GOOD + "seed: -1\nrounds: 0\ntraining: {members: 0, epochs: 0, batch_size: 0, flip: 2}",
            (),
            ["(also rounds: ", "; training.members: ", "; training.batch_size: ", " … and 1 more)"],
        ),
    ],
)
def test_a_wrong_config_says_so(tmp_path: Path, text: str, overrides: tuple[str, ...], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": "auto"}, "for Ray only: engine.address; the engine is threads: add --engine ray"),
        ({"name": "processes", "gpus_per_worker": 1}, "for Ray only: engine.gpus_per_worker; the engine is processes"),
        ({"name": "serial", "workers": 2}, "the engine is serial"),
        ({"name": "ray", "gpus_per_worker": 1.5}, "up to 1, or a whole number; got 1.5"),
    ],
)
def test_engine_settings_that_would_do_nothing_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_engine(settings)
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_config({"pool": {"source": "p"}, "engine": settings})


def test_engine_settings_of_ray() -> None:
    for gpus in (0, 0.25, 1, 2):
        assert build_engine({"name": "ray", "address": "auto", "gpus_per_worker": gpus}).gpus_per_worker == gpus


def test_a_missing_config_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.yaml")


def test_one_file_serves_experiments_and_all_other_commands(tmp_path: Path) -> None:
    text = GOOD + "rounds: 2\nexperiment: {seeds: 4}"
    assert load(tmp_path, text) == load(tmp_path, GOOD + "rounds: 2")
    experiment = load_experiment(tmp_path / "run.yaml", ["rounds=5"])
    (tmp_path / "run.yaml").write_text(text)
    assert load_experiment(tmp_path / "run.yaml", ["experiment.full=false"]).experiment.seeds == 4
    assert experiment.rounds == 5


def test_overrides_do_not_change_the_callers_values(tmp_path: Path) -> None:
    values = {"pool": {"source": "a.json"}}
    build_config(values, ["pool.images=b"], base=tmp_path)
    assert values == {"pool": {"source": "a.json"}}


def test_yamls_bare_on_and_off_are_words() -> None:
    config = build_config({"pool": {"source": "x"}}, ["scoring.float32=on", "detector.bf16=off"])
    assert (config.scoring.float32, config.detector.bf16) == ("on", "off")


def test_a_run_of_before_compiling_became_a_matter_of_scoring_is_read() -> None:
    assert build_config({"pool": {"source": "x"}, "detector": {"compile": False}}).detector == DetectorConfig()
    with pytest.raises(ConfigError, match="scoring.compile"):
        build_config({"pool": {"source": "x"}, "detector": {"compile": True}})


def test_workers_that_hold_no_gpu_are_not_sent_to_one() -> None:
    values = {"pool": {"source": "p.json"}, "device": "cuda", "engine": {"name": "processes"}}
    with pytest.raises(ConfigError, match="would crowd one GPU"):
        build_config(values)
    with pytest.raises(ConfigError, match="device cpu and engine.gpus_per_worker"):
        build_config(values | {"device": "cpu", "engine": {"name": "ray", "gpus_per_worker": 1}})
    build_config(values | {"engine": {"name": "ray", "gpus_per_worker": 0.5}})
