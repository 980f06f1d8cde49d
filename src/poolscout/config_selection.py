"""The config's room of selection: sampler, what scores mean, constraints, what labelling costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from poolscout.config_room import Classes, Room, Weight

ImageIds = Path | tuple[Annotated[str, Field(min_length=1)], ...]  # a file, or the ids themselves


class PriceConfig(Room):
    seconds_per_image: float = Field(0.0, ge=0, description="labelling time of an image, whatever it shows, s")
    seconds_per_box: float = Field(0.0, ge=0, description="labelling time of a box, s")
    min_probability: float = Field(
        0.5, ge=0, le=1, description="a predicted box of the ensemble counts from this probability on"
    )

    def minutes(self, images: float, boxes: float) -> float:
        """To label so many images with so many boxes in them."""
        return (self.seconds_per_image * images + self.seconds_per_box * boxes) / 60


class ConstraintsConfig(Room):
    classes: Classes = Field(
        (), description="round-robin: picks are taken for these classes in turn, each ranked by its own score"
    )
    class_quota: dict[str, PositiveFloat] | None = Field(
        None, description="of each of `classes`: shares that add up to 1, or whole numbers of images; default: equal"
    )
    budget_boxes: int | None = Field(
        None, ge=1, description="most predicted boxes in a batch; an image that shows more than is left is passed over"
    )
    budget_minutes: PositiveFloat | None = Field(
        None, description="most labelling time of a batch by selection.price, min"
    )
    cap_per_sequence: int | None = Field(None, ge=1, description="most images of one sequence in a batch")
    min_gap: int | None = Field(
        None, ge=1, description="least difference between the frame numbers of two picks of one sequence, frames"
    )
    gap_to_labelled: bool = Field(False, description="min_gap also to images that are labelled already")
    min_distance: PositiveFloat | None = Field(
        None,
        description="least distance of a pick to earlier picks and labelled images, in selection.metric (euclidean is "
        "squared): no near-duplicates",
    )
    prefilter: float | None = Field(
        None, ge=1, description="only the best prefilter · n by score are looked at, of each class its part"
    )
    exclude: ImageIds = Field((), description="never picked: image ids, or a file of them (text, CSV or Parquet)")
    include: ImageIds = Field(
        (), description="picked first, in this order, whatever the other constraints: image ids, or a file of them"
    )

    @model_validator(mode="after")
    def _what_belongs_together(self) -> ConstraintsConfig:
        if self.gap_to_labelled and self.min_gap is None:
            raise ValueError("gap_to_labelled goes with min_gap; got no min_gap")
        quota = self.class_quota
        if quota is None:
            return self
        if set(quota) != set(self.classes):
            raise ValueError(f"class_quota: one for each of classes: {list(self.classes)}; got {quota}")
        if not self.quota_in_shares and any(value != int(value) for value in quota.values()):
            raise ValueError(f"class_quota: shares that add up to 1, or whole numbers of images; got {quota}")
        return self

    @property
    def quota_in_shares(self) -> bool:
        """Whether class_quota is in shares of the batch, not in images."""
        return self.class_quota is None or math.isclose(sum(self.class_quota.values()), 1.0, abs_tol=1e-6)


class SelectionConfig(Room):
    sampler: str = Field("top-n", description="a registered sampler")
    n: int = Field(100, ge=1, description="images picked a round")
    metric: Literal["euclidean", "cosine"] = Field("euclidean", description="distance between embeddings")
    score_power: float = Field(
        1.0, ge=0, description="samplers that weigh distances by scores use score^power; 0: distances alone"
    )
    over_classes: Literal["max", "mean", "weighted"] = Field(
        "max", description="an image's score from those of its classes; weighted = Σ weight · score"
    )
    class_weights: dict[str, Weight] | None = Field(
        None, description="with over_classes: weighted; a class that is not named weighs 1"
    )
    normalise_classes: bool = Field(
        False, description="rank within each class first, so that no class takes the batch by its wider range"
    )
    constraints: ConstraintsConfig = Field(ConstraintsConfig(), description="what a batch must be like")
    price: PriceConfig = Field(PriceConfig(), description="what labelling costs")

    @model_validator(mode="after")
    def _weights_go_with_weighted(self) -> SelectionConfig:
        if (self.class_weights is not None) != (self.over_classes == "weighted"):
            raise ValueError(
                f"class_weights and over_classes: weighted, or neither; got over_classes: {self.over_classes} and "
                f"class_weights: {self.class_weights}"
            )
        return self

    @model_validator(mode="after")
    def _constraints_fit(self) -> SelectionConfig:
        if self.constraints.classes and (self.over_classes != "max" or self.normalise_classes):
            raise ValueError(
                "constraints.classes ranks each class by its own score: without over_classes, class_weights and "
                f"normalise_classes; got over_classes: {self.over_classes}, normalise_classes: {self.normalise_classes}"
            )
        if self.constraints.budget_minutes and not self.price.seconds_per_image + self.price.seconds_per_box:
            raise ValueError(
                "constraints.budget_minutes needs price.seconds_per_image or price.seconds_per_box above 0"
            )
        return self
