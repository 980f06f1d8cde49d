"""Lists of images that people bring: a text file, or a table such as an earlier selection."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from poolscout.errors import DataError, nearest, some

_COLUMN = "image_id"


def read_image_ids(path: Path) -> pa.Array:
    """The image ids of a file, in its order; the same id twice is left as it is.

    Args:
        path: a folder of Parquet parts, .parquet or .csv with a column image_id; anything else is text, one id a line.

    Raises:
        DataError: missing, unreadable, no column image_id, or empty ids.
    """
    path = Path(path)
    try:
        if path.is_dir():
            ids = pa.chunked_array([_of_parquet(part) for part in sorted(path.glob("*.parquet"))], pa.string())
        elif path.suffix.lower() == ".parquet":
            ids = _of_parquet(path)
        elif path.suffix.lower() == ".csv":
            ids = _of_csv(path)
        else:
            lines = [line.removesuffix("\r") for line in path.read_bytes().decode("utf-8-sig").split("\n")]
            ids = pa.array([line.strip() for line in lines if line.strip()], pa.string())
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: the list of images cannot be read", got=str(error).splitlines()[0],
            expected="a text file with one image_id a line, or a CSV or Parquet file with a column image_id",
            fix="check the path",
        ) from error  # fmt: skip
    if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
        raise DataError(
            f"{path}: rows without an image_id", got="empty cells", expected="an image_id in each row",
            fix="fill them or drop these rows",
        )  # fmt: skip
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids


def _of_parquet(path: Path) -> pa.Array:
    _check_column(path, pq.read_schema(path).names)
    return pq.read_table(path, columns=[_COLUMN])[_COLUMN].cast(pa.string()).combine_chunks()


def _of_csv(path: Path) -> pa.Array:
    # As text whatever it looks like: 000123 is an id, not a number.
    options = pyarrow.csv.ConvertOptions(column_types={_COLUMN: pa.string()}, strings_can_be_null=False)
    table = pyarrow.csv.read_csv(path, convert_options=options)
    _check_column(path, table.column_names)
    return table[_COLUMN].combine_chunks()


def _check_column(path: Path, names: list[str]) -> None:
    if _COLUMN not in names:
        raise DataError(
            f"{path}: no column {_COLUMN}", got=some(names, 10), expected=_COLUMN,
            fix=nearest(_COLUMN, names) or "name the column with the images so",
        )  # fmt: skip
