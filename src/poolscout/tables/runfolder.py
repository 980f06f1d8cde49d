"""A run's folder: where things are, who may write, and which stages are finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from poolscout.errors import CorruptPartError, RunError, some
from poolscout.tables.atomic import make_folder, remove, remove_temporaries, storage_errors
from poolscout.tables.lock import hold_lock
from poolscout.tables.manifest import (
    Work,
    damaged_outputs,
    manifest_path,
    read_manifest,
    what_changed,
    write_manifest,
)
from poolscout.tables.stale import Stages, stage_name


def _silent(text: str) -> None:
    """Nobody listens."""


class RunFolder:
    """The paths of a run and the state of its stages.

    Args:
        path: the run's folder; made when missing.
        redo_stale: do finished stages again whose config or inputs changed, instead of stopping with an error.
        say: told what is damaged, and what is about to be done again.
    """

    def __init__(self, path: Path, *, redo_stale: bool = False, say: Callable[[str], object] = _silent) -> None:
        self.path = Path(path)
        self.redo_stale = redo_stale
        self.say = say
        self._announced: set[str] = set()

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
            if begun:
                self._ask_or_announce(folder, work, what_changed(manifest, work))
            with storage_errors(folder):
                remove(*outputs, *stale)
        elif manifest is not None and manifest["finished"]:
            damaged = damaged_outputs(folder, manifest)
            if not damaged:
                return False
            name = stage_name(self.path, folder, work.stage)
            for output, what in damaged.items():
                self.say(f"{name}: {output} {what}: it is made again")
            with storage_errors(folder):
                remove(*(folder / output for output in damaged))
        with storage_errors(folder):
            make_folder(folder)
        write_manifest(folder, work, None)
        do()
        write_manifest(folder, work, outputs)
        return True

    def _ask_or_announce(self, folder: Path, work: Work, changes: list[str]) -> None:
        """Stop before anything is lost, or say what is about to be done again, once."""
        name, stages = stage_name(self.path, folder, work.stage), Stages(self.path).stale_by(folder, work)
        listed = f"{some(stages, 12)} ({len(stages)} stages)" if len(stages) > 1 else name
        if not self.redo_stale:
            raise RunError(
                f"{self.path}: stage '{work.stage}' of {folder.relative_to(self.path)} is stale: "
                f"with these settings would be done again {listed}",
                got=f"changed since: {some(changes)}",
                expected="the settings and inputs it was made with",
                fix="undo the change, choose another --out, or add --redo-stale to do these stages again in place; "
                "until then nothing is deleted",
            )
        if name not in self._announced:
            self.say(f"done again, as {some(changes)}: {listed}")
        self._announced |= {*stages}

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
        with hold_lock(self.path, self.say):
            remove_temporaries(self.path)
            yield


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
