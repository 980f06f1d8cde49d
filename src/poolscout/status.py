"""The state of a run, read by somebody who looks on: nothing in the run's folder is written or held."""

from __future__ import annotations

import fcntl
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from poolscout.engine.journal import LOG, Event, JournalReader
from poolscout.errors import CorruptPartError, RunError
from poolscout.tables.lock import LOCK, Holder
from poolscout.tables.manifest import manifest_path, read_manifest
from poolscout.tables.runfolder import RunFolder, read_json

State = Literal["running", "waiting for labels", "finished", "failed", "interrupted", "killed", "stopped"]
LAST_NOTES = 5
_MANIFEST = ".manifest.json"


@dataclass(frozen=True)
class Writer:
    """Who is in the run's lock.

    Attributes:
        held: the lock is held.
        alive: the process is there; None where that cannot be told from this machine or container.
        since: when the lock was taken, UTC.
    """

    pid: int
    host: str
    command: str
    held: bool
    alive: bool | None
    since: str


@dataclass(frozen=True)
class TaskState:
    """Where one bar stands, or stood at its end; seconds are those of all sessions that worked on it.

    A total of 0 means that it is not known, and neither is the time left.
    """

    title: str
    total: int
    done: int = 0
    seconds: float = 0.0
    rate: float | None = None
    left_s: float | None = None
    resident_bytes: int | None = None
    peak_bytes: int | None = None
    note: str = ""
    state: Literal["running", "done", "broken off"] = "running"
    time: str = ""


@dataclass(frozen=True)
class StageState:
    """What a stage's manifest says.

    Attributes:
        where: the stage's folder in the run, e.g. round-001.
        time: when it was finished, or begun when it is not; UTC.
    """

    stage: str
    where: str
    finished: bool
    time: str


@dataclass(frozen=True)
class RunStatus:
    """All that can be told of a run from its folder.

    Attributes:
        state: running: its lock is held; killed: it is not, and the log has no end; stopped: the same without a log.
        tasks: what had a bar, in order of its first beginning; empty without a log.
        stages: those begun, in order of time.
        rounds: what each round's labels cost, and AP50, AP and wMAP where there are test images.
        quarantine: images set aside, of the pool and of the test images.
        error: type and message when it failed.
    """

    path: str
    state: State
    command: str | None
    started: str | None
    writer: Writer | None
    tasks: tuple[TaskState, ...]
    stages: tuple[StageState, ...]
    rounds: tuple[dict[str, Any], ...]
    quarantine: dict[str, int]
    notes: tuple[str, ...]
    error: dict[str, str] | None
    waiting_for: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class RunWatch:
    """Looks at one run, again and again; of the log only what is new is read.

    Args:
        path: the run's folder, or that of a single stage.

    Raises:
        RunError: there is no run.
    """

    def __init__(self, path: Path) -> None:
        self._folder, self._reader, self._history = RunFolder(path), JournalReader(Path(path) / LOG), _History()
        self._counted: dict[tuple[Path, int], frozenset[str]] = {}
        if not self._folder.config.exists() and not (Path(path) / LOG).exists() and not any(self._manifests()):
            raise RunError(
                f"{path}: no run here", got="neither run.yaml nor log.jsonl nor a stage's manifest",
                expected="the folder of a run, or the --out of train, score or embed", fix="check the path",
            )  # fmt: skip

    def look(self) -> RunStatus:
        """The state now."""
        path, history = self._folder.path, self._history
        # The lock first: a run that ends in between has then written its last line.
        writer = lock_holder(path)
        for event in self._reader.read():
            history.add(event)
        stages = tuple(sorted(self._stages(), key=lambda stage: (stage.time, stage.where, stage.stage)))
        waiting_for = history.last.get("waiting_for") if history.last else self._asks_for_labels()
        state = self._state(writer, stages, waiting_for)
        tasks = tuple(history.tasks.values())
        if state != "running":
            tasks = tuple(replace(task, state="broken off") if task.state == "running" else task for task in tasks)
        return RunStatus(
            path=str(path), state=state, command=history.session.get("command"), started=history.session.get("time"),
            writer=writer, tasks=tasks, stages=stages, rounds=tuple(self._rounds()), quarantine=self._quarantine(),
            notes=tuple(history.notes), error=history.error if state == "failed" else None,
            waiting_for=waiting_for if state == "waiting for labels" else None,
        )  # fmt: skip

    def _state(self, writer: Writer | None, stages: tuple[StageState, ...], waiting_for: str | None) -> State:
        if writer is not None and writer.held:
            return "running"
        last = self._history.last
        if last:
            ends: dict[str, State] = {"error": "failed", "interrupted": "interrupted"}
            if last["event"] == "ended":
                return "waiting for labels" if waiting_for else "finished"
            return ends.get(last["event"], "killed")
        if not stages or not all(stage.finished for stage in stages):
            return "stopped"
        if waiting_for:
            return "waiting for labels"
        is_done = not self._folder.config.exists() or (self._folder.path / "report.html").exists()
        return "finished" if is_done else "stopped"

    def _manifests(self) -> Iterator[Path]:
        return self._folder.path.rglob(f"*{_MANIFEST}")

    def _stages(self) -> Iterator[StageState]:
        for path in self._manifests():
            stage, folder = path.name.removesuffix(_MANIFEST), path.parent
            manifest = read_manifest(folder, stage)
            if manifest is not None:
                time = _utc(manifest_path(folder, stage).stat().st_mtime)
                yield StageState(stage, str(folder.relative_to(self._folder.path)), bool(manifest["finished"]), time)

    def _asks_for_labels(self) -> str | None:
        """Without a log: the folder of the last round, when it waits for labels."""
        last = [folder for folder in (self._folder.path / "initial", *self._folder.rounds()) if folder.is_dir()][-1:]
        return next((str(folder / "to_label") for folder in last if (folder / "to_label").is_dir()), None)

    def _rounds(self) -> Iterator[dict[str, Any]]:
        arms = ["", *sorted(path.name for path in (self._folder.path / "references").glob("*") if path.is_dir())]
        for arm in arms:
            folder = RunFolder(self._folder.reference(arm)) if arm else self._folder
            for path in folder.rounds():
                if (path / "metrics.json").exists():
                    yield _figures(path, arm)

    def _quarantine(self) -> dict[str, int]:
        """Every pass sets the same images aside again: those of the last one count, with what other stages found."""
        root = self._folder.path
        passes = sorted({path.parent for path in root.rglob("quarantine/part-*.parquet")})[-1:]
        tables = [*root.rglob("*quarantine.parquet"), *(part for folder in passes for part in folder.glob("part-*"))]
        found: dict[str, set[str]] = {"pool": set(), "test": set()}
        for table in tables:
            of_test = str(table.relative_to(root)).startswith("test/") or table.name.startswith("test_")
            found["test" if of_test else "pool"] |= self._ids_in(table)
        return {name: len(ids) for name, ids in found.items()}

    def _ids_in(self, table: Path) -> frozenset[str]:
        try:
            key = (table, table.stat().st_mtime_ns)
            if key not in self._counted:
                self._counted[key] = frozenset(pq.read_table(table, columns=["image_id"])["image_id"].to_pylist())
            return self._counted[key]
        except (OSError, pa.ArrowException, KeyError):  # replaced in this moment, or damaged: the run says so
            return frozenset()


