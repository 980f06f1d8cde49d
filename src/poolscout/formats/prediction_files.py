"""Files of predicted boxes as they lie on disk: COCO results or Parquet, in columns; names are not looked up here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from poolscout.errors import AnnotationError, ConfigError, DataError, nearest, some
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import read_table

_EDGES = ("x1_px", "y1_px", "x2_px", "y2_px")
_TABLE = ("image_id", "class", "probability", *_EDGES)
_COCO = ("image_id", "bbox", "score")
_LABELS = ("category_id", "class", "category_name")  # what says the class in COCO results: any of these
_MORE = ("member", "class_probabilities")
_WANTED = tuple(dict.fromkeys([*_TABLE, *_COCO, *_LABELS, *_MORE]))
_EXPECTED = (
    "COCO results: image_id, category_id, bbox [x, y, width, height] px, score; or table columns: "
    f"{', '.join(_TABLE)}; with either, if you like, {' and '.join(_MORE)}"
)


@dataclass(frozen=True)
class RawBoxes:
    """The k boxes of a file, of the right types; no value is checked yet.

    Attributes:
        path: the file.
        image_ids: text or numbers, as the file has them.
        labels: class names, or category ids.
        labels_are_ids: which of the two.
        boxes_xyxy_px: corners.
        probabilities: as brought; NaN where there is no number.
        members: the file's own numbers, where it has them.
        class_probabilities: where it has them.
    """

    path: Path
    image_ids: pa.ChunkedArray
    labels: pa.ChunkedArray
    labels_are_ids: bool
    boxes_xyxy_px: Float[np.ndarray, "k 4"]
    probabilities: Float[np.ndarray, " k"]
    members: Int[np.ndarray, " k"] | None
    class_probabilities: Float[np.ndarray, "k classes"] | None


def read_raw(path: Path, classes: Sequence[str] | None, *, prefer_ids: bool) -> RawBoxes:
    """Read COCO results (json), Parquet with columns of either layout, or a folder with parts of a detection table.

    Args:
        path: json, Parquet, or the folder.
        classes: in the order of class_probabilities; None where it is not known.
        prefer_ids: where a file has both category_id and a class name, go by the id.

    Raises:
        DataError: missing, unreadable, neither layout, or a column of the wrong type.
        AnnotationError: empty cells, boxes that are not four numbers, class_probabilities of another length.
        ConfigError: class_probabilities whose order is not known.
        TableError: a folder without parts of a detection table.
    """
    table, names = _load(path)
    if not names:  # json: []
        return _nothing(path, classes)
    is_table = all(name in names for name in _TABLE)
    known = _LABELS if prefer_ids else (*_LABELS[1:], _LABELS[0])
    label = "class" if is_table else next((name for name in known if name in names), None)
    if label is None or not (is_table or all(name in names for name in _COCO)):
        missing = next((name for name in ("image_id", "bbox", "score", "category_id") if name not in names), "bbox")
        raise DataError(
            f"{path}: neither COCO results nor a table of detections", got=some(names, 20), expected=_EXPECTED,
            fix=f"{missing!r} is missing: rename or add it {nearest(missing, names)}".rstrip(),
        )  # fmt: skip
    column = _Columns(path, table)
    if is_table:
        boxes = np.stack([column.numbers(name) for name in _EDGES], axis=1)
    else:
        xywh = column.lists("bbox", 4, "[x, y, width, height] in px").astype(np.float64)
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    if "class_probabilities" in names and classes is None:
        raise ConfigError(
            f"{path}: the order of class_probabilities is not known", got="lists of numbers without names",
            expected="the classes in the order of the lists", fix="add --set 'labelling.classes=[car, person, …]'",
        )  # fmt: skip
    has_lists = classes is not None and "class_probabilities" in names
    return RawBoxes(
        path,
        column.texts("image_id"),
        column.texts(label),
        label == "category_id",
        boxes,
        column.numbers("probability" if is_table else "score"),
        column.whole_numbers("member") if "member" in names else None,
        column.lists("class_probabilities", len(classes), f"one for each of {some(classes)}").astype(np.float32)
        if has_lists and classes is not None
        else None,
    )


def _nothing(path: Path, classes: Sequence[str] | None) -> RawBoxes:
    none, empty = np.zeros(0), pa.chunked_array([pa.array([], pa.string())])
    per_class = None if classes is None else np.zeros((0, len(classes)), np.float32)
    return RawBoxes(path, empty, empty, False, np.zeros((0, 4)), none, None, per_class)


def _load(path: Path) -> tuple[pa.Table, list[str]]:
    """The columns that mean something here, and the names of all there are."""
    if path.is_dir():
        table = read_table(path, DETECTIONS)
        return table, table.column_names
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        return _from_parquet(path) if is_parquet else _from_json(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: not there", got="no such file or folder", expected="detections: COCO results json or Parquet",
            fix="check the path given with --detections",
        ) from error  # fmt: skip
    except (OSError, pa.ArrowException, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: the detections cannot be read", got=str(error).splitlines()[0][:200],
            expected="COCO results json or Parquet", fix="write the file again: it looks cut off, or is something else",
        ) from error  # fmt: skip


def _from_parquet(path: Path) -> tuple[pa.Table, list[str]]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(f"{path}: two columns of one name", got=some(names, 20), expected="each name once")
        return file.read(columns=[name for name in names if name in _WANTED]), names


def _from_json(path: Path) -> tuple[pa.Table, list[str]]:
    rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{path}: not COCO results",
            got=f"a json object with keys {some(rows)}" if isinstance(rows, dict) else "something else than objects",
            expected="a list: [{image_id, category_id, bbox: [x, y, width, height] px, score}, …]",
            fix="give the results file; an object with images and annotations is what ground truth looks like",
        )
    columns = {}
    for name in _WANTED:
        if any(name in row for row in rows):
            columns[name] = _column(path, name, [row.get(name) for row in rows])
    return pa.table(columns), list(dict.fromkeys(key for row in rows for key in row))


def _column(path: Path, name: str, values: list) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: '{name}' is of different types, or not a plain value", got=str(error).splitlines()[0][:200],
            expected=_EXPECTED, fix=f"write every {name} in the same way",
        ) from error  # fmt: skip


class _Columns:
    """A table's columns as arrays, refused when they are of the wrong type or have empty cells."""

    def __init__(self, path: Path, table: pa.Table) -> None:
        self._path, self._table = path, table

    def texts(self, name: str) -> pa.ChunkedArray:
        """Text or numbers, as they are."""
        return self._get(name, lambda t: _is_text(t) or _is_number(t), "text or a number")

    def numbers(self, name: str) -> np.ndarray:
        """As float64."""
        return self._get(name, _is_number, "numbers").cast(pa.float64(), safe=False).to_numpy()

    def whole_numbers(self, name: str) -> np.ndarray:
        values = self._get(name, _is_number, "whole numbers")
        try:
            return values.cast(pa.int32()).to_numpy()
        except pa.ArrowException as error:
            raise self._wrong_type(name, str(error).splitlines()[0], "whole numbers from 0") from error

    def lists(self, name: str, length: int, meaning: str) -> np.ndarray:
        """[k, length]."""
        values = self._get(name, _is_number_list, f"lists of {length} numbers: {meaning}")
        if len(values) == 0:
            return np.zeros((0, length))
        other = pc.indices_nonzero(pc.not_equal(pc.list_value_length(values), length)).to_pylist()
        if other:
            got = len(values[other[0]])
            raise AnnotationError(
                f"{self._path}: {len(other)} {name} are not {length} numbers",
                got=f"{got} numbers in row {other[0]}; rows {some(other)}", expected=meaning, fix=f"mend these {name}",
            )  # fmt: skip
        return pc.list_flatten(values).cast(pa.float64(), safe=False).to_numpy().reshape(-1, length)

    def _get(self, name: str, fits: Callable[[pa.DataType], bool], expected: str) -> pa.ChunkedArray:
        values = self._table.column(name)
        if values.null_count:
            raise AnnotationError(
                f"{self._path}: '{name}' is missing in {values.null_count} of {len(values)} boxes",
                got=f"rows {some(pc.indices_nonzero(values.is_null()).to_pylist())}", expected=expected,
                fix="fill in the values, or leave these boxes out",
            )  # fmt: skip
        if len(values) == 0:
            return values.cast(pa.float64()) if pa.types.is_null(values.type) else values
        values = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        if not fits(values.type):
            raise self._wrong_type(name, values.type, expected)
        try:
            values.validate(full=True)
        except pa.ArrowException as error:
            raise self._wrong_type(name, str(error).splitlines()[0], expected) from error
        return values

    def _wrong_type(self, name: str, got: object, expected: str) -> DataError:
        return DataError(
            f"{self._path}: '{name}' is of the wrong type", got=got, expected=expected, fix="convert the column"
        )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_number_list(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return listed and _is_number(kind.value_type)
