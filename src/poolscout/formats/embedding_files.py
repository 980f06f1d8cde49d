"""Files of embeddings as they lie on disk: Parquet in parts, .npy with its ids beside; images are not matched here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from poolscout.errors import DataError, TableError, nearest, some
from poolscout.tables.declared import EMBEDDINGS
from poolscout.tables.parquet import part_path
from poolscout.tables.schema import NAME_KEY, check_stamp

_FLOATS = (pa.float16(), pa.float32(), pa.float64())
_WORDS = "a column image_id (text) and a column embedding (lists of floats)"
_BUFFER_BYTES = 1 << 20  # a column of a large row group is read in such pieces, not whole
_BATCH_ROWS = 4096


@dataclass(frozen=True)
class EmbeddingFiles:
    """Parquet files with the same columns, each opened and its layout checked; no value is read yet.

    Attributes:
        paths: in the order of the rows.
        column: the name of the vectors' column.
        kind: its Arrow type, a list of floats.
    """

    paths: Sequence[Path]
    column: str
    kind: pa.DataType

    def image_ids(self) -> pa.ChunkedArray:
        """The ids of all rows.

        Raises:
            DataError: damaged bytes, or empty cells.
        """
        chunks = []
        for path, batch in self._batches(["image_id"]):
            ids = batch.column(0)
            if ids.null_count:
                raise DataError(
                    f"{path}: {ids.null_count} rows without an image_id", got="empty cells",
                    expected="a text in every row", fix="fill the cells or drop the rows",
                )  # fmt: skip
            chunks.append(ids.cast(pa.string()))
        return pa.chunked_array(chunks, pa.string())

    def vectors(self, rows: Int[np.ndarray, " n_files"], n: int) -> Float[np.ndarray, "n d"]:
        """The vectors, each put in its row of one array; never held twice.

        Args:
            rows: for each vector in the files, its row in the result; -1: left out.
            n: rows of the result.

        Raises:
            DataError: damaged bytes, empty cells, vectors of different length or of none.
        """
        out: np.ndarray | None = None
        start = 0
        for path, batch in self._batches(["image_id", self.column]):
            at = rows[start : start + batch.num_rows]
            start += batch.num_rows
            values = _matrix(batch.column(1), batch.column(0), path, self.column, None if out is None else out.shape[1])
            if out is None:
                out = np.empty((n, values.shape[1]), values.dtype)
            out[at[at >= 0]] = values[at >= 0] if (at < 0).any() else values
        if out is None:
            raise DataError(
                f"{some(self.paths, 1)}: no embeddings", got="0 rows", expected="at least one", fix="check the file"
            )
        return out

    def _batches(self, columns: list[str]) -> Iterator[tuple[Path, pa.RecordBatch]]:
        for path in self.paths:
            try:
                # Without pre_buffer=False a row group's columns are read whole before the first batch.
                with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
                    for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                        if batch.num_rows:
                            yield path, batch.select(columns)
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(path, error) from error


def open_parts(path: Path) -> EmbeddingFiles:
    """A Parquet file, or all of a folder in name order.

    Raises:
        DataError: missing, unreadable, no such columns, or parts that differ.
        TableError: another of poolscout's tables, or one of its parts is gone.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        beside = path / EMBEDDINGS.name
        raise DataError(
            f"{path}: no embeddings in this folder", got="no *.parquet", expected="parts of a table",
            fix=f"did you mean {beside}?" if beside.is_dir() else "check the path",
        )  # fmt: skip
    if path.is_dir() and files[0].name.startswith("part-") and files != [part_path(path, i) for i in range(len(files))]:
        raise TableError(
            f"{path}: parts are missing", got=f"{len(files)} parts up to {files[-1].name}",
            expected="part-00000, part-00001 … without gaps", fix="run the stage that writes it again",
        )  # fmt: skip
    layouts = [_layout(file) for file in files]
    for file, layout in zip(files, layouts, strict=True):
        if layout[0] != layouts[0][0] or layout[1].value_type != layouts[0][1].value_type:
            raise DataError(
                f"{path}: its parts differ", got=f"{layout[0]}: {layout[1]} in {file.name}",
                expected=f"{layouts[0][0]}: {layouts[0][1]}, as in {files[0].name}", fix="write them alike",
            )  # fmt: skip
    return EmbeddingFiles(files, *layouts[0])


