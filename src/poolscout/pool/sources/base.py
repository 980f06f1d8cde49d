"""What all sources have in common: batches, columns, and what a file name means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from poolscout.config_room import is_url, locate
from poolscout.pool.names import UNSAFE, last_number, leads_out, shown, unstorable
from poolscout.pool.storage import Storage
from poolscout.tables.declared import QUARANTINE

BATCH_ROWS = 10_000
IMAGES = pa.schema([
    ("image_id", pa.string()), ("uri", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
])  # fmt: skip
Rejected = tuple[str, str, str, str]  # image_id, uri, reason, detail
Size = tuple[int | None, int | None]  # (width, height) in px of the upright image; None where it is not known


@dataclass(frozen=True)
class SourceBatch:
    """Some images of a source.

    Attributes:
        images: n rows: image_id, uri, and width and height in px of the upright image, null where it is not said.
        metadata: n rows, any columns.
        rejected: QUARANTINE rows of what the source itself had to leave out.
        checked: whether the images' headers have been read already.
    """

    images: pa.Table
    metadata: pa.Table
    rejected: pa.Table
    checked: bool = False


Keep = Callable[[Callable[[], Any], Callable[[], SourceBatch]], SourceBatch]  # what a batch is of; how it is made


def keep_nothing(key: Callable[[], Any], make: Callable[[], SourceBatch]) -> SourceBatch:
    """A `Keep` that makes every batch anew."""
    return make()


def batch_of(
    ids: Sequence[str],
    uris: Sequence[str],
    sizes: Sequence[Size],
    metadata: pa.Table,
    rejected: Iterable[Rejected] = (),
) -> SourceBatch:
    """A batch of rows whose names can be stored; see `safe_names`."""
    columns = [
        pa.array(ids, pa.string()),
        pa.array(uris, pa.string()),
        pa.array([width for width, _ in sizes], pa.int32()),
        pa.array([height for _, height in sizes], pa.int32()),
    ]
    return SourceBatch(pa.table(columns, schema=IMAGES), metadata, rejected_table(rejected))


def named_batch(names: Sequence[str], root: Path | str) -> SourceBatch:
    """A batch of which nothing but names below `root` is known: folders mean sequences, numbers mean frames."""
    good, rejected = safe_names(names, root)
    parents = [str(PurePosixPath(name).parent) for name in good]
    metadata = pa.table({
        # Images that lie in the root itself belong to no known recording.
        "sequence": pa.array([None if parent == "." else parent for parent in parents], pa.string()),
        "frame": pa.array([last_number(PurePosixPath(name).stem) for name in good], pa.int64()),
    })  # fmt: skip
    return batch_of(good, [uri_of(name, root) for name in good], [(None, None)] * len(good), metadata, rejected)


def safe_names(names: Iterable[str], root: Path | str) -> tuple[list[str], list[Rejected]]:
    """Names that can be read and stored, and the others with what is wrong with them."""
    good, rejected = [], []
    for name in names:
        if wrong := wrong_with(name):
            rejected.append((shown(name), shown(f"{root}/{name}"), UNSAFE, wrong))
        else:
            good.append(name)
    return good, rejected


def wrong_with(name: str) -> str | None:
    """Why an image's name or URI is not followed; None for those that are."""
    if name.lower().startswith("file:///"):
        name = unquote(name)
    return unstorable(name) if is_absolute(name) else leads_out(name)


def is_absolute(name: str) -> bool:
    """Whether a name says by itself where the image is: a URL or an absolute path."""
    return name.startswith("/") or "://" in name


def uri_of(name: str, root: Path | str) -> str:
    """Where the image called `name` is, relative ones below `root`."""
    if is_url(name):
        return name
    if is_absolute(name):
        return str(locate(name)) if "://" in name else str(Path(name))
    return str(root / name) if isinstance(root, Path) else f"{root.rstrip('/')}/{name.removeprefix('./')}"


def rejected_table(rows: Iterable[Rejected]) -> pa.Table:
    """QUARANTINE rows found out while the pool is listed."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    image_id, uri, reason, detail = (pa.array(column, pa.string()) for column in columns)
    stage = pa.array(["pool"] * len(image_id), pa.string())
    table = {"image_id": image_id, "uri": uri, "stage": stage, "reason": reason, "detail": detail}
    return QUARANTINE.check(pa.table(table), "quarantine")


def parent_of(source: Path | str) -> Path | str:
    """The folder or prefix that a file lies in."""
    return source.parent if isinstance(source, Path) else source.rpartition("/")[0]


def is_folder(source: Path | str, storage: Storage) -> bool:
    """Whether anything lies below a path or URL."""
    if isinstance(source, Path):
        return source.is_dir()
    return any(storage.entries(source))


def metadata_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Columns with the type their values share: bool, int64, double or text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: column_of([row.get(name) for row in rows]) for name in names}
    return pa.table(columns) if columns else no_columns(len(rows))


def column_of(values: list[Any]) -> pa.Array:
    """Values of any scalar kinds as one column."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if float in kinds and kinds <= {int, float} and all(value is None or abs(value) < 2**1000 for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def no_columns(n_rows: int) -> pa.Table:
    """A table of n rows that says nothing."""
    return pa.table({"_": pa.nulls(n_rows)}).select([])