def _figures(folder: Path, arm: str) -> dict[str, Any]:
    """What the labels of a round cost, and what its detectors can do."""
    metrics = read_json(folder / "metrics.json")
    try:
        mean = metrics.get("mean", {})
        cost = {"images": int(metrics["images"]["unique"]), "boxes": int(metrics["boxes"])}
        known = {name: None if mean.get(name) is None else float(mean[name]) for name in ("AP50", "AP", "wMAP")}
        return {"reference": arm or None, "round": int(folder.name.rpartition("-")[2]), **cost, **known}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptPartError(
            f"{folder / 'metrics.json'}: not a round's figures", got=f"{type(error).__name__}: {error}",
            expected="what the evaluation wrote", fix="delete it and start the same command again",
        ) from error  # fmt: skip


@dataclass
class _History:
    """What the log's events add up to."""

    tasks: dict[str, TaskState] = field(default_factory=dict)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_NOTES))
    session: Event = field(default_factory=dict)  # its first line
    last: Event = field(default_factory=dict)
    error: dict[str, str] | None = None
    spent_s: dict[str, float] = field(default_factory=dict)  # by task, in sessions that did not finish it

    def add(self, event: Event) -> None:
        self.last, kind = event, event["event"]
        if kind == "started":
            self.session, self.error = event, None
            self.notes.clear()
            self._break_off()
        elif kind == "begin":
            before = self.tasks.pop(event["title"], None)  # to the end of the list
            self.spent_s[event["title"]] = before.seconds if before and before.state == "broken off" else 0.0
            self._take(event, "running")
        elif kind in ("progress", "end"):
            self._take(event, "done" if kind == "end" else "running")
        elif kind in ("note", "warning"):
            self.notes.append(event.get("text") or event.get("message") or "")
        elif kind == "error":
            self.error = {"type": event.get("type") or "", "message": event.get("message") or ""}

    def _take(self, event: Event, state: Literal["running", "done"]) -> None:
        title = event["title"]
        before = self.tasks.get(title) or TaskState(title, event["total"])
        known = {name: event[name] for name in ("done", "total", "rate", "note", "resident_bytes") if name in event}
        seconds = self.spent_s.get(title, 0.0) + (event.get("seconds") or 0.0)
        left_s = event.get("left_s") if event["total"] else None
        peaks = [before.peak_bytes, event.get("peak_bytes"), event.get("resident_bytes")]
        self.tasks[title] = replace(
            before, **known, seconds=seconds, left_s=left_s, state=state, time=event["time"],
            peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
        )  # fmt: skip

    def _break_off(self) -> None:
        for title, task in self.tasks.items():
            if task.state == "running":
                self.tasks[title] = replace(task, state="broken off", left_s=None)


def lock_holder(folder: Path) -> Writer | None:
    """Who holds a run's lock, or was killed while it did; None when the last one let go of it.

    Who lets go of the lock takes its name out of it. A name whose process would be seen from here is therefore checked
    against the running ones, which disturbs nobody. Only for one on another machine or in another container the
    kernel's lock is asked for, shared, and given back at once: a writer that starts in these microseconds, while no
    other is at work, would be refused.
    """
    for path in (folder / LOCK, folder / f"{LOCK}.held"):
        if (holder := Holder.read(path)) is not None:
            if holder.is_visible:
                alive = held = not holder.is_gone()
            else:
                alive, held = None, path.name != LOCK or _is_locked(path)
            return Writer(holder.pid, holder.host, holder.command, held, alive, holder.since)
    return None


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # gone in this moment, or this user may not open it
        return False
    return False


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
