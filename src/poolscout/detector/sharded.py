"""A pass over a pool: each batch from its files to its figures, in order; a shard is written, and forgotten."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import pyarrow as pa
import torch
from torch import Tensor

from poolscout.detector.stream import ImageBatch, on_device
from poolscout.engine import Executor, ThreadExecutor, available_cores
from poolscout.errors import some
from poolscout.pool import ImageReader, QuarantineLimit, states_of_files
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.parquet import part_path, read_table
from poolscout.tables.shardfolder import ShardFolder

BATCHES_AT_ONCE = 8  # to another process

Seen = TypeVar("Seen")
Rejected = list[dict[str, str]]  # rows of the quarantine table
Tables = dict[str, pa.Table | dict[str, Any]]  # of a shard, by folder name
Listener = Callable[[int, int], object]
OneSeen = tuple[Sequence[str], Seen | None, Rejected]  # of these images; None when all of them were rejected
ToRead = tuple[Sequence[str], ImageReader]  # image ids, and a reader that knows these


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


def shard_digests(image_ids: pa.ChunkedArray, reader: ImageReader, shard_size: int) -> list[str]:
    """For each shard what its images are, and the state of their files: where one has changed, the shard is undone."""
    digests, state = [], states_of_files()
    for start in range(0, len(image_ids), shard_size):
        images = hashlib.sha256()
        for image_id in image_ids.slice(start, shard_size).to_pylist():
            uri = reader.uris.get(image_id, "")
            images.update(f"{image_id}\n{uri}\n{state(uri)}\n".encode())
        digests.append(images.hexdigest())
    return digests


@dataclass(frozen=True)
class Look(Generic[Seen]):
    """What a pass does with a batch.

    Attributes:
        read: image ids and a reader that knows them → their batch.
        see: a batch with at least one image, and its pixels on the device → what is kept of it.
        device: where `see` computes.
    """

    read: Callable[[Sequence[str], ImageReader], ImageBatch]
    see: Callable[[ImageBatch, Tensor], Seen]
    device: torch.device


@dataclass(frozen=True)
class Pass(Generic[Seen]):
    """A pass over a pool, as far as it does not depend on where it runs.

    Attributes:
        open: a device, or None for the models' own → how batches are looked at. Called once in every process that
            works; where these are others than this one it is pickled, and the models with it.
        reader: reads the images.
        tables: what was kept of a shard's batches, and its rejected images → its tables.
        limit: how many images may be rejected.
    """

    open: Callable[[str | None], Look[Seen]]
    reader: ImageReader
    tables: Callable[[list[Seen], Rejected], Tables]
    limit: QuarantineLimit | None = None


def pass_over(
    shards: Shards,
    work: Pass[Seen],
    *,
    executor: Executor | None = None,
    progress: Listener | None = None,
    say: Callable[[str], object] | None = None,
) -> int:
    """Write every shard that is not done; memory does not grow with the pool.

    On a CPU a worker takes a batch from file to figures by itself, so that the numbers depend neither on how many
    workers there are nor on what they are: threads, processes or actors of a cluster. Only this process writes.

    Args:
        shards: of the pool.
        work: what is done.
        executor: who does it; default: a thread for each core.
        progress: called with (images done, images in all) as batches are done.
        say: told which finished parts are damaged, and therefore made again.

    Returns:
        how many images are in shards that were done already.

    Raises:
        NonFiniteError, TableError: a shard's table is not as declared.
        StorageError: the disk is full or refuses.
        DataError: more images are rejected than may be.
        WorkerLostError: workers die again and again.
    """
    todo, n_images = shards.todo(), len(shards.image_ids)
    if say is not None:
        for damage in shards.folder.damaged:
            say(damage)
    done = n_kept = n_images - sum(len(ids) for _, ids in shards.batches(todo))
    batches = ((ids, work.reader.only(ids)) for _, ids in shards.batches(todo))
    all_seen = _see_all(batches, work, executor or ThreadExecutor(available_cores()))
    counted = _Rejections(shards, work.limit, n_images)
    with closing(all_seen), _Writer(shards.folder, work.tables) as writer:
        for shard in todo:
            kept, rejected = [], []
            for _, ids in shards.batches([shard]):
                of, seen, bad = next(all_seen)
                if of != ids:
                    raise AssertionError(f"the executor gave what was seen of {some(of)} for {some(ids)}")
                rejected += bad
                if seen is not None:
                    kept.append(seen)
                done += len(ids)
                if progress is not None:
                    progress(done, n_images)
            counted.add(rejected)  # a shard that is one too many is not committed: its images may come back
            writer.submit(shard, kept, rejected)
    return n_kept


def _see_all(batches: Iterator[ToRead], work: Pass[Seen], executor: Executor) -> Generator[OneSeen[Seen], None, None]:
    """What is seen in each batch, in order; None when every image was rejected."""
    if not executor.shares_memory:
        # Handing over costs a millisecond: a worker is given some batches at a time.
        some = iter(lambda: list(islice(batches, BATCHES_AT_ONCE)), [])
        device = "cuda" if executor.uses_gpus else None
        for seen_some in executor.map(_see_some, some, setup=partial(_opened, work.open, device)):
            yield from seen_some
        return
    look = work.open(None)
    if look.device.type == "cpu":
        # A core takes a batch from file to figures: no core waits for another inside an operation, and decoding
        # fills the gaps.
        with restored_threads():
            yield from ThreadExecutor(executor.workers, begin=one_thread).map(partial(_see, look), batches)
    else:
        yield from _on_gpu(look, batches, executor.workers)


def _see(look: Look[Seen], batch: ToRead) -> OneSeen[Seen]:
    read = look.read(*batch)
    return batch[0], look.see(read, read.pixels) if read.image_ids else None, read.rejected


def _on_gpu(look: Look[Seen], batches: Iterable[ToRead], workers: int) -> Iterator[OneSeen[Seen]]:
    read = ThreadExecutor(workers).map(lambda batch: (batch[0], look.read(*batch)), batches)
    for ids, batch, pixels in on_device(read, look.device):
        yield ids, look.see(batch, pixels) if batch.image_ids else None, batch.rejected


def _opened(open_look: Callable[[str | None], Look[Seen]], device: str | None) -> Look[Seen]:
    one_thread()
    return open_look(device)


def _see_some(look: Look[Seen], batches: list[ToRead]) -> list[OneSeen[Seen]]:
    """What a worker of another process does."""
    if look.device.type == "cpu":
        see: Callable[[ToRead], OneSeen[Seen]] = partial(_see, look)
        return list(map(see, batches))
    return [*_on_gpu(look, batches, min(len(batches), available_cores()))]


class _Rejections:
    """Counts what is rejected, over the shards that were done already too."""

    def __init__(self, shards: Shards, limit: QuarantineLimit | None, n_images: int) -> None:
        self._limit, self._where = limit, str(shards.folder.folder)
        self._reasons = Counter[str]()
        if limit is None:
            return
        done = set(range(-(-n_images // shards.shard_size))) - set(shards.todo())
        for shard in sorted(done):
            part = read_table(part_path(shards.folder.folder / "quarantine", shard), QUARANTINE, ["reason"])
            self._reasons.update(part["reason"].to_pylist())

    def add(self, rejected: Rejected) -> None:
        self._reasons.update(row["reason"] for row in rejected)
        if self._limit is not None:
            self._limit.check(self._reasons.total(), self._reasons, self._where)


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
