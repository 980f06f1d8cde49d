"""What a run's folder holds, in whatever state it was left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import RunConfig, load_config
from poolscout.detector.io import load_member
from poolscout.detector.member import Member
from poolscout.errors import PoolscoutError, RunError
from poolscout.pool.shortlist_stage import pool_path
from poolscout.tables.declared import POOL, QUARANTINE, SELECTION
from poolscout.tables.parquet import iter_parts, read_table
from poolscout.tables.runfolder import RunFolder, read_json
from poolscout.tables.schema import TableSpec

Value = TypeVar("Value")


@dataclass(frozen=True)
class Point:
    """One trained ensemble of an arm: what its labels cost and what it can do.

    Attributes:
        arm: "run", "random" or "full".
        number: its round.
        n_images: unique labelled images.
        n_boxes: labelled boxes.
        boxes_per_class: the same by class; empty when not recorded.
        mean: figures averaged over members ("AP50", "AP", "wMAP", "per_class"); None without a test set.
        members: the same of each member.
        test: the test set's images and boxes per class.
        definition: what exactly wMAP is.
    """

    arm: str
    number: int
    n_images: int
    n_boxes: int
    boxes_per_class: dict[str, int]
    mean: dict[str, Any] | None
    members: list[dict[str, Any]]
    test: dict[str, Any]
    definition: str

    def figure(self, name: str) -> float | None:
        return None if self.mean is None else self.mean[name]


@dataclass(frozen=True)
class Round:
    """The folder of a round, and what is in it.

    Attributes:
        number: counted from 0.
        path: the folder.
        selection: the picked images, in pick order; None before they are picked.
        cards: the json of each trained member.
    """

    number: int
    path: Path
    selection: pa.Table | None
    cards: list[dict[str, Any]]

    def has(self, name: str) -> bool:
        return (self.path / name).exists()


@dataclass
class RunData:
    """Everything the report needs but pictures; `problems` says what could not be read.

    Attributes:
        path: the run's folder.
        config: its resolved config.
        n_pool: images that may be picked, after any short-list; None before they are known.
        versions: of the packages that computed it.
        rounds: begun so far.
        points: measured ensembles of the run itself, by round.
        random, full: those of the references; `random` starts with the run's own round 0.
    """

    path: Path
    config: RunConfig
    n_pool: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    random: list[Point] = field(default_factory=list)
    full: Point | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[Point]:
        """The points of the run that were evaluated on a test set."""
        return [point for point in self.points if point.mean is not None]

    @cached_property
    def classes(self) -> list[str]:
        """The classes that are learnt, in the run's order; empty before they are known."""
        known = [card["classes"] for r in self.rounds for card in r.cards if "classes" in card]
        return list(known[-1] if known else self.config.labelling.classes or ())

    def pool_rows(self, image_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Pool rows of a few images, by image id; images the pool does not hold are left out."""
        folder, wanted = RunFolder(self.path).pool, pa.array(image_ids, pa.string())
        if not folder.exists():
            return {}

        def read() -> dict[str, dict[str, Any]]:
            found = [part.filter(pc.is_in(part["image_id"], wanted)).to_pylist() for part in iter_parts(folder, POOL)]
            return {row["image_id"]: row for rows in found for row in rows}

        return self.attempt(read) or {}

    def quarantine(self) -> list[dict[str, str]]:
        """Images that could not be used in any stage of the run, each once for each reason."""
        rows: dict[tuple[str, ...], dict[str, str]] = {}
        files = [*self.path.glob("*/quarantine.parquet"), *self.path.glob("round-*/*quarantine.parquet")]
        for file in sorted({*files, *(f for f in self.path.glob("round-*/quarantine") if f.is_dir())}):
            for part in self.attempt(_parts, file, QUARANTINE) or []:
                for row in part.to_pylist():
                    rows.setdefault((row["image_id"], row["reason"]), row)
        return sorted(rows.values(), key=lambda row: (row["stage"], row["image_id"], row["reason"]))

    def waiting_for(self) -> Path | None:
        """The folder whose images are being labelled; None when nothing is asked for."""
        if self.config.labelling.mode != "files":
            return None
        begun = [self.path / "initial", *(r.path for r in self.rounds)]
        folder = begun[-1]
        return folder / "to_label" if (folder / "to_label").is_dir() else None

    def state(self) -> tuple[str, str]:
        """(kind, words): kind is "done", "waiting" or "running"."""
        if (waiting := self.waiting_for()) is not None:
            return "waiting", f"waiting for labels: see {waiting.relative_to(self.path)}"
        if not self.rounds:
            return "running", "just started"
        last, total = self.rounds[-1], self.config.rounds
        if last.number == total and last.has("metrics.json"):
            missing = [name for name, wanted, there in (
                ("random picks", self.config.references.random, len(self.random) > total),
                ("the whole pool", self.config.references.full, self.full is not None),
            ) if wanted and not there]  # fmt: skip
            if missing:
                return "running", f"all rounds are done; the reference ({', '.join(missing)}) is not finished"
            return "done", f"complete: {total} round{'s' if total > 1 else ''}"
        for name, words in (
            ("selection.parquet", "images are picked"), ("score.manifest.json", "scoring"),
            ("metrics.json", "evaluated"), ("evaluate.manifest.json", "evaluating"), ("models", "training"),
        ):  # fmt: skip
            if last.has(name):
                return "running", f"not finished: round {last.number} of {total}, {words}"
        return "running", f"not finished: round {last.number} of {total}"

    def attempt(self, read: Callable[..., Value], *arguments: Any) -> Value | None:
        """`read(*arguments)`, or None with the reason among the problems: one bad file does not cost the report."""
        try:
            return read(*arguments)
        except PoolscoutError as error:
            reason = str(error).splitlines()[0].replace(f"{self.path}/", "")
            if reason not in self.problems:
                self.problems.append(reason)
            return None


def read_run(path: Path) -> RunData:
    """Read a run's folder.

    Raises:
        RunError: it is not a run's folder.
        ConfigError: its run.yaml is not a config this release knows.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise RunError(
            f"{path}: not a run's folder",
            got="no run.yaml in it" if folder.path.is_dir() else "no such folder",
            expected="a folder that `poolscout run` has written",
            fix="check the path",
        )
    run = RunData(folder.path, load_config(folder.config))
    if (folder.path / "versions.json").exists():
        run.versions = run.attempt(read_json, folder.path / "versions.json") or {}
    if (pool := pool_path(folder, run.config.shortlist)).exists():
        run.n_pool = run.attempt(_count_rows, pool)
    run.rounds = [_round(run, p) for p in folder.rounds()]
    run.points = _points(run, "run", folder.rounds())
    run.random = _points(run, "random", sorted(folder.reference("random").glob("round-*")))
    if run.random and run.points and run.random[0].number > 0:
        run.random = [run.points[0], *run.random]  # both arms start from the same labels and the same detectors
    full = _points(run, "full", sorted(folder.reference("full").glob("round-*")))
    run.full = full[-1] if full else None
    return run


def ensemble(shown: Round) -> list[Member]:
    """The detectors of a round, in member order.

    Raises:
        RunError: they are not there.
        TableError, CorruptPartError: one cannot be read.
    """
    files = sorted(shown.path.glob("models/member-*.safetensors"), key=lambda p: int(p.stem.partition("-")[2]))
    if not files:
        raise RunError("the round's models are not there", got="no models/member-*.safetensors", fix="train them again")
    return [load_member(file.with_suffix("")) for file in files]


def _parts(path: Path, spec: TableSpec) -> list[pa.Table]:
    return list(iter_parts(path, spec))


def _count_rows(pool: Path) -> int:
    return sum(part.num_rows for part in iter_parts(pool, POOL, ["image_id"]))


def _round(run: RunData, path: Path) -> Round:
    selection = path / "selection.parquet"
    cards = sorted(path.glob("models/member-*.json"), key=lambda p: int(p.stem.partition("-")[2]))
    return Round(
        int(path.name.partition("-")[2]),
        path,
        run.attempt(read_table, selection, SELECTION) if selection.exists() else None,
        [card for p in cards if (card := run.attempt(read_json, p)) is not None],
    )


def _points(run: RunData, arm: str, folders: list[Path]) -> list[Point]:
    points = []
    for folder in folders:
        file = folder / "metrics.json"
        values = run.attempt(read_json, file) if file.exists() else None
        if values is None:
            continue
        try:
            points.append(Point(
                arm, int(folder.name.partition("-")[2]), int(values["images"]["unique"]), int(values["boxes"]),
                values.get("boxes_per_class", {}), values.get("mean"), values.get("members", []),
                values.get("test", {}), values.get("wMAP_definition", ""),
            ))  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            run.problems.append(f"{file.relative_to(run.path)}: not a round's figures ({json.dumps(str(error))})")
    return points
