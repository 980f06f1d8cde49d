"""The config's rooms of what a run works on: its pool, the short-list of it, its test images, its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poolscout.config_room import Location, Room


class PoolConfig(Room):
    source: Location = Field(
        description="COCO json, Parquet manifest, folder, list of files, tar shards, YOLO, Pascal VOC or video; "
        "a path or a URL such as s3://BUCKET/PREFIX"
    )
    format: Literal["auto", "coco", "folder", "list", "parquet", "tar", "yolo", "voc", "video"] = Field(
        "auto", description="how to read `source`"
    )
    images: Location | None = Field(
        None, description="folder or URL the file names are relative to; default: found beside"
    )
    sequence: str | None = Field(None, description="metadata column that means the recording a frame belongs to")
    frame: str | None = Field(None, description="metadata column with the position inside the sequence")
    every: int = Field(1, ge=1, description="video: every k-th frame")
    check: Literal["headers", "none"] = Field(
        "headers", description="none: widths and heights of the source are trusted; bad images are found when scored"
    )
    max_pixels: int = Field(
        89_000_000, gt=0, le=178_000_000, description="larger images are quarantined as oversized, in pixels"
    )
    max_quarantined: float = Field(
        0.05, ge=0, le=1, description="share of unusable images above which a stage stops and says why"
    )
    retries: int = Field(5, ge=1, description="how often a storage that is busy or fails is asked, at most")
    storage_options: dict[str, dict[str, Any]] = Field(
        {}, description="by protocol, what its fsspec filesystem is made with, e.g. {s3: {anon: true}}"
    )


class ShortlistConfig(Room):
    where: str | None = Field(
        None, description="SQL over the pool's columns, e.g. time_of_day = 'night' AND speed_kmh > 5; none = the pool"
    )
    tables: dict[str, Path] = Field(
        {}, description="by name, tables whose columns it may use too: Parquet, folder of parts or CSV, with image_id"
    )

    @model_validator(mode="after")
    def _tables_are_used(self) -> ShortlistConfig:
        if self.tables and self.where is None:
            raise ValueError("shortlist.tables are for a condition: add shortlist.where, or leave them out")
        return self


class EvaluationConfig(Room):
    annotations: Path | None = Field(None, description="test images (COCO, YOLO, Pascal VOC); none = no evaluation")
    images: Location | None = Field(None, description="folder or URL of the test images; default: found beside")
    size_buckets: tuple[float, ...] | None = Field(
        None,
        description="wMAP's area bounds between buckets, px²; default 32² and 96² scaled to the test images",
    )
    least_boxes: int = Field(
        1, ge=1, description="a class with fewer test boxes in a bucket is left out there: one box's AP is chance"
    )


class LabellingConfig(Room):
    mode: Literal["oracle", "files"] = Field("oracle", description="oracle: known labels play the human; files: wait")
    annotations: Path | None = Field(None, description="the oracle's labels (COCO, YOLO, VOC); default: pool.source")
    classes: tuple[str, ...] | None = Field(None, description="classes to learn; default: all that the oracle knows")
    initial: int = Field(100, ge=0, description="images labelled before the first round")
    initial_sampler: str = Field("random", description="sampler that picks them: random or random-per-sequence")
    initial_labels: Path | None = Field(None, description="labels that exist already (COCO, YOLO, Pascal VOC)")
    bad_boxes: Literal["error", "drop"] = Field("error", description="drop = go on without unusable boxes, listed")
    enough: float = Field(1.0, gt=0, le=1, description="files: share of the asked images that must be back to go on")

    @field_validator("classes")
    @classmethod
    def _classes_differ(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is None:
            return None
        if not classes or len(set(classes)) != len(classes) or not all(name and name.isprintable() for name in classes):
            raise ValueError(f"one or more class names of printable characters, each once; not {list(classes)}")
        return classes
