from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import no_calibration
from poolscout.detector.member import Member, MemberCard, MemberOutput
from poolscout.evaluation import detect
from poolscout.pool import ImageReader

HEIGHT, WIDTH, STRIDE = 64, 96, 4


class FixedMember(Member):
    """Finds what it is told to, in every image: (class position, row, column, probability, box in input px)."""

    def __init__(self, *found: tuple[int, int, int, float, list[float]]) -> None:
        self.card = MemberCard(
            architecture=DetectorConfig(height=HEIGHT, width=WIDTH), classes=("car", "bike"),
            calibration=no_calibration(2, 0.0), seed=0, training={},
        )  # fmt: skip
        self.found = found

    def __call__(self, images: torch.Tensor) -> MemberOutput:
        n, h, w = len(images), HEIGHT // STRIDE, WIDTH // STRIDE
        probabilities, boxes = torch.zeros(n, 2, h, w), torch.zeros(n, 4, h, w)
        for cls, row, column, probability, (x1, y1, x2, y2) in self.found:
            probabilities[:, cls, row, column] = probability
            offset = [(x1 + x2) / 2 / STRIDE - column - 0.5, (y1 + y2) / 2 / STRIDE - row - 0.5]
            log_sides = [math.log((x2 - x1) / STRIDE), math.log((y2 - y1) / STRIDE)]
            boxes[:, :, row, column] = torch.tensor([*offset, *log_sides])
        return MemberOutput(probabilities, None, boxes, torch.zeros(n, 3), torch.zeros(n, 1, h, w), [])


@pytest.fixture
def reader(tmp_path: Path) -> ImageReader:
    """a.png fills the input at half size; b.png is square, so a third of the input is padding; c.png is broken."""
    for name, size in (("a.png", (192, 128)), ("b.png", (32, 32))):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no image")
    return ImageReader({name: str(tmp_path / name) for name in ("a.png", "b.png", "c.png")}, 10**6)


def run(members: list[Member], reader: ImageReader, ids: list[str], **options: int) -> tuple[list[dict], list[dict]]:
    images = pa.table({"image_id": ids})
    found, rejected = detect(members, images, reader, height=HEIGHT, width=WIDTH, **options)
    return found.to_pylist(), rejected.to_pylist()


def test_boxes_come_back_in_pixels_of_the_image(reader: ImageReader) -> None:
    member = FixedMember((1, 2, 3, 0.75, [8, 4, 24, 20]))
    found, _ = run([member], reader, ["a.png", "b.png"])
    row = {"member": 0, "class": "bike", "probability": 0.75}
    assert found == [
        {"image_id": "a.png", **row, "x1_px": 16, "y1_px": 8, "x2_px": 48, "y2_px": 40},  # shown at half size
        {"image_id": "b.png", **row, "x1_px": 4, "y1_px": 2, "x2_px": 12, "y2_px": 10},  # shown at double size
    ]


def test_every_member_speaks_for_itself(reader: ImageReader) -> None:
    members: list[Member] = [FixedMember((0, 2, 3, 0.5, [8, 4, 24, 20])), FixedMember((1, 5, 5, 0.25, [8, 4, 24, 20]))]
    found, _ = run(members, reader, ["a.png"])
    assert [(f["member"], f["class"], f["probability"]) for f in found] == [(0, "car", 0.5), (1, "bike", 0.25)]


def test_nothing_is_found_in_the_padding_and_boxes_end_at_the_border(reader: ImageReader) -> None:
    # b.png covers columns 0 … 15 of the map; the second peak lies in the grey beyond.
    member = FixedMember((0, 2, 10, 0.5, [32, 4, 90, 20]), (0, 2, 20, 0.9, [70, 4, 90, 20]))
    found, _ = run([member], reader, ["b.png"])
    assert [(f["probability"], f["x2_px"]) for f in found] == [(0.5, 32)]


def test_weak_detections_count_for_the_curve_but_not_all(reader: ImageReader) -> None:
    member = FixedMember((0, 2, 3, 0.0020, [8, 4, 24, 20]), (0, 8, 8, 0.0005, [8, 4, 24, 20]))
    assert [f["probability"] for f in run([member], reader, ["a.png"])[0]] == pytest.approx([0.002])


def test_unreadable_images_are_reported_and_progress_counts_them(reader: ImageReader) -> None:
    told: list[int] = []
    images = pa.table({"image_id": ["c.png", "a.png", "b.png"]})
    member = FixedMember((0, 2, 3, 0.5, [8, 4, 24, 20]))
    found, rejected = detect([member], images, reader, height=HEIGHT, width=WIDTH, batch_size=1, progress=told.append)
    assert set(found["image_id"].to_pylist()) == {"a.png", "b.png"}
    assert [(r["image_id"], r["stage"], r["reason"]) for r in rejected.to_pylist()] == [
        ("c.png", "evaluation", "undecodable")
    ]
    assert told == [1, 2, 3]


def test_the_batch_size_changes_nothing(reader: ImageReader) -> None:
    members: list[Member] = [FixedMember((0, 2, 3, 0.5, [8, 4, 24, 20])), FixedMember()]
    ids = ["a.png", "b.png", "a.png"]
    key = lambda row: (row["image_id"], row["member"], row["x1_px"])  # noqa: E731
    one, many = (sorted(run(members, reader, ids, batch_size=n)[0], key=key) for n in (1, 16))
    assert one == many
    assert len(one) == 3


def test_no_images_and_no_detections_give_empty_tables(reader: ImageReader) -> None:
    found, rejected = run([FixedMember()], reader, [])
    assert (found, rejected) == ([], [])
    assert run([FixedMember()], reader, ["a.png"])[0] == []
