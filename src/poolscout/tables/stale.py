"""Which finished stages a change would make stale, told from the manifests alone, before anything is done again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from poolscout.errors import PoolscoutError
from poolscout.tables.manifest import Work, fingerprint, flat, plain, read_manifest

SUFFIX = ".manifest.json"


class Stages:
    """The stages that a run has begun, in the order in which they were last done.

    A stage follows another when one of its inputs' hashes is that of something the other made: a file, a folder, or all
    that the stages of a folder have made up to it.

    Args:
        run: the run's folder; manifests that cannot be read are left out.
    """

    def __init__(self, run: Path) -> None:
        self.run = Path(run)
        paths = sorted(self.run.rglob(f"*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path))
        read = {(path.parent, path.name.removesuffix(SUFFIX)): _manifest(path) for path in paths}
        self.manifests = {stage: manifest for stage, manifest in read.items() if manifest is not None}
        self._made = {stage: _made(manifest["outputs"]) for stage, manifest in self.manifests.items()}
        for folder in {folder for folder, _ in self.manifests}:
            so_far: list[str] = []
            for stage in sorted(stage for stage in self.manifests if stage[0] == folder):
                outputs = self.manifests[stage]["outputs"]
                so_far += [outputs[name] for name in sorted(outputs)]
                self._made[stage].add(fingerprint(so_far))

    def stale_by(self, folder: Path, work: Work) -> list[str]:
        """Names of the stages that are stale if `work` is what the stage of that name in `folder` is to do now.

        They are that stage, those that share what has changed for it (stages of the same name with the same old
        settings; stages with the same old input), and all that follow any of these.
        """
        old = self.manifests[folder, work.stage]
        before, now = flat(old["config"]), flat(plain(work.config))
        settings = {key: before.get(key) for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
        inputs = {name: digest for name, digest in old["inputs"].items() if work.inputs.get(name) != digest}

        def shares_the_change(stage: tuple[Path, str]) -> bool:
            manifest = self.manifests[stage]
            theirs = flat(manifest["config"])
            alike = stage[1] == work.stage and theirs.keys() == before.keys()
            same = alike and any(theirs.get(key) == value for key, value in settings.items())
            return same or any(manifest["inputs"].get(name) == digest for name, digest in inputs.items())

        roots = {(folder, work.stage)} | {stage for stage in self.manifests if shares_the_change(stage)}
        return self._names(roots | self._following(roots))

    def after(self, folder: Path, stage: str) -> list[str]:
        """Names of the stages that follow one, without it."""
        return self._names(self._following({(folder, stage)}) - {(folder, stage)})

    def _following(self, roots: Iterable[tuple[Path, str]]) -> set[tuple[Path, str]]:
        found, todo = set(roots), list(roots)
        while todo:
            made = self._made.get(todo.pop(), set())
            new = {
                stage
                for stage, manifest in self.manifests.items()
                if stage not in found and made & set(manifest["inputs"].values())
            }
            found |= new
            todo += new
        return found

    def _names(self, stages: set[tuple[Path, str]]) -> list[str]:
        return [stage_name(self.run, *stage) for stage in self.manifests if stage in stages]


def stage_name(run: Path, folder: Path, stage: str) -> str:
    """How messages call a stage: `round-000 score`."""
    where = Path(folder).relative_to(run)
    return stage if where == Path() else f"{where} {stage}"


def _made(outputs: dict[str, str]) -> set[str]:
    """Hashes, as `file_hash` gives them, of the files a stage made and of the folders they are in."""
    folders = {parent for name in outputs for parent in Path(name).parents if parent != Path()}
    inside = {
        folder: {str(Path(name).relative_to(folder)): digest for name, digest in outputs.items() if _in(name, folder)}
        for folder in folders
    }
    return {*outputs.values(), *(fingerprint(files) for files in inside.values())}


def _in(name: str, folder: Path) -> bool:
    return Path(name).is_relative_to(folder)


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(path.parent, path.name.removesuffix(SUFFIX))
    except PoolscoutError:
        return None  # the stage itself says so when its turn comes