def open_npy(path: Path) -> Float[np.ndarray, "n d"]:
    """An .npy, memory-mapped.

    Raises:
        DataError: missing, .npz, unreadable, Python objects, or no C-ordered matrix of floats.
    """
    if path.suffix.lower() == ".npz":
        raise DataError(
            f"{path}: an archive of arrays", got=".npz", expected=".npy: it can be used without being read into memory",
            fix="numpy.save the one array as .npy",
        )  # fmt: skip
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not there", got="no such file", expected=".npy", fix="check the path") from error
    except Exception as error:  # NumPy's parser of headers raises nearly anything on garbled ones
        raise DataError(
            f"{path}: cannot be read as .npy", got=(str(error) or type(error).__name__).splitlines()[0],
            expected="a matrix of floats with rows",
            fix="write it with numpy.save; Python objects are never loaded",
        ) from error  # fmt: skip
    kinds = (np.float16, np.float32, np.float64)
    if values.ndim != 2 or values.shape[1] == 0 or values.dtype not in kinds or not values.flags.c_contiguous:
        order = "" if values.ndim != 2 or values.flags.c_contiguous else ", column after column"
        raise DataError(
            f"{path}: no matrix of embeddings", got=f"{values.dtype} {list(values.shape)}{order}",
            expected="float16, float32 or float64 [images, d], row after row, d at least 1",
            fix="numpy.save(path, numpy.ascontiguousarray(matrix, numpy.float32))",
        )  # fmt: skip
    return values


def ids_beside(path: Path) -> tuple[Path, pa.ChunkedArray] | None:
    """The file NAME.ids.txt beside NAME.npy and the image ids in it; None when there is none.

    Raises:
        DataError: not UTF-8, or an empty line.
    """
    beside = path.with_name(f"{path.stem}.ids.txt")
    if not beside.is_file():
        return None
    try:
        text = beside.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{beside}: not text", got=str(error), expected="UTF-8", fix="write it as UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    lines = lines[:-1] if lines[-1] == "" else lines
    if "" in lines:
        raise DataError(
            f"{beside}: an empty line", got=f"line {lines.index('') + 1}", expected="one image_id a line",
            fix="remove it, or fill it in",
        )  # fmt: skip
    return beside, pa.chunked_array([lines], pa.string())


def _layout(path: Path) -> tuple[str, pa.DataType]:
    """The name and type of the vectors' column."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    if NAME_KEY in (schema.metadata or {}):
        check_stamp(EMBEDDINGS, schema.metadata, str(path))
    kinds = {field.name: field.type for field in schema}
    if "image_id" not in kinds or not _is_text(kinds["image_id"]):
        raise DataError(
            f"{path}: no text column image_id", got=some([f"{name}: {kind}" for name, kind in kinds.items()], 9),
            expected=_WORDS,
            fix=("image_id" not in kinds and nearest("image_id", kinds)) or "write which image a row is, as text",
        )  # fmt: skip
    lists = [name for name, kind in kinds.items() if _is_list(kind) and kind.value_type in _FLOATS]
    name = "embedding" if "embedding" in kinds or len(lists) != 1 else lists[0]
    if name not in lists:
        raise DataError(
            f"{path}: no column of vectors, or more than one",
            got=some([f"{name}: {kind}" for name, kind in kinds.items()], 9), expected=_WORDS,
            fix="name the vectors' column embedding, and convert it to lists of float32",
        )  # fmt: skip
    return name, kinds[name]


def _matrix(column: pa.Array, ids: pa.Array, path: Path, name: str, length: int | None) -> Float[np.ndarray, "rows d"]:
    """The vectors of a batch, which must all be whole and of the same length."""
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    flat = column.flatten()
    if column.null_count or flat.null_count:
        inside = pc.list_parent_indices(column).filter(flat.is_null()).to_numpy()
        bad = np.union1d(np.flatnonzero(lengths < 0), inside)
        raise DataError(
            f"{path}: column '{name}' has empty cells", got=f"images {some(ids.take(bad).to_pylist())}",
            expected="a number in every place of every vector", fix="fill them or drop these rows",
        )  # fmt: skip
    length = int(lengths[0]) if length is None else length
    other = np.flatnonzero(lengths != length)
    if len(other) or length == 0:
        bad = other if len(other) else np.arange(len(lengths))
        raise DataError(
            f"{path}: vectors of column '{name}' have another length than the first",
            got=f"{lengths[bad[0]]} numbers; images {some(ids.take(bad).to_pylist())}",
            expected=f"{length} numbers" if length else "at least one number", fix="write vectors of one length",
        )  # fmt: skip
    return flat.to_numpy(zero_copy_only=False).reshape(-1, length)


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    # null: a part without rows, whose writer could not tell
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(value) for is_kind in kinds)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be read as Parquet" if path.exists() else f"{path}: not there",
        got=str(error).splitlines()[0], expected=f"a Parquet file or .npy: {_WORDS}",
        fix="check the path, or write it again",
    )  # fmt: skip
