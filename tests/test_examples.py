"""The configs in examples/ are understood by the commands that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolscout.config import load_config
from poolscout.config_experiment import load_experiment
from poolscout.experiments import ab, runner

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMANDS = {
    "blood_cells": ["run"],
    "carla_driving": ["run"],
    "carla_experiment": ["loop"],
    "choose_strategy": ["loop"],
    "sandbox_ab": ["ab"],
    "sandbox_experiment": ["scoring", "sampling", "diversity"],
    "sandbox_loop": ["loop"],
    "what_there_is_to_win": ["loop"],
}


def test_all_are_here() -> None:
    assert sorted(COMMANDS) == sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in COMMANDS.items() for kind in kinds])
def test_an_example_is_settled_and_names_its_command(name: str, kind: str) -> None:
    path = EXAMPLES / f"{name}.yaml"
    command = f"poolscout run examples/{name}.yaml" if kind == "run" else f"experiment {kind} examples/{name}.yaml"
    if kind == "run":
        assert load_config(path).selection.n > 0
    elif kind == "ab":
        assert ab.settled(load_experiment(path))[0].experiment.ab.classes
    else:
        assert "random" in runner.settled(kind, load_experiment(path))[1]
    if kind not in ("sampling", "diversity"):
        assert command in path.read_text()
