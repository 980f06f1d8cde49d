"""Where each image of a pool is, without a Python object an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from poolscout.formats.lookup import Rows, in_order


class Uris(Mapping[str, str]):
    """image_id → URI over two columns of a pool table.

    Args:
        images: a table with image_id and uri, each image once.
    """

    def __init__(self, images: pa.Table) -> None:
        columns = in_order(images.select(["image_id", "uri"]), "image_id")
        self._rows, self._uris = Rows(columns["image_id"]), columns["uri"]

    def __getitem__(self, image_id: str) -> str:
        return self._uris[self._rows[image_id]].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[Callable[[bytes], Uris], tuple[bytes]]:
        # As an IPC stream: pickled by itself, a slice of a column would bring all of it along.
        table, stream = pa.table({"image_id": self._rows.names, "uri": self._uris}), pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return _restored, (stream.getvalue().to_pybytes(),)


def _restored(stream: bytes) -> Uris:
    return Uris(pa.ipc.open_stream(stream).read_all())
