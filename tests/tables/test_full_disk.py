"""The disk is full at every single write of a small run: nothing half there, and after freeing the same bytes."""

from __future__ import annotations

import errno
from itertools import count
from pathlib import Path

import pytest

from poolscout.errors import StorageError
from poolscout.tables import atomic
from tests.tables.passes import small_run
from tests.tables.test_powerloss import content


def _full_at_write(patch: pytest.MonkeyPatch, at: int) -> None:
    """The kernel's own refusal: the file that is written is /dev/full."""
    temporary, numbers = atomic._temporary, count()

    def on_full_device(path: Path) -> Path:
        found = temporary(path)
        if next(numbers) == at:
            path.parent.mkdir(parents=True, exist_ok=True)
            found.symlink_to("/dev/full")
        return found

    patch.setattr(atomic, "_temporary", on_full_device)


def _full_at_sync(patch: pytest.MonkeyPatch, at: int) -> None:
    """What a file system says that finds the room for what was written only when it has to."""
    sync, numbers = atomic._sync, count()

    def sync_or_refuse(path: Path) -> None:
        if next(numbers) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    patch.setattr(atomic, "_sync", sync_or_refuse)


@pytest.mark.parametrize("full_at", [_full_at_write, _full_at_sync])
def test_the_disk_is_full_at_any_write(tmp_path: Path, full_at: object) -> None:
    small_run(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    for at in count():
        out = tmp_path / f"run-{at}"
        with pytest.MonkeyPatch.context() as patch:
            full_at(patch, at)
            refusal = _refusal(out)
        if refusal is None:
            break
        assert "the disk is full" in refusal
        assert "start the same command again: finished parts are kept" in refusal
        left = content(out) if out.exists() else {}
        assert not [name for name in left if name.endswith(".tmp")]
        assert all(left[name] == whole[name] for name in left if not name.endswith(".manifest.json"))
        small_run(out)
        assert content(out) == whole
    assert at > 5


def _refusal(out: Path) -> str | None:
    try:
        small_run(out)
    except StorageError as error:
        return str(error)
    return None
