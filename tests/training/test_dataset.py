from typing import NamedTuple

import numpy as np
import pytest
import torch

from poolscout.errors import DataError
from poolscout.training import build_training_set


class Fitted(NamedTuple):
    pixels: np.ndarray
    scale: float


def read(image_id: str) -> Fitted:
    """An image of 40 × 60 px, halved into 32 × 32."""
    pixels = np.full((3, 32, 32), 114, np.uint8)
    pixels[:, :20, :30] = int(image_id)
    return Fitted(pixels, 0.5)


def build(**changes):
    arguments = {
        "image_ids": ["7", "9"], "weights": [1.0, 3.0], "sequences": ["x", None], "read": read,
        "labels": {"7": (np.array([[10, 20, 30, 40.0]]), np.array([2])), "9": (np.zeros((0, 4)), np.zeros(0))},
        "height": 32, "width": 32,
    }  # fmt: skip
    return build_training_set(**{**arguments, **changes})


def test_pixels_boxes_and_weights():
    data = build()
    assert data.images.shape == (2, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert data.images[0, :, :20, :30].unique().tolist() == [7]
    assert data.images[1, :, 20:].unique().tolist() == [114]
    assert data.boxes_xyxy_px[0].tolist() == [[5, 10, 15, 20]]
    assert data.boxes_xyxy_px[1].shape == (0, 4)
    assert [c.tolist() for c in data.classes] == [[2], []]
    assert data.weights.tolist() == [1, 3]
    assert data.sequences[0] == "x"
    assert data.sequences[1] != "x"


def test_memory_map_holds_the_same_pixels(tmp_path):
    path = tmp_path / "cache" / "pixels.bin"
    mapped = build(cache_path=path)
    assert torch.equal(mapped.images, build().images)
    assert path.read_bytes() == build().images.numpy().tobytes()


def test_subset_keeps_the_order_asked_for():
    part = build().subset([1, 0])
    assert [int(part.image(i)[0, 0, 0]) for i in range(len(part))] == [9, 7]
    assert part.weights.tolist() == [3, 1]
    assert part.boxes_xyxy_px[1].shape == (1, 4)
    assert len(build().subset([])) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_ids": [], "weights": [], "sequences": []}, r"(?s)nothing to train on.*0 labelled images.*fix"),
        ({"labels": {"7": (np.zeros((0, 4)), np.zeros(0))}}, r"(?s)no entry in the labels.*got:\s+9.*fix"),
        ({"weights": [1.0, 0.0]}, r"(?s)finite and above 0.*got:\s+9: 0\.0"),
        ({"weights": [1.0, float("nan")]}, r"(?s)finite and above 0.*got:\s+9: nan"),
        ({"weights": [1.0]}, r"differ in length"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(DataError, match=message):
        build(**changes)
