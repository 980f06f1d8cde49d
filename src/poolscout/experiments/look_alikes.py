"""Frames that look alike: difference hashes, and the pairs of two sets whose hashes differ in a few bits only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt64
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

from poolscout.engine import ThreadExecutor, available_cores
from poolscout.errors import DataError, some
from poolscout.pool import ImageReader, RejectedImage

SIDE = 16  # a hash has SIDE² bits
WORDS = SIDE * SIDE // 64
FLAT = 2  # of 255: what separates the darkest and the brightest pixel of a thumbnail without contrast, at most
_BLOCK_BYTES = 2**26  # of the differences that are looked at together


def hashes(image_ids: Sequence[str], reader: ImageReader) -> tuple[list[str], UInt64[np.ndarray, "images words"]]:
    """256-bit difference hashes: in a 17 × 16 grey thumbnail, whether each pixel is brighter than its left neighbour.

    Returns:
        the ids of the images that have one, and these. Those that cannot be read have none, nor those without contrast
        (a covered lens, a test picture): all of them would look alike.
    """

    def of(image_id: str) -> np.ndarray | None:
        try:
            return difference_hash(reader.read(image_id))
        except RejectedImage:
            return None

    found = dict(zip(image_ids, ThreadExecutor(available_cores()).map(of, image_ids), strict=True))
    known = {image_id: bits for image_id, bits in found.items() if bits is not None}
    return list(known), np.stack(list(known.values())) if known else np.zeros((0, WORDS), np.uint64)


def difference_hash(pixels: np.ndarray) -> UInt64[np.ndarray, " words"] | None:
    """The hash of one image, uint8 [height, width, 3]; None where its thumbnail has no contrast."""
    grey = Image.fromarray(pixels).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)
    if np.ptp(values) <= FLAT:
        return None
    return np.packbits(values[:, 1:] > values[:, :-1]).view(np.uint64)


def closest(
    ours: UInt64[np.ndarray, "n words"], theirs: UInt64[np.ndarray, "m words"], most: int
) -> list[tuple[int, int, int]]:
    """(our row, their row, differing bits) of each pair that differs in at most so many bits, the closest first."""
    found: list[tuple[int, int, int]] = []
    for rows, columns, bits in _alike(ours, theirs, most):
        found += zip(rows.tolist(), columns.tolist(), bits.tolist(), strict=True)
    return sorted(found, key=lambda pair: (pair[2], pair[0], pair[1]))


def _alike(
    ours: UInt64[np.ndarray, "n words"], theirs: UInt64[np.ndarray, "m words"], most: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    n_rows = max(1, _BLOCK_BYTES // max(theirs.nbytes, 1))
    for start in range(0, len(ours), n_rows):
        block = ours[start : start + n_rows]
        bits = np.bitwise_count(block[:, None, :] ^ theirs[None]).sum(2, dtype=np.int32)
        rows, columns = np.nonzero(bits <= most)
        yield rows + start, columns, bits[rows, columns]


def families(pool: pa.Table, reader: ImageReader, most: int) -> dict[str, str]:
    """Sequence → the first, by name, of those that it is linked with by frames that look alike.

    Args:
        pool: columns image_id and sequence; frames of no sequence link nothing.
        reader: of its images.
        most: see `check_look_alikes`; below 0 no frames look alike.
    """
    known = pool.filter(pc.is_valid(pool["sequence"]))
    names, code_of = np.unique(known["sequence"].to_numpy(zero_copy_only=False), return_inverse=True)
    row_of = {image_id: row for row, image_id in enumerate(known["image_id"].to_pylist())}
    ids, found = hashes(list(row_of) if most >= 0 else [], reader)
    codes = code_of[[row_of[i] for i in ids]] if ids else code_of[:0]
    # A camera that stands still links each of its frames with all others: only the links of sequences are kept.
    n, links = len(names), np.zeros(0, np.int64)
    for rows, columns, _ in _alike(found, found, most):
        links = np.union1d(links, codes[rows] * n + codes[columns])
    graph = sparse.coo_array((np.ones(len(links), bool), np.divmod(links, n)), shape=(n, n))
    _, family = csgraph.connected_components(graph, directed=False)
    _, first = np.unique(family, return_index=True)
    return dict(zip(names.tolist(), names[first[family]].tolist(), strict=True))


def check_look_alikes(
    learnt: pa.Table, measured: pa.Table, readers: tuple[ImageReader, ImageReader], most: int, where: str
) -> None:
    """Refuse a split in which an image to learn from and one to measure on look alike.

    Args:
        learnt, measured: column image_id.
        readers: of either side.
        most: differing bits of 256 up to which two images look alike; below 0 nothing is checked.
        where: for the message: whose split it is.

    Raises:
        DataError: names the pairs.
    """
    if most < 0:
        return
    (ids, ours), (test_ids, theirs) = (
        hashes(table["image_id"].to_pylist(), reader)
        for table, reader in zip((learnt, measured), readers, strict=True)
    )  # fmt: skip
    pairs = closest(ours, theirs, most)
    if pairs:
        told = [f"{ids[a]} ~ {test_ids[b]} ({bits} bits)" for a, b, bits in pairs]
        raise DataError(
            f"{where}: {len(pairs)} pairs of a training and a test image look alike", got=some(told),
            expected=f"hashes that differ in more than {most} of {SIDE * SIDE} bits",
            fix="move look-alike recordings to one side; or, where they are different places after all, lower "
            "experiment.near_duplicates (below 0: no check)",
        )  # fmt: skip
