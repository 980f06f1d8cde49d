"""The figure of one image: maps and boxes are where members with known maps put them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from poolscout.config import ScoringConfig
from poolscout.detector.member import Member
from poolscout.pool import ImageReader
from poolscout.report.figure import PAPER, SIDE, draw_figure, glow
from poolscout.report.heat import MEMBER_COLOURS, overlay_uri, widened
from poolscout.report.seen import FIGURE_SCORERS, MAX_BOXES, MemberBox, Seen, fitting, in_unit, look
from tests.scoring.pools import CLASSES, STRIDE, TINY, KnownMember, real_member


def seen_in(folder: Path, pixels: np.ndarray, members: Sequence[Member], names: Sequence[str]) -> Seen:
    Image.fromarray(pixels).save(folder / "a.png")
    reader = ImageReader({"a": str(folder / "a.png")}, 10**7)
    return look(members, reader, ["a"], names, ScoringConfig(), TINY)["a"]


@pytest.mark.parametrize("size", [(64, 96), (64, 40), (36, 96), (160, 240)])  # whole input, padded, scaled
def test_the_hottest_pixel_is_where_the_map_has_its_maximum(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    half = height // 16
    y, x = 3 * height // 4, width // 4
    pixels[y - half : y + half, x - half : x + half, 1] = 128  # p of a person near ½: as undecided as can be
    pixels[height // 4 - half : height // 4 + half, 3 * width // 4 :, 1] = 25
    seen = seen_in(tmp_path, pixels, [KnownMember()], ["entropy"])
    ground = Image.new("RGB", (10, 10), "#303030")
    shown = (4 * width, 4 * height)
    bright = np.asarray(glow(ground, seen.maps["entropy"][1], seen.highest("entropy"), seen, shown)).sum(2)
    rows, columns = np.nonzero(bright >= bright.max() - 6)
    assert abs(rows.mean() / 4 - y) < half / 2 + STRIDE / 2 * height / 64
    assert abs(columns.mean() / 4 - x) < half / 2 + STRIDE / 2 * height / 64
    cold = np.asarray(glow(ground, seen.maps["entropy"][0], seen.highest("entropy"), seen, shown))
    assert (cold == 0x30).all(), "no car: the ground is seen as it is"


def test_every_member_s_boxes_are_drawn_in_its_colour_at_their_place(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[32:36, 48:52, 0] = 255  # one cell, certain
    seen = seen_in(tmp_path, pixels, [KnownMember(side=16.0), KnownMember(side=24.0, shift=8.0)], [])
    assert [[(b.x1, b.y1, b.x2, b.y2, b.label) for b in boxes] for boxes in seen.members] == [
        [(42.0, 26.0, 58.0, 42.0, "car")],
        [(46.0, 22.0, 70.0, 46.0, "car")],
    ]
    figure = np.asarray(draw_figure(pixels, seen, "a", ["fact"]))
    left = figure[:, : figure.shape[1] - SIDE - 70]  # without the legend
    (top, bottom), (west, east) = _extent((left != ImageColor.getrgb(PAPER)).any(2))
    scale = (east - west + 1) / 96
    assert scale > 10
    assert (bottom - top + 1) / 64 == pytest.approx(scale, rel=0.01)
    for number, boxes in enumerate(seen.members):
        mine = (left == ImageColor.getrgb(MEMBER_COLOURS[number])).all(2)
        (y1, y2), (x1, x2) = _extent(mine)
        drawn = ((x1 - west) / scale, (y1 - top) / scale, (x2 - west) / scale, (y2 - top) / scale)
        assert drawn == pytest.approx((boxes[0].x1, boxes[0].y1, boxes[0].x2, boxes[0].y2), abs=0.2)
        legend = (figure[:, left.shape[1] :] == ImageColor.getrgb(MEMBER_COLOURS[number])).all(2)
        assert legend.sum() > 100


def test_weak_boxes_are_left_out_and_the_rest_is_bounded(tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[::16, ::16, 0] = 255  # a sixteenth of a cell: p = 1/16, kept by scoring but not shown
    assert seen_in(tmp_path, pixels, [KnownMember()], []).members == [[]]
    for dy in range(4):
        for dx in range(4):
            pixels[dy::8, dx::8, 0] = 255
    assert len(seen_in(tmp_path, pixels, [KnownMember(side=4.0)], []).members[0]) == MAX_BOXES  # of 96


def test_classes_with_nothing_to_see_come_last_and_small() -> None:
    maps = np.zeros((3, 8, 12), np.float32)
    maps[0, 2, 2], maps[2, 5, 5] = 0.01, 0.5
    seen = Seen({"entropy": maps}, 1.0, 1.0, [[]], ("car", "bus", "person"))
    assert seen.loud() == [2]
    pixels = np.full((64, 96, 3), 90, np.uint8)
    with_two = Seen({"entropy": maps + np.float32([0.4, 0, 0])[:, None, None]}, 1.0, 1.0, [[]], seen.classes)
    assert draw_figure(pixels, seen, "a", []).height < draw_figure(pixels, with_two, "a", []).height
    silent = Seen({"entropy": maps * 0}, 1.0, 1.0, [[]], seen.classes)
    assert silent.loud() == []
    assert draw_figure(pixels, silent, "a", []).height < draw_figure(pixels, seen, "a", []).height


@pytest.mark.parametrize("n_members", [1, 8, 60])
@pytest.mark.parametrize("size", [(64, 96), (40, 400), (300, 60), (1, 1)])
def test_any_shape_of_image_and_any_ensemble_can_be_drawn(size: tuple[int, int], n_members: int) -> None:
    box = MemberBox(0.0, 0.0, 0.2, 0.2, "car", 0.9)
    maps = {name: np.random.default_rng(0).random((5, 3, 4), np.float32) for name in FIGURE_SCORERS}
    classes = ("car", "Fußgänger", "歩行者", "a_very_long_name_that_has_to_be_broken_somewhere", "x" * 90)
    seen = Seen(maps, 1.01, 1.3, [[box]] * n_members, classes)
    figure = draw_figure(np.zeros((*size, 3), np.uint8), seen, "y" * 300, ["z" * 300])
    edge = np.asarray(figure.crop((figure.width - 40, 0, figure.width, figure.height)))
    assert (edge == ImageColor.getrgb(PAPER)).all(), "nothing reaches into the margin"


def test_scorers_are_those_that_the_ensemble_can_feed() -> None:
    two, one = [real_member(0), real_member(1)], [real_member(0)]
    assert fitting(two) == list(FIGURE_SCORERS)
    assert fitting(one) == ["entropy", "gradient", "mc_dropout"]
    dry = real_member(0)
    dry.card = dry.card.model_copy(update={"architecture": TINY.model_copy(update={"dropout": 0.0})})
    assert fitting([dry]) == ["entropy", "gradient"]
    assert fitting(two, ["detection_entropy", "gradient_total", "unheard_of", "entropy"]) == ["entropy"]


def test_looking_uses_the_classes_of_the_members(tmp_path: Path) -> None:
    seen = seen_in(tmp_path, np.zeros((64, 96, 3), np.uint8), [KnownMember(), KnownMember(0.5)], FIGURE_SCORERS)
    assert seen.classes == CLASSES
    assert {name: maps.shape for name, maps in seen.maps.items()} == dict.fromkeys(FIGURE_SCORERS, (2, 16, 24))


def test_the_last_cells_may_reach_over_the_border(tmp_path: Path) -> None:
    seen = seen_in(tmp_path, np.zeros((33, 96, 3), np.uint8), [KnownMember()], ["entropy"])
    assert seen.maps["entropy"].shape == (2, 9, 24)  # 33 rows of pixels are 8.25 cells
    assert (seen.height_share, seen.width_share) == (pytest.approx(36 / 33), 1.0)


def test_units() -> None:
    assert in_unit(0.12345, "nats") == "0.123 nats"
    assert in_unit(7.789, "1") == "7.79"


def test_overlays_become_coarser_until_they_fit() -> None:
    noise = np.random.default_rng(0).random((96, 160), np.float32)
    sizes = [len(overlay_uri(noise, 1.0, most)) for most in (None, 15_000, 5_000, 1_000)]
    assert sizes[0] > 15_000 >= sizes[1] > 5_000 >= sizes[2] > 1_000 >= sizes[3]
    assert len(overlay_uri(np.zeros((96, 160), np.float32), 0.0)) < 1000


def test_widening_keeps_values_and_places() -> None:
    values = np.zeros((5, 6), np.float32)
    values[2, 3], values[0, 0] = 1.0, 2.0
    expected = np.zeros((5, 6), np.float32)
    expected[[1, 2, 2, 2, 3], [3, 2, 3, 4, 3]] = 1.0
    expected[[0, 0, 1], [0, 1, 0]] = 2.0
    np.testing.assert_array_equal(widened(values), expected)


def _extent(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    rows, columns = np.nonzero(mask)
    return (int(rows.min()), int(rows.max())), (int(columns.min()), int(columns.max()))


@pytest.mark.parametrize("size", [(4000, 3), (3, 4000), (1, 1)])
def test_images_of_any_shape_and_names_of_any_letters_are_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 90, np.uint8)
    seen = seen_in(tmp_path, pixels, [KnownMember(), KnownMember(0.5)], ["entropy", "mutual_information"])
    figure = draw_figure(pixels, seen, "a\nb\t車.jpg", ["two\nlines"])
    assert figure.width > 1000
