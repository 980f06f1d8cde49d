"""A run's folder: where things are, who may write, and which stages are finished."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from poolscout.errors import CorruptPartError, RunError, RunLockedError, some
from poolscout.tables.atomic import storage_errors
from poolscout.tables.manifest import (
    Work,
    damaged_outputs,
    manifest_path,
    read_manifest,
    what_changed,
    write_manifest,
)


class RunFolder:
    """The paths of a run and the state of its stages.

    Args:
        path: the run's folder; made when missing.
        redo_stale: do finished stages again whose config or inputs changed, instead of stopping with an error.
    """

    def __init__(self, path: Path, *, redo_stale: bool = False) -> None:
        self.path = Path(path)
        self.redo_stale = redo_stale

    @property
    def pool(self) -> Path:
        return self.path / "pool" / "images"

    @property
    def config(self) -> Path:
        return self.path / "run.yaml"

    def reference(self, arm: str) -> Path:
        return self.path / "references" / arm

    def rounds(self) -> list[Path]:
        """The rounds begun so far, in order."""
        return sorted(p for p in self.path.glob("round-*") if p.is_dir())

    def has_finished_stages(self) -> bool:
        """Whether anything in this folder was computed to its end."""
        manifests = self.path.rglob("*.manifest.json")
        found = (read_manifest(path.parent, path.name.removesuffix(".manifest.json")) for path in manifests)
        return any(manifest is not None and manifest["finished"] for manifest in found)

    def stage(
        self, folder: Path, work: Work, outputs: Sequence[Path], do: Callable[[], object], *, stale: Sequence[Path] = ()
    ) -> bool:
        """Do `work` in `folder` unless it is finished already with the same config and inputs.

        A stage that was begun with the same config and inputs is continued: `do` keeps what it finds finished.

        Args:
            outputs: the files and folders (inside `folder`) that `do` makes; they are cleared when stale.
            do: does the work.
            stale: further files that do not outlive a change of settings.

        Returns:
            whether anything was done.

        Raises:
            RunError: the stage was made with another config or other inputs, and `redo_stale` is off.
        """
        manifest = read_manifest(folder, work.stage)
        if manifest is not None and manifest["fingerprint"] != work.fingerprint:
            # A stage that failed before it made anything, say by a typing error in its settings, is no loss.
            begun = manifest["finished"] or any(output.exists() for output in outputs)
            if begun and not self.redo_stale:
                raise self._stale(folder, work, what_changed(manifest, work))
            for output in {*outputs, *stale}:
                shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
        elif manifest is not None and manifest["finished"]:
            damaged = damaged_outputs(folder, manifest)
            if not damaged:
                return False
            for name in damaged:
                (folder / name).unlink(missing_ok=True)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder, work, None)
        do()
        write_manifest(folder, work, outputs)
        return True

    def _stale(self, folder: Path, work: Work, changes: list[str]) -> RunError:
        where = folder.relative_to(self.path)
        return RunError(
            f"{self.path}: stage '{work.stage}' of {where} is stale, and so is all that follows it",
            got=f"changed since: {some(changes)}",
            expected="the settings and inputs it was made with",
            fix="undo the change, choose another --out, or add --redo-stale to do these stages again in place",
        )

    def keep_apart(self, stage: str, other: str) -> None:
        """Refuse to do `stage` where `other`, which makes tables of the same names, has been done.

        Raises:
            RunError: the other stage's manifest lies in this folder.
        """
        if manifest_path(self.path, other).exists():
            raise RunError(
                f"{self.path}: stage '{other}' has written here, and '{stage}' would replace its tables",
                got=manifest_path(self.path, other).name, expected=f"a folder for '{stage}' alone",
                fix="choose another --out",
            )  # fmt: skip

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run's folder for writing; the system lets go of it when this process ends, however it ends.

        Raises:
            RunLockedError: another process is writing; says who.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunLockedError(
                    f"{self.path}: another process is writing to this run",
                    got=_holder(self.path / ".lock"),
                    expected="one writer at a time",
                    fix="wait until it has ended, or choose another --out",
                ) from error
            with storage_errors(self.path):
                file.truncate(0)
                file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
                file.flush()
            yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        return "an unknown process"


def read_json(path: Path) -> dict:
    """A JSON object that a stage wrote.

    Raises:
        CorruptPartError: missing or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptPartError(
            f"{path}: cannot be read", got=str(error), fix="delete it and start the same command again"
        ) from error
    if not isinstance(value, dict):
        raise CorruptPartError(f"{path}: not a JSON object", got=type(value).__name__)
    return value
