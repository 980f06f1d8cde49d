"""What is checked of the files that a selection reads and writes, before anything is picked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import ConfigError, DataError, some
from poolscout.selection.keys import KEY_FILES


def keep_apart(written: Sequence[tuple[str, Path]], read: Sequence[Path | None]) -> None:
    """Refuse to write over what is read, or between its parts.

    Args:
        written: options and where they write. read: files and folders.

    Raises:
        ConfigError: names the option.
    """
    for source in read:
        if source is None:
            continue
        for option, path in written:
            between = path.name.startswith("part-") and path.resolve().parent == source.resolve().parent
            if path.resolve().is_relative_to(source.resolve()) or between:
                raise ConfigError(
                    f"{option} {path}: that is what is read", got=source, expected="a place of its own",
                    fix=f"choose another {option}",
                )  # fmt: skip


def check_keys_folder(keys: Path | None) -> None:
    """Refuse a place for keys that is something else.

    Raises:
        ConfigError: a file, or a folder with other files.
    """
    if keys is None or not keys.exists():
        return
    others = [] if not keys.is_dir() else sorted(path.name for path in keys.iterdir() if path.name not in KEY_FILES)
    if others or not keys.is_dir():
        raise ConfigError(
            f"--keys {keys}: holds something else", got=some(others) if others else "a file",
            expected="a new folder, or one of an earlier --keys", fix="choose another --keys",
        )  # fmt: skip


def unknown_labelled(labelled: pa.Array, known_ids: Sequence[pa.Array], path: Path | None) -> Sequence[str]:
    """What is to be said of labelled images that no table knows; nothing where all are known.

    Raises:
        DataError: not one of them is.
    """
    known = np.zeros(len(labelled), bool)
    for ids in known_ids:
        known |= pc.is_in(labelled, value_set=ids).to_numpy(zero_copy_only=False)
    n = int((~known).sum())
    if n and n == len(labelled):
        raise DataError(
            f"--labelled {path}: not one of its images is known", got=some(labelled[:20].to_pylist()),
            expected="image ids as in the scores, one a line, or a column image_id", fix="check the list",
        )  # fmt: skip
    of = f"{n:,} of {len(labelled):,} labelled images"
    return [f"{of} are in none of the tables: nothing keeps away from them"] if n else []
