"""Parquet manifests: a row an image, its URI in the column `uri`, metadata in any others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from poolscout.config import PoolConfig
from poolscout.errors import DataError, nearest, some
from poolscout.formats.image_files import find_images_root
from poolscout.pool.names import UNSAFE, shown
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.sources.base import (
    BATCH_ROWS,
    IMAGES,
    Rejected,
    SourceBatch,
    no_columns,
    parent_of,
    rejected_table,
    uri_of,
    wrong_with,
)
from poolscout.pool.sources.folder import local_names, shown_entries
from poolscout.pool.storage import Storage

SUFFIXES = (".parquet", ".pq")
# Names that may be put behind the root as they are: relative, and without any part that means something else.
_PLAIN = r"^[^/\\:.\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]*(/[^/\\:.\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]*)*$"
# And those that say by themselves where the image is, likewise.
_WHOLE = r"^([A-Za-eg-z][A-Za-z0-9+.-]+://[^\\\x00-\x1f\x7f]+|(/[^/\\.\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*)+)$"


def from_parquet(config: PoolConfig, storage: Storage) -> Iterator[SourceBatch]:
    """Batches of the rows of one file, or of all parts below a folder or prefix in the order of their names."""
    if isinstance(config.images, Path):
        find_images_root(config.images, config.images)  # which says if it is no folder
    for part in parts_of(config.source, storage):
        beside = parent_of(part) if part == config.source else config.source
        yield from _from_part(part, config.images or beside, storage)


def parts_of(source: Path | str, storage: Storage) -> list[Path | str]:
    """The Parquet files that a source stands for.

    Raises:
        DataError: a folder without any.
    """
    if isinstance(source, Path):
        if not source.is_dir():
            return [source]
        parts: list[Path | str] = [source / name for name in local_names(source) if _is_parquet(name)]
    else:
        below = [entry.name for entry in shown_entries(source, storage) if _is_parquet(entry.name)]
        if not below and _is_parquet(source):
            return [source]
        parts = [uri_of(name, source) for name in below]
    if not parts:
        raise DataError(
            f"pool.source: {source}: no Parquet file", got="a folder without any", expected="*.parquet",
            fix="check the path, or pool.format",
        )  # fmt: skip
    return sorted(parts, key=str)


def _is_parquet(name: str) -> bool:
    last = PurePosixPath(name).name
    return last.lower().endswith(SUFFIXES) and not last.startswith((".", "_"))


def _from_part(part: Path | str, root: Path | str, storage: Storage) -> Iterator[SourceBatch]:
    try:
        with storage.open(str(part)) as opened, pq.ParquetFile(opened) as file:
            _check_columns(file.schema_arrow.names, part)
            first = 0
            for batch in file.iter_batches(BATCH_ROWS):
                yield _batch(pa.Table.from_batches([batch]), root, part, first)
                first += batch.num_rows
    except (pa.ArrowException, ValueError, OSError, RejectedImage) as error:
        detail = f"{error.reason}: {error.detail}" if isinstance(error, RejectedImage) else str(error).splitlines()[0]
        raise DataError(
            f"pool.source: {part} cannot be read as Parquet", got=detail,
            expected="a Parquet file with a column uri", fix="write it again, or set pool.format",
        ) from error  # fmt: skip


def _check_columns(names: list[str], part: Path | str) -> None:
    if "uri" not in names or len(set(names)) != len(names):
        raise DataError(
            f"pool.source: {part} has no column 'uri', or two columns of one name", got=some(names, 20),
            expected="uri, any of image_id, width, height, and metadata columns",
            fix=nearest("uri", names) or "rename the column that holds the images' paths to uri",
        )  # fmt: skip


def _batch(table: pa.Table, root: Path | str, part: Path | str, first: int) -> SourceBatch:
    names = table.column_names
    uris = _texts(table, "uri", part, first)
    ids = _texts(table, "image_id", part, first) if "image_id" in names else uris
    metadata = _flat_columns(table.drop_columns([n for n in ("uri", "image_id", "width", "height") if n in names]))
    metadata.validate(full=True)  # text that is not UTF-8 would be found by whoever reads it
    sizes = [_sides(table, name, part) for name in ("width", "height")]
    whole = pc.match_substring_regex(uris, _WHOLE)
    clean = pc.invert(pc.match_substring_regex(ids, r"[\x00-\x1f\x7f]|(^|[/\\])\.\.([/\\]|$)"))
    plain = pc.and_(pc.or_(pc.match_substring_regex(uris, _PLAIN), whole), clean)
    below = pc.binary_join_element_wise(pa.scalar(str(root).rstrip("/"), pa.string()), uris, "/")
    places = pc.if_else(whole, uris, below)
    if pc.all(plain).as_py():
        return SourceBatch(pa.table([ids, places, *sizes], schema=IMAGES), metadata, rejected_table([]))
    places, kept, rejected = _looked_at(uris, ids, plain, places, root)
    images = pa.table([ids, places, *sizes], schema=IMAGES)
    return SourceBatch(images.take(kept), metadata.take(kept), rejected)


def _looked_at(
    uris: pa.Array, ids: pa.Array, plain: pa.Array, joined: pa.Array, root: Path | str
) -> tuple[pa.Array, pa.Array, pa.Table]:
    """Where images are whose names are not plain ones, which rows are kept, and the QUARANTINE rows of the others."""
    rejected, bad, places = list[Rejected](), set[int](), joined.to_pylist()
    for row in pc.indices_nonzero(pc.invert(plain)).to_pylist():
        uri, image_id = uris[row].as_py(), ids[row].as_py()
        if wrong := wrong_with(image_id) or wrong_with(uri):
            rejected.append((shown(image_id), shown(uri), UNSAFE, wrong))
            bad.add(row)
        else:
            places[row] = uri_of(uri, root)
    kept = pa.array([row for row in range(len(places)) if row not in bad], pa.int64())
    return pa.array(places, pa.string()), kept, rejected_table(rejected)


def _texts(table: pa.Table, name: str, part: Path | str, first: int) -> pa.Array:
    column = table.column(name)
    try:
        values = column.cast(pa.string())
        values.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{part}: column '{name}' is not text", got=column.type, expected="text", fix="convert the column"
        ) from error
    empty = pc.indices_nonzero(pc.fill_null(pc.equal(values, ""), True)).to_pylist()
    if empty:
        raise DataError(
            f"{part}: column '{name}' has {len(empty)} empty cells", got=f"rows {some(first + row for row in empty)}",
            expected="a text in every row", fix="fill the cells or drop the rows",
        )  # fmt: skip
    return pa.concat_arrays(values.chunks)


def _sides(table: pa.Table, name: str, part: Path | str) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.int32())
    try:
        return pa.concat_arrays(table.column(name).cast(pa.int32()).chunks)
    except pa.ArrowException as error:
        raise DataError(
            f"{part}: column '{name}' is not whole pixels", got=str(error).splitlines()[0],
            expected="width and height of the upright image, px", fix="convert or drop the column",
        ) from error  # fmt: skip


def _flat_columns(table: pa.Table) -> pa.Table:
    """Without columns that are nested or raw bytes: tables downstream hold plain values."""
    plain = [f.name for f in table.schema if not (pa.types.is_nested(f.type) or _is_bytes(f.type))]
    columns = {name: table.column(name) for name in plain}
    return pa.table({
        name: c.cast(_unpacked(c.type)) for name, c in columns.items()
    }) if columns else no_columns(table.num_rows)  # fmt: skip


def _unpacked(kind: pa.DataType) -> pa.DataType:
    """The type that a column's values have without a dictionary or views of them, of which Arrow cannot take rows."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_string_view(kind) else kind


def _is_bytes(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(is_kind(kind) for is_kind in kinds)
