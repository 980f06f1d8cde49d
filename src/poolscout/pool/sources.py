"""Where a pool can come from: COCO json, an image folder, a Parquet manifest; all give the same `Source`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from poolscout.config import PoolConfig
from poolscout.errors import ConfigError, DataError, nearest, some
from poolscout.formats.coco import read_coco_images

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
_FORMAT_OF_SUFFIX = {".json": "coco", ".parquet": "parquet", ".pq": "parquet"}


@dataclass(frozen=True)
class Source:
    """What a source says about its images, before any of them is opened.

    Attributes:
        image_ids: n ids, in the source's order.
        uris: n local paths.
        sizes: n times (width, height) in px of the upright image; None where the source does not say.
        metadata: n rows, any columns.
    """

    image_ids: list[str]
    uris: list[str]
    sizes: list[tuple[int | None, int | None]]
    metadata: pa.Table


def read_source(config: PoolConfig) -> Source:
    """List what `config.source` names.

    Raises:
        DataError: it is missing, cannot be read or is not what `config.format` says.
        ConfigError: `format: auto` cannot tell what it is.
    """
    path = config.source
    if not path.exists():
        raise DataError(
            f"pool.source: {path} is not there", got="no such file or folder",
            expected="a COCO json, a Parquet manifest or a folder of images",
            fix="check the path; relative ones start at the config file's folder",
        )  # fmt: skip
    kind: str = config.format
    if kind == "auto":
        found = "folder" if path.is_dir() else _FORMAT_OF_SUFFIX.get(path.suffix.lower())
        if found is None:
            raise ConfigError(
                f"pool.source: cannot tell what {path.name} is", got=f"a file ending in {path.suffix!r}",
                expected="a folder, .json or .parquet", fix="set pool.format to coco, folder or parquet",
            )  # fmt: skip
        kind = found
    return {"coco": _from_coco, "folder": _from_folder, "parquet": _from_parquet}[kind](config)


def find_images_root(annotations: Path, images: Path | None) -> Path:
    """The folder that file names start from: `images` when given, else `images` beside the file, else its folder.

    Raises:
        DataError: `images` is given and is no folder.
    """
    if images is None:
        beside = annotations.parent / "images"
        return beside if beside.is_dir() else annotations.parent
    if not images.is_dir():
        raise DataError(
            f"images: {images} is not a folder", got="a file" if images.exists() else "nothing at this path",
            expected="the folder that the file names start from", fix="check the path",
        )  # fmt: skip
    return images


def _from_coco(config: PoolConfig) -> Source:
    root, images = find_images_root(config.source, config.images), read_coco_images(config.source)
    ids = [image.image_id for image in images]
    metadata = _metadata_table([image.metadata for image in images])
    return Source(ids, [str(root / i) for i in ids], [(image.width, image.height) for image in images], metadata)


def _from_folder(config: PoolConfig) -> Source:
    root = config.images or config.source
    if not root.is_dir():
        raise DataError(
            f"pool.source: {root} is not a folder", got="a file", expected="a folder of images",
            fix="set pool.format to coco or parquet",
        )  # fmt: skip
    ids = sorted(path.relative_to(root).as_posix() for path in image_files(root))
    # Images that lie in the root itself belong to no known recording.
    parents = [str(PurePosixPath(i).parent) for i in ids]
    metadata = pa.table({
        "sequence": pa.array([None if parent == "." else parent for parent in parents], pa.string()),
        "frame": pa.array([_last_number(PurePosixPath(i).stem) for i in ids], pa.int64()),
    })  # fmt: skip
    return Source(ids, [str(root / i) for i in ids], [(None, None)] * len(ids), metadata)


def _from_parquet(config: PoolConfig) -> Source:
    path = config.source
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"pool.source: {path} cannot be read as Parquet", got=str(error).splitlines()[0],
            expected="a Parquet file with a column uri", fix="write it again, or set pool.format",
        ) from error  # fmt: skip
    names = table.column_names
    if "uri" not in names or len(set(names)) != len(names):
        raise DataError(
            f"pool.source: {path} has no column 'uri', or two columns of one name", got=some(names, 20),
            expected="uri, any of image_id, width, height, and metadata columns",
            fix=nearest("uri", names) or "rename the column that holds the images' paths to uri",
        )  # fmt: skip
    uris = _texts(table, "uri", path)
    ids = _texts(table, "image_id", path) if "image_id" in names else uris
    root = find_images_root(path, config.images) if config.images else path.parent
    widths, heights = (_sides(table, name, path) for name in ("width", "height"))
    metadata = table.drop_columns([n for n in ("uri", "image_id", "width", "height") if n in names])
    return Source(ids, _local(uris, root, path), list(zip(widths, heights, strict=True)), _flat_columns(metadata))


def image_files(root: Path) -> Iterator[Path]:
    """Files with an image's suffix; hidden files and folders, runs, and what links to folders show are left out."""
    for folder, subfolders, names in os.walk(root):
        if {"run.yaml", "versions.json"} <= set(names):  # a run of ours, with links to images it asks labels for
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(folder) / name


def _last_number(stem: str) -> int | None:
    """The frame number in a name such as `Town01_001020`: its last run of digits."""
    runs = re.findall(r"[0-9]+", stem)
    return int(runs[-1]) if runs and len(runs[-1]) <= 18 else None


def _texts(table: pa.Table, name: str, path: Path) -> list[str]:
    column = table.column(name)
    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: column '{name}' is not text", got=column.type, expected="text", fix="convert the column"
        ) from error
    empty = [row for row, value in enumerate(values) if not value]
    if empty:
        raise DataError(
            f"{path}: column '{name}' has {len(empty)} empty cells", got=f"rows {some(empty)}",
            expected="a text in every row", fix="fill the cells or drop the rows",
        )  # fmt: skip
    return values


def _sides(table: pa.Table, name: str, path: Path) -> list[int | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    try:
        return table.column(name).cast(pa.int32()).to_pylist()
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: column '{name}' is not whole pixels", got=str(error).splitlines()[0],
            expected="width and height of the upright image, px", fix="convert or drop the column",
        ) from error  # fmt: skip


def _local(uris: Sequence[str], root: Path, path: Path) -> list[str]:
    far = [uri for uri in uris if "://" in uri and not uri.startswith("file:///")]
    if far:
        raise DataError(
            f"{path}: {len(far)} images are not on this machine", got=some(far),
            expected="local paths, absolute or relative to the manifest, or file:///…",
            fix="fetch or mount them, and write their paths into the column uri",
        )  # fmt: skip
    return [unquote(urlsplit(uri).path) if uri.startswith("file:///") else str(root / uri) for uri in uris]


def _flat_columns(table: pa.Table) -> pa.Table:
    """Without columns that are nested or raw bytes: tables downstream hold plain values."""
    plain = [f.name for f in table.schema if not (pa.types.is_nested(f.type) or _is_bytes(f.type))]
    columns = {name: table.column(name) for name in plain}
    return pa.table({
        name: c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for name, c in columns.items()
    }) if columns else _no_columns(table.num_rows)  # fmt: skip


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _metadata_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Columns with the type their values share: bool, int64, double or text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return pa.table(columns) if columns else _no_columns(len(rows))


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if float in kinds and kinds <= {int, float} and all(value is None or abs(value) < 2**1000 for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _no_columns(n_rows: int) -> pa.Table:
    return pa.table({"_": pa.nulls(n_rows)}).select([])
