"""The run's config: one frozen model per room. Unknown keys are refused with the nearest known one.

Paths are relative to the config file. `load_config` reads YAML, applies `a.b=c` overrides and checks it all.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from poolscout.config_pool import EvaluationConfig, LabellingConfig, PoolConfig, ShortlistConfig
from poolscout.config_room import Room, Switch, locate, validated
from poolscout.config_selection import SelectionConfig
from poolscout.errors import ConfigError


class DetectorConfig(Room):
    height: int = Field(192, gt=0, multiple_of=32, description="input height, px; frames are fitted into it")
    width: int = Field(320, gt=0, multiple_of=32, description="input width, px")
    stride: Literal[4, 8, 16] = Field(4, description="input pixels a map position")
    stem: int = Field(16, ge=1, description="channels at stride 2")
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        (32, 64, 128, 160),
        description="channels at strides 4, 8, 16 and 32; the last is the embedding's length",
    )
    blocks: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] = Field(
        (1, 1, 1, 1), description="residual blocks at each of these strides"
    )
    neck: int = Field(64, ge=1, description="channels of the decoder")
    dropout: float = Field(0.05, ge=0, lt=1, description="share of decoder inputs dropped in training")
    nms_iou: float = Field(0.6, gt=0, le=1, description="of two boxes of a class that overlap more, the weaker goes")
    bf16: Switch = Field("auto", description="bfloat16 arithmetic; auto: where it is native")

    @model_validator(mode="before")
    @classmethod
    def _compile_has_moved(cls, values: Any) -> Any:
        """Runs written before `compile` became a matter of scoring have it here, nearly always false."""
        if not isinstance(values, dict) or "compile" not in values:
            return values
        if values["compile"]:
            raise ValueError("compile is now scoring.compile")
        return {key: value for key, value in values.items() if key != "compile"}


class TrainingConfig(Room):
    members: int = Field(3, ge=1, description="detectors in the ensemble")
    epochs: float = Field(16, gt=0, description="crops drawn an image, within the bounds on steps")
    min_steps: int = Field(600, ge=10, description="fewest optimiser steps, however few the images")
    max_steps: int = Field(3000, ge=10, description="most optimiser steps, however many the images")
    batch_size: int = Field(8, ge=2, description="crops an optimiser step")
    crop_height: int = Field(160, gt=0, multiple_of=32, description="training crop's height, px of the input")
    crop_width: int = Field(256, gt=0, multiple_of=32, description="training crop's width, px of the input")
    zoom: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.6, 1.7), description="least and greatest random zoom of a crop"
    )
    on_objects: float = Field(0.65, ge=0, le=1, description="share of crops placed on an object, classes balanced")
    balance: float = Field(0.8, ge=0, le=1, description="0: objects drawn as they come; 1: every class equally often")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip")
    colour: float = Field(0.3, ge=0, lt=1, description="strength of brightness, contrast and tint changes")
    learning_rate: float = Field(0.007, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(0.05, ge=0, description="decay of the kernels, decoupled from the gradient")
    box_weight: float = Field(2.0, gt=0, description="weight of the box loss beside the map loss")
    average_last: float = Field(
        0.03, ge=0, lt=1, description="time constant of the weights' moving average, share of the steps"
    )
    hold_back: float = Field(0.1, ge=0, lt=1, description="share of labelled images kept for calibration")
    start_from: Path | None = Field(
        None,
        description="folder of an ensemble whose weights each training begins with (`poolscout train` on other data); "
        "default: from scratch",
    )

    @model_validator(mode="after")
    def _zoom_rises(self) -> TrainingConfig:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom: the least must not be above the greatest; got {list(self.zoom)}")
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps must not be above max_steps; got {self.min_steps} and {self.max_steps}")
        return self


class ScorerChoice(Room):
    scorer: str = Field(description="a registered scoring function, e.g. mutual_information")
    aggregate: str = Field("max", description="over positions or boxes: max, average, sum, top_k; whole for an image's")
    k: int | None = Field(None, ge=1, le=1_000_000, description="top_k: mean of how many of the highest")

    @property
    def column(self) -> str:
        """The score table's column of this choice."""
        return (
            f"{self.scorer}_{self.aggregate.removesuffix('_k')}_{self.k}"
            if self.k
            else f"{self.scorer}_{self.aggregate}"
        )


