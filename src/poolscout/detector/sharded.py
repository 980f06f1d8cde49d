"""A pass over a pool: each batch from its files to its figures, in order; a shard is written, and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
import torch
from torch import Tensor

from poolscout.detector.stream import ImageBatch, available_cores, on_device
from poolscout.engine import ThreadExecutor
from poolscout.tables.shardfolder import ShardFolder

Seen = TypeVar("Seen")
Rejected = list[dict[str, str]]  # rows of the quarantine table
Tables = dict[str, pa.Table | dict[str, Any]]  # of a shard, by folder name
Listener = Callable[[int, int], object]


@dataclass(frozen=True)
class Shards:
    """A pool cut into shards and batches; no batch crosses shards, so that a shard's numbers depend on it alone.

    Attributes:
        image_ids: of the pool, in order.
        folder: where the shards' parts are.
        batch_size: images a batch.
        shard_size: images a shard.
    """

    image_ids: pa.ChunkedArray
    folder: ShardFolder
    batch_size: int
    shard_size: int

    def todo(self) -> list[int]:
        """Numbers of the shards that are not done."""
        n_shards = -(-len(self.image_ids) // self.shard_size)
        return [shard for shard in range(n_shards) if not self.folder.is_done(shard)]

    def batches(self, todo: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
        """(shard, image ids) of each batch of some shards."""
        for shard in todo:
            ids = self.image_ids.slice(shard * self.shard_size, self.shard_size).to_pylist()
            for start in range(0, len(ids), self.batch_size):
                yield shard, ids[start : start + self.batch_size]


@dataclass(frozen=True)
class Look(Generic[Seen]):
    """What a pass does with a batch, and with a shard.

    Attributes:
        read: image ids → their batch.
        see: a batch with at least one image, and its pixels on the device → what is kept of it.
        tables: what was kept of a shard's batches, and its rejected images → its tables.
        device: where `see` computes.
    """

    read: Callable[[Sequence[str]], ImageBatch]
    see: Callable[[ImageBatch, Tensor], Seen]
    tables: Callable[[list[Seen], Rejected], Tables]
    device: torch.device


def pass_over(shards: Shards, look: Look[Seen], *, workers: int | None = None, progress: Listener | None = None) -> int:
    """Write every shard that is not done; memory does not grow with the pool.

    Args:
        shards: of the pool.
        look: what is done with each batch.
        workers: threads; default: one for each core. On a CPU each takes a batch from file to figures by itself, so
            that the numbers do not depend on how many there are.
        progress: called with (images done, images in all) after each batch.

    Returns:
        how many images are in shards that were done already.

    Raises:
        NonFiniteError, TableError: a shard's table is not as declared.
        StorageError: the disk is full or refuses.
    """
    todo, n_images = shards.todo(), len(shards.image_ids)
    done = n_kept = n_images - sum(len(ids) for _, ids in shards.batches(todo))
    all_seen = _see_all((ids for _, ids in shards.batches(todo)), look, workers or available_cores())
    with closing(all_seen), _Writer(shards.folder, look.tables) as writer:
        for shard in todo:
            kept, rejected = [], []
            for _, ids in shards.batches([shard]):
                seen, bad = next(all_seen)
                rejected += bad
                if seen is not None:
                    kept.append(seen)
                done += len(ids)
                if progress is not None:
                    progress(done, n_images)
            writer.submit(shard, kept, rejected)
    return n_kept


def _see_all(
    batches: Iterable[Sequence[str]], look: Look[Seen], workers: int
) -> Generator[tuple[Seen | None, Rejected], None, None]:
    """What is seen in each batch, in order; None when every image was rejected."""

    def see(batch: ImageBatch, pixels: Tensor) -> tuple[Seen | None, Rejected]:
        return look.see(batch, pixels) if batch.image_ids else None, batch.rejected

    def read_and_see(ids: Sequence[str]) -> tuple[Seen | None, Rejected]:
        batch = look.read(ids)
        return see(batch, batch.pixels)

    if look.device.type == "cpu":
        # A core takes a batch from file to figures: no core waits for another inside an operation, and decoding
        # fills the gaps.
        with restored_threads():
            yield from ThreadExecutor(workers, begin=one_thread).map(read_and_see, batches)
    else:
        for batch, pixels in on_device(ThreadExecutor(workers).map(look.read, batches), look.device):
            yield see(batch, pixels)


def one_thread() -> None:
    """Let torch use one thread inside each operation."""
    torch.set_num_threads(1)


@contextmanager
def restored_threads() -> Iterator[None]:
    """torch counts threads for the whole process, also when a single thread sets it."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Writer(Generic[Seen]):
    """Writes a shard in the background while the next one is computed; at most one waits."""

    def __init__(self, folder: ShardFolder, tables: Callable[[list[Seen], Rejected], Tables]) -> None:
        self._folder, self._tables = folder, tables
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poolscout-write")
        self._pending: Future[None] | None = None

    def submit(self, shard: int, kept: list[Seen], rejected: Rejected) -> None:
        self._wait()
        self._pending = self._thread.submit(self._write, shard, kept, rejected)

    def _write(self, shard: int, kept: list[Seen], rejected: Rejected) -> None:
        self._folder.write(shard, self._tables(kept, rejected))

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()

    def __enter__(self) -> _Writer[Seen]:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()
