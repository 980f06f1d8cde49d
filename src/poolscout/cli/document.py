"""Writes docs/config.md and docs/cli.md from the code: `python -m poolscout.cli.document CONFIG CLI`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import typer
from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from poolscout.cli.app import app
from poolscout.config import RunConfig, ScorerChoice
from poolscout.config_experiment import ExperimentRunConfig, StrategyConfig
from poolscout.tables.atomic import write_text

CONFIG_HEAD = """# The run's config

Generated from `src/poolscout/config.py` by `make docs`; do not edit.

A run is one YAML file; any key can be set on the command line: `--set training.members=6`. Paths are relative to the
file. Keys that do not exist are refused. The room `experiment` is for `poolscout experiment` and `poolscout ab`, which
read the rest too; other commands leave a file's section `experiment` out, so that one file serves them all.
"""
CLI_HEAD = """# The command line

Generated from `src/poolscout/cli/` by `make docs`; do not edit. `poolscout COMMAND --help` says the same.
"""


def config_markdown() -> str:
    """Every config key with its default and meaning."""
    text = CONFIG_HEAD + _room("(top level)", RunConfig, skip_rooms=True)
    for name, field in ExperimentRunConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            text += _room(f"{name}:", field.annotation, skip_rooms=True)
            for inner, below in field.annotation.model_fields.items():
                if isinstance(below.annotation, type) and issubclass(below.annotation, BaseModel):
                    text += _room(f"{name}.{inner}:", below.annotation)
    text += _room("each of scoring.scorers:", ScorerChoice)
    return text + _room("each of experiment.strategies:", StrategyConfig)


def _room(title: str, model: type[BaseModel], skip_rooms: bool = False) -> str:
    rows = []
    for name, field in model.model_fields.items():
        is_room = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if not (skip_rooms and is_room):
            meaning = "; ".join(filter(None, [field.description, _bounds(field)]))
            rows.append(f"| `{name}` | {_default(field.default)} | {meaning} |")
    return f"\n## {title}\n\n| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _bounds(field: FieldInfo) -> str:
    """What a number may be; empty where it may be any."""
    words = {Gt: ("gt", "> {}"), Ge: ("ge", "≥ {}"), Lt: ("lt", "< {}"), Le: ("le", "≤ {}"),
             MultipleOf: ("multiple_of", "a multiple of {}")}  # fmt: skip
    told = [(words[type(one)], one) for one in field.metadata if type(one) in words]
    return ", ".join(text.format(f"{getattr(one, name):,}") for (name, text), one in told)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "*required*"
    if value is None:
        return "–"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "; ".join(f"`{item.model_dump()}`" for item in value)
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def cli_markdown() -> str:
    """Every command with its options and example."""
    root = typer.main.get_command(app)
    return CLI_HEAD + _command("poolscout", root)


def _command(path: str, command: Any) -> str:
    if hasattr(command, "commands"):
        return "".join(_command(f"{path} {name}", sub) for name, sub in command.commands.items())
    rows = []
    for parameter in command.params:
        shown = " ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
        rows.append(f"| `{shown}` | {getattr(parameter, 'help', '') or ''} |")
    head = f"\n## {path}\n\n{inspect.cleandoc(command.help or '')}\n\n"
    return head + "| argument or option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), config_markdown())
    write_text(Path(sys.argv[2]), cli_markdown())
