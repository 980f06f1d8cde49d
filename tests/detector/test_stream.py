"""Images arrive in order, fitted, with bad ones beside them, and never more than a few ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from poolscout.detector.stream import ImageBatch, stream_batches, stream_images
from poolscout.engine import available_cores
from poolscout.errors import DataError
from poolscout.pool import fit_image
from tests.scoring.pools import HEIGHT, WIDTH, MadeUpImages


def stream(reader: MadeUpImages, ids: list[str], batch_size: int = 4, workers: int = 2) -> list[ImageBatch]:
    return list(
        stream_images(ids, reader, height=HEIGHT, width=WIDTH, batch_size=batch_size, stage="scoring", workers=workers)
    )


def names(n: int) -> list[str]:
    return [f"{number}.png" for number in range(n)]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_image_once_in_order(workers: int) -> None:
    ids = names(23)[::-1]
    batches = stream(MadeUpImages(ids), ids, batch_size=5, workers=workers)
    assert [len(batch.image_ids) for batch in batches] == [5, 5, 5, 5, 3]
    assert [image_id for batch in batches for image_id in batch.image_ids] == ids
    reader = MadeUpImages(ids)
    for batch in batches:
        for image_id, pixels in zip(batch.image_ids, batch.pixels, strict=True):
            np.testing.assert_array_equal(pixels.numpy(), fit_image(reader.read(image_id), HEIGHT, WIDTH).pixels)


def test_bad_images_go_to_quarantine() -> None:
    ids = names(6)
    first, second = stream(MadeUpImages(ids, broken=[ids[1], ids[4], ids[5]]), ids, batch_size=4)
    assert first.image_ids == [ids[0], ids[2], ids[3]]
    assert len(first.pixels) == len(first.scales) == len(first.valid_px) == len(first.sizes) == 3
    assert first.rejected == [
        {
            "image_id": "1.png", "uri": "/nowhere/1.png", "stage": "scoring", "reason": "truncated",
            "detail": "1.png ends early",
        }
    ]  # fmt: skip
    assert second.image_ids == []
    assert second.pixels.shape == (0, 3, HEIGHT, WIDTH)
    assert [row["image_id"] for row in second.rejected] == ids[4:]


def test_geometry_of_a_letterboxed_image() -> None:
    (batch,) = stream(MadeUpImages(["a"], size=(80, 240)), ["a"])  # scale 96 / 240
    assert batch.scales == [pytest.approx(0.4)]
    assert batch.sizes == [(80, 240)]
    assert batch.valid_px == [(32, 96)]
    valid = batch.valid(16, 24)  # cells of 4 px
    assert valid.shape == (1, 16, 24)
    assert valid[0, :8].all()
    assert not valid[0, 8:].any()


def test_a_cell_with_any_of_the_image_is_valid() -> None:
    batch = ImageBatch(
        ["a", "b"],
        torch.zeros(2, 3, 64, 96, dtype=torch.uint8),
        [1.0, 1.0],
        [(1, 96), (33, 50)],
        [(1, 96), (33, 50)],
        [],
    )
    valid = batch.valid(16, 24)
    assert valid[0].any(1).sum() == 1  # one row of pixels is still one row of cells
    assert valid[1].any(1).sum() == 9
    assert valid[1].any(0).sum() == 13


def test_no_more_is_read_ahead_than_two_batches_a_thread() -> None:
    ids = names(100)
    reader = MadeUpImages(ids)
    batches = stream_images(ids, reader, height=HEIGHT, width=WIDTH, batch_size=5, stage="scoring", workers=2)
    next(batches)
    batches.close()
    # the batch in hand, four ahead, and one more begun when the first was taken
    assert len(reader.read_ids) <= 6 * 5
    assert not [t for t in threading.enumerate() if t.name.startswith("poolscout")]


def test_one_batch_for_each_list() -> None:
    ids = names(3)
    batches = stream_batches(
        [ids[:1], [], ids[1:]], MadeUpImages(ids, broken=ids[:1]), height=HEIGHT, width=WIDTH, stage="scoring"
    )
    assert [batch.image_ids for batch in batches] == [[], [], ids[1:]]


def test_other_errors_are_not_swallowed() -> None:
    class Stranger(MadeUpImages):
        def read(self, image_id: str) -> np.ndarray:
            raise DataError("the reader does not know this image")

    with pytest.raises(DataError, match="does not know"):
        stream(Stranger(["a"]), ["a"])


def test_cores() -> None:
    assert available_cores() >= 1
