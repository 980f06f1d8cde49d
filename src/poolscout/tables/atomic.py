"""A file appears whole or not at all: written beside, synced, renamed, the folder synced."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poolscout.errors import StorageError

# errno → (what is wrong, what would be right, what to do)
_FULL = (
    "the disk is full",
    "free space on that disk",
    "free some space and start the same command again: finished parts are kept",
)
_FORBIDDEN = (
    "cannot be written",
    "a folder this user may write to",
    "choose another --out, or change the folder's permissions",
)
_REFUSALS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "the file is larger than this process or disk allows",
        "no limit on the size of a file",
        "raise the limit (`ulimit -f`) and start the same command again: finished parts are kept",
    ),
    errno.EACCES: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
}
_ELSE = (
    "cannot be written",
    "a path that can be a file or folder",
    "check that no part of it is something else already, and that the disk is well",
)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        problem, expected, fix = _REFUSALS.get(error.errno or 0, _ELSE)
        got = error.strerror or str(error)
        raise StorageError(f"{path}: {problem}", got=got, expected=expected, fix=fix) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    Each writer has a temporary file of its own: one that outlives the process which started it cannot spoil another's.
    What killed writers leave behind is removed with `remove_temporaries`.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    path = Path(path)
    temporary = _temporary(path)
    with storage_errors(path):
        make_folder(path.parent)
        try:
            yield temporary
            _sync(temporary)
            _replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys (same value, same bytes); NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and those it lies in; each is there after a power cut too."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def remove(*paths: Path) -> None:
    """Remove files and folders that may be there; when this returns they do not come back after a power cut."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in sorted({path.parent for path in paths}):
        if folder.is_dir():
            _sync(folder)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers have left anywhere below `folder`."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _replace(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)  # noqa: PTH105  (its own name, so that a test can stand in for the disk)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
