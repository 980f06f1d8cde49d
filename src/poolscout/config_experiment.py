"""The config's room of experiments: which strategies are compared, over how many seeds, on what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poolscout.config import RunConfig, ScorerChoice, load_as
from poolscout.config_room import Classes, Room, validated
from poolscout.config_selection import SelectionConfig

NAME = r"^[\w+-][\w.+-]*$"  # of a folder, too


class StrategyConfig(Room):
    title: str = Field("", description="what tables and charts call it; default: its name")
    scorer: str | None = Field(None, description="the score that ranks; none: the sampler does not look at scores")
    aggregate: str = Field("max", description="of the scorer")
    k: int | None = Field(None, ge=1, description="of aggregate: top_k")
    over: Literal["unlabelled", "all"] = Field("unlabelled", description="all = [X_u, X_l]: labelled images again too")
    embeddings: str = Field("own", description="own: the first member's; else a name from experiment.embeddings")
    knows_labels: bool = Field(
        False, description="picks by the hidden labels, the most boxes of rare classes; what it wins is no bound"
    )
    selection: dict[str, Any] = Field({}, description="settings of `selection` in which this strategy differs")

    @property
    def choice(self) -> ScorerChoice | None:
        """The score that ranks the images."""
        return None if self.scorer is None else ScorerChoice(scorer=self.scorer, aggregate=self.aggregate, k=self.k)


class AbConfig(Room):
    classes: Classes = Field((), description="experiment ab: those that are wanted, e.g. [person, bicycle]")
    where: str | None = Field(
        None, description="experiment ab: SQL of the images that both arms pick from; default: the whole pool"
    )
    reference_where: str | None = Field(
        None, description="experiment ab: SQL of those the reference set is drawn from; default: the whole pool"
    )
    learning: StrategyConfig | None = Field(
        None,
        description="experiment ab: what picks as al; default: top-n by mutual information, by turns over `classes`",
    )
    splits: int = Field(1, ge=1, description="experiment ab: how often the picks of a seed are split")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of each arm's images to measure on, whole sequences")

    @field_validator("learning")
    @classmethod
    def _new_images_are_picked(cls, learning: StrategyConfig | None) -> StrategyConfig | None:
        if learning is not None and learning.over != "unlabelled":
            raise ValueError(f"both arms pick new images: over: unlabelled; got {learning.over}")
        if learning is not None and learning.knows_labels:
            raise ValueError("what picks as al has not seen the labels: knows_labels: false; got true")
        return learning


class ExperimentConfig(Room):
    seeds: int = Field(10, ge=1, description="paired repetitions: same initial labels and weights for all strategies")
    strategies: dict[str, StrategyConfig] | None = Field(None, description="by name; default: those of the experiment")
    baselines: tuple[str, ...] = Field(("random",), description="strategies that the others are compared with")
    embeddings: dict[str, str] = Field(
        {}, description="by name, backbones for strategies that use others than their own: e.g. {dino: dinov2_vits14}"
    )
    full: bool = Field(True, description="also train on the labels of the whole pool, for each seed")
    train_out: bool = Field(
        False,
        description="the last round trains as many steps as the whole pool; the rounds before it are there to pick",
    )
    validation: float = Field(
        0, ge=0, lt=1, description="share of the pool's images, whole sequences, to measure on in place of the test set"
    )
    targets: tuple[float, ...] = Field((), description="wMAP whose cost is told; default: shares of the whole pool's")
    near_duplicates: int = Field(
        12, ge=-1, le=256, description="bits of 256 up to which the hashes of two images look alike; -1: not checked"
    )

    independent_images: bool = Field(
        False,
        description="every image stands by itself: where no recordings are named, images may be split one by one",
    )
    ab: AbConfig = Field(AbConfig(), description="of the A/B test")

    @field_validator("strategies")
    @classmethod
    def _names_are_folders(cls, strategies: dict[str, StrategyConfig] | None) -> dict[str, StrategyConfig] | None:
        for name in strategies or {}:
            if not re.fullmatch(NAME, name) or name in ("start", "full"):
                raise ValueError(f"a strategy's name: letters, digits, . _ + -, not start or full; got {name!r}")
        return strategies


class ExperimentRunConfig(RunConfig):
    """A run's config, and what is to be compared with it."""

    experiment: ExperimentConfig = ExperimentConfig()

    @model_validator(mode="after")
    def _labels_are_known(self) -> ExperimentRunConfig:
        if self.labelling.mode != "oracle":
            raise ValueError("an experiment needs labels that are known already: labelling.mode: oracle")
        return self

    @model_validator(mode="after")
    def _strategies_pick_as_many(self) -> ExperimentRunConfig:
        strategies = dict(self.experiment.strategies or {})
        if self.experiment.ab.learning is not None:
            strategies["experiment.ab.learning"] = self.experiment.ab.learning
        for name, strategy in strategies.items():
            n = self.selection_of(strategy, name).n
            if n != self.selection.n:
                raise ValueError(
                    f"strategy {name}: all pick as many images as selection.n says, {self.selection.n}; got n: {n}"
                )
        return self

    def selection_of(self, strategy: StrategyConfig, name: str = "") -> SelectionConfig:
        """The settings of a strategy's selections: the run's, and those in which it differs.

        One without a scorer, such as random picks, has none of the run's that rank by scores.

        Raises:
            ConfigError: it has a setting that selections do not have, or one that cannot be.
        """
        values = self.selection.model_dump()
        if strategy.scorer is None and not strategy.knows_labels:
            values |= SelectionConfig().model_dump(include={"over_classes", "class_weights", "normalise_classes"})
            values["constraints"] |= {"classes": (), "class_quota": None, "prefilter": None}
        for key, value in strategy.selection.items():
            is_room = isinstance(value, dict) and key in ("constraints", "price")
            values[key] = {**values[key], **value} if is_room else value
        return validated(SelectionConfig, values, f"strategy {name or strategy.title}: selection")


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> ExperimentRunConfig:
    """Read the YAML of a run or an experiment; see `load_config`.

    Raises:
        ConfigError: as `load_config`.
    """
    return load_as(ExperimentRunConfig, path, overrides)