class ScoringConfig(Room):
    scorers: tuple[ScorerChoice, ...] = Field(
        (ScorerChoice(scorer="mutual_information", aggregate="max"),),
        min_length=1,
        description="computed in one pass; the first one ranks the images",
    )
    over: Literal["unlabelled", "all"] = Field(
        "unlabelled",
        description="all = the paper's [X_u, X_l]: labelled images may be picked again, at no cost",
    )
    batch_size: int = Field(
        8, ge=1, description="images a forward pass; 8 suits a CPU's cache, a GPU wants 128 or more"
    )
    shard_size: int = Field(1000, ge=1, description="images a part: the unit of commit")
    min_probability: float = Field(0.05, gt=0, lt=1, description="weaker detections are not stored")
    max_boxes: int = Field(100, ge=1, description="detections stored an image, strongest first")
    float32: Switch = Field(
        "auto",
        description="calculate in float32 also where bf16 is native, 2 to 3 times slower; auto: where the first scorer "
        "would rank otherwise in bf16 (Spearman's ρ below 0.999, docs/results.md)",
    )
    compile: bool = Field(
        False,
        description="torch.compile the members first: takes seconds, then faster; pays from some 20,000 images on",
    )
    dropout_passes: int = Field(8, ge=2, description="mc_dropout: looks of the first member with dropout on")


class EngineConfig(Room):
    name: Literal["threads", "processes", "ray", "serial"] = Field(
        "threads",
        description="threads: this process; processes: one for each worker; ray: a local or existing cluster; "
        "serial: one thing after the other",
    )
    workers: int | None = Field(None, ge=1, description="default: one for each core; ray: as many as its cores or GPUs")
    address: str | None = Field(
        None, description="ray: of the cluster to join, e.g. auto or HOST:6379; default: a local one"
    )
    gpus_per_worker: float = Field(0, ge=0, description="ray: GPUs an actor holds; 0.5 lets two share one")
    retries: int = Field(3, ge=0, description="how often a shard is given to another worker when its worker is lost")

    @model_validator(mode="after")
    def _every_key_counts(self) -> EngineConfig:
        of_ray = {"address": self.address, "gpus_per_worker": self.gpus_per_worker}
        if self.name != "ray" and (unused := [f"engine.{key}" for key, value in of_ray.items() if value]):
            raise ValueError(
                f"for Ray only: {', '.join(unused)}; the engine is {self.name}: "
                "add --engine ray (engine.name: ray), or leave that out"
            )
        if self.name == "serial" and self.workers is not None:
            raise ValueError("engine.workers counts with several workers, and the engine is serial: leave it out")
        if self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ValueError(f"engine.gpus_per_worker: up to 1, or a whole number; got {self.gpus_per_worker:g}")
        return self

    @property
    def shares_no_gpu(self) -> bool:
        """Work goes on in several other processes, and none of them holds a GPU."""
        return self.name in ("processes", "ray") and not self.gpus_per_worker


class ReferenceConfig(Room):
    random: bool = Field(False, description="also train on random picks of the same size each round")
    full: bool = Field(False, description="also train once on the labels of the whole pool")
    members: int = Field(1, ge=1, description="detectors trained for each reference point")


class ReportConfig(Room):
    images_per_round: int = Field(12, ge=0, description="picked images shown for each round")


class RunConfig(Room):
    name: str = Field("run", pattern=r"^\w[\w.-]*$", description="the run's name; its folder is runs/NAME by default")
    seed: int = Field(0, ge=0, description="everything random in the run follows from it")
    rounds: int = Field(3, ge=1, description="rounds of scoring, selection, labelling and training")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:0")
    pool: PoolConfig
    shortlist: ShortlistConfig = ShortlistConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    labelling: LabellingConfig = LabellingConfig()
    detector: DetectorConfig = DetectorConfig()
    training: TrainingConfig = TrainingConfig()
    scoring: ScoringConfig = ScoringConfig()
    selection: SelectionConfig = SelectionConfig()
    engine: EngineConfig = EngineConfig()
    references: ReferenceConfig = ReferenceConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="before")
    @classmethod
    def _empty_rooms(cls, values: Any) -> Any:
        """`training:` with nothing below it, as YAML reads it, means the defaults."""
        return {key: {} if value is None else value for key, value in values.items()}

    @model_validator(mode="after")
    def _scorers_differ(self) -> RunConfig:
        columns = [choice.column for choice in self.scoring.scorers]
        if len(set(columns)) != len(columns):
            raise ValueError(f"scoring.scorers names the same scorer and aggregate twice: {columns}")
        return self

    @model_validator(mode="after")
    def _device_and_engine_agree(self) -> RunConfig:
        if self.device.startswith("cuda") and self.engine.shares_no_gpu:
            raise ValueError(
                f"device {self.device}: the workers of engine.name: {self.engine.name} would crowd one GPU: "
                "use threads, or ray with engine.gpus_per_worker"
            )
        if self.device == "cpu" and self.engine.gpus_per_worker:
            raise ValueError("device cpu and engine.gpus_per_worker: leave one of them out")
        return self


