"""A stage's manifest: the hashes of its config, inputs and outputs. Same hashes: the stage is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.errors import CorruptPartError, TableError, some
from poolscout.tables.atomic import write_json

MANIFEST_VERSION = 1
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Work:
    """What a stage is about to do: its name, its own config and the hashes of what it reads.

    Attributes:
        stage: e.g. "train"; the manifest is `STAGE.manifest.json` in the stage's folder.
        config: JSON-able values the outputs depend on.
        inputs: name → hash of every input.
    """

    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]

    @property
    def fingerprint(self) -> str:
        return fingerprint({"stage": self.stage, "config": self.config, "inputs": self.inputs})


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files in a folder (hidden ones left out)."""
    path = Path(path)
    if path.is_dir():
        return fingerprint({str(f.relative_to(path)): file_hash(f) for f in _files(path)})
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_digest(table: pa.Table) -> str:
    """Of a table's plain values, row by row; the same however it is cut into chunks."""
    digest = hashlib.sha256()
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in zip(*batch.to_pydict().values(), strict=True):
            digest.update(f"{json.dumps(row)}\n".encode())
    return digest.hexdigest()


def manifest_path(folder: Path, stage: str) -> Path:
    return Path(folder) / f"{stage}.manifest.json"


def write_manifest(folder: Path, work: Work, outputs: Sequence[Path] | None) -> None:
    """Declare `work` begun (`outputs` None) or finished: every output file's hash is then stored."""
    write_json(
        manifest_path(folder, work.stage),
        {
            "manifest_version": MANIFEST_VERSION,
            "stage": work.stage,
            "config": plain(work.config),
            "inputs": work.inputs,
            "fingerprint": work.fingerprint,
            "finished": outputs is not None,
            "outputs": {str(f.relative_to(folder)): file_hash(f) for path in outputs or () for f in _files(path)},
        },
    )


def read_manifest(folder: Path, stage: str) -> dict[str, Any] | None:
    """The stage's manifest (its `finished` says how far), or None when the stage was never begun.

    Raises:
        TableError: the manifest is of an unknown version or not readable.
    """
    path = manifest_path(folder, stage)
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["manifest_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptPartError(
            f"{path}: not a manifest", got=str(error), fix="delete it: the stage is then done again"
        ) from error
    if version != MANIFEST_VERSION:
        raise TableError(
            f"{path}: unknown manifest version",
            got=version,
            expected=MANIFEST_VERSION,
            fix="use the poolscout release that wrote it",
        )
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(manifest.get(name), kind)]
    if wrong or not all(_is_inside(name) for name in manifest["outputs"]):
        raise CorruptPartError(
            f"{path}: not a manifest", got=f"{some(wrong)} of another kind" if wrong else "outputs outside its folder",
            expected="what a stage wrote", fix="delete it: the stage is then done again",
        )  # fmt: skip
    return manifest


_FIELDS = {"fingerprint": str, "finished": bool, "config": dict, "inputs": dict, "outputs": dict}


def _is_inside(name: str) -> bool:
    """Outputs that are damaged are removed: nothing outside the stage's folder is one."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name


def reopen(folder: Path, stage: str, **inputs: str) -> None:
    """Have a stage gone on with the next time; what it made stays, and so does what is known of it.

    Args:
        inputs: hashes of inputs that have changed since, and are to count as those it was begun with.
    """
    renew(folder, stage, finished=False, **inputs)


def renew(folder: Path, stage: str, *, finished: bool | None = None, **inputs: str) -> None:
    """Have inputs that have changed since count as those a stage was begun with; `finished`: and say how far it is."""
    manifest = read_manifest(folder, stage)
    if manifest is not None:
        work = Work(stage, manifest["config"], {**manifest["inputs"], **inputs})
        renewed = {"inputs": work.inputs, "fingerprint": work.fingerprint} if inputs else {}
        state = {} if finished is None else {"finished": finished}
        write_json(manifest_path(folder, stage), {**manifest, **renewed, **state})


def damaged_outputs(folder: Path, manifest: dict[str, Any]) -> dict[str, str]:
    """Output files of a finished stage that are gone or whose bytes have changed → what is wrong with each."""

    def wrong(name: str) -> str:
        path = Path(folder) / name
        if not path.exists():
            return "is missing"
        return "" if file_hash(path) == manifest["outputs"][name] else "has other bytes than were written"

    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter's lock
        found = zip(manifest["outputs"], threads.map(wrong, manifest["outputs"]), strict=True)
    return {name: what for name, what in found if what}


def what_changed(manifest: dict[str, Any], work: Work) -> list[str]:
    """The config keys and inputs in which a finished stage differs from `work`, as `key: old → new`."""
    now = {"config": plain(work.config), "inputs": work.inputs}
    changes = []
    for part in ("config", "inputs"):
        old, new = flat(manifest[part]), flat(now[part])
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                told = f": {old.get(key)} → {new.get(key)}" if part == "config" else " (its contents changed)"
                changes.append(f"{key}{told}")
    return changes


def plain(config: dict[str, Any]) -> Any:
    """Settings as they are stored."""
    return json.loads(json.dumps(config, default=str))


def _files(path: Path) -> list[Path]:
    """The file itself, or every file of a folder in name order; hidden ones are temporary and left out."""
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