AnyRun = TypeVar("AnyRun", bound=RunConfig)
EXPERIMENT = "experiment"  # the section that a run's config does not have and an experiment's has
PATH_KEYS = (
    ("pool", "source"), ("pool", "images"), ("evaluation", "annotations"), ("evaluation", "images"),
    ("labelling", "annotations"), ("labelling", "initial_labels"), ("training", "start_from"),
    ("selection", "constraints", "exclude"), ("selection", "constraints", "include"),
)  # fmt: skip


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's YAML, apply `a.b=c` overrides (values are YAML too) and check it; see `load_as`.

    The file's section `experiment` is left out: one file serves all commands.
    """
    return load_as(RunConfig, path, overrides)


def load_as(model: type[AnyRun], path: Path, overrides: Sequence[str] = ()) -> AnyRun:
    """A run's YAML with overrides, checked as a `RunConfig` or a model of one.

    Raises:
        ConfigError: no such file, broken YAML, a key that does not exist (names the nearest), a value out of range.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: the config cannot be read", got=str(error), expected="a YAML file", fix="check the path"
        ) from error
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a config", got=type(values).__name__, expected="keys such as pool: and rounds:")
    if EXPERIMENT not in model.model_fields:
        values.pop(EXPERIMENT, None)
    return build_as(model, values, overrides, base=path.parent, where=str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        ConfigError: it is none, or holds a number or date that cannot be.
    """
    try:
        return yaml.safe_load(text)
    except Exception as error:  # PyYAML's constructors raise nearly anything on odd scalars
        raise ConfigError(
            f"{where}: not valid YAML", got=str(error) or type(error).__name__, expected="YAML",
            fix="mend the line it names, or put quotes around the value",
        ) from error  # fmt: skip


def build_config(
    values: dict[str, Any], overrides: Sequence[str] = (), *, base: Path = Path(), where: str = "config"
) -> RunConfig:
    """Check plain values and `a.b=c` overrides as a `RunConfig`; relative paths start at `base`; see `build_as`."""
    return build_as(RunConfig, values, overrides, base=base, where=where)


def build_as(
    model: type[AnyRun], values: dict[str, Any], overrides: Sequence[str] = (), *, base: Path = Path(),
    where: str = "config",
) -> AnyRun:  # fmt: skip
    """Plain values with overrides, checked as a `RunConfig` or a model of one.

    Raises:
        ConfigError: names the key, what was found and what was expected.
    """
    values = copy.deepcopy(values)
    for override in overrides:
        if EXPERIMENT not in model.model_fields:
            _check_is_no_experiments(override)
        _apply(values, override)
    for keys in PATH_KEYS:
        _locate_in(values, keys, base)
    for strategy in _strategies_in(values):
        for keys in PATH_KEYS:
            _locate_in(strategy, keys, base)
    shortlist = values.get("shortlist")
    if isinstance(shortlist, dict) and isinstance(tables := shortlist.get("tables"), dict):
        tables.update({name: str(locate(path, base)) for name, path in tables.items() if isinstance(path, str)})
    return validated(model, values, where)


def _locate_in(values: Any, keys: Sequence[str], base: Path) -> None:
    *rooms, key = keys
    for name in rooms:
        values = values.get(name) if isinstance(values, dict) else None
    if isinstance(values, dict) and isinstance(values.get(key), str):
        values[key] = str(locate(values[key], base))


def _strategies_in(values: dict[str, Any]) -> list[Any]:
    """Of an experiment: each has settings of `selection` of its own."""
    room = values.get(EXPERIMENT)
    named, ab = (room.get("strategies"), room.get("ab")) if isinstance(room, dict) else (None, None)
    return [
        *(named.values() if isinstance(named, dict) else ()),
        *([ab.get("learning")] if isinstance(ab, dict) else ()),
    ]


def build_selection(values: dict[str, Any], where: str = "selection") -> SelectionConfig:
    """Check plain values as the settings of a selection alone.

    Raises:
        ConfigError: names the key, what was found and what was expected.
    """
    return validated(SelectionConfig, values, where)


def build_engine(values: dict[str, Any], where: str = "engine") -> EngineConfig:
    """Check plain values as the settings of the engine alone; those that are None are left to their defaults.

    Raises:
        ConfigError: names the key, what was found and what was expected.
    """
    return validated(EngineConfig, {key: value for key, value in values.items() if value is not None}, where)


def _check_is_no_experiments(override: str) -> None:
    key = override.partition("=")[0].strip()
    if key.split(".")[0] == EXPERIMENT:
        raise ConfigError(
            f"{key}: the section {EXPERIMENT} is for `poolscout experiment` and `poolscout ab`",
            got=f"--set {override}", expected="a setting of this command's own",
            fix="leave it out; in the file it may stay",
        )  # fmt: skip


def _apply(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {override}: not an override",
            got=override,
            expected="key.key=value, e.g. training.members=3",
        )
    for depth, key in enumerate(keys[:-1]):
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(
                f"--set {override}: {'.'.join(keys[: depth + 1])} holds a value, not keys", got=repr(values),
                expected="a key with keys below it", fix="see docs/config.md",
            )  # fmt: skip
    values[keys[-1]] = parse_yaml(text, f"--set {override}")
