"""A clip: its boxes fit what is visible, its things persist, and the same arguments give the same pictures."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from poolscout.errors import ConfigError
from poolscout.sandbox import CLASSES, SETTINGS, Frame, render_clip

CLIPS = (11, 19, 30, 31, 32, 38)
"""Busy ones of seed 0, by day and by night."""


@pytest.fixture(scope="module")
def clips() -> dict[int, list[Frame]]:
    return {index: list(render_clip(0, index, frames=8)) for index in CLIPS}


@pytest.fixture(scope="module")
def frames(clips: dict[int, list[Frame]]) -> list[Frame]:
    return [frame for clip in clips.values() for frame in clip]


def test_every_box_is_the_smallest_around_the_visible_pixels(frames: list[Frame]) -> None:
    for frame in frames:
        for number, box in enumerate(frame.boxes_xyxy_px, start=1):
            rows, columns = np.nonzero(frame.instances == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert frame.instances.max() == len(frame.boxes_xyxy_px)
    assert sum(len(frame.boxes_xyxy_px) for frame in frames) > 300


def test_boxes_are_inside_the_picture_and_large_enough_to_be_labelled(frames: list[Frame]) -> None:
    for frame in frames:
        height, width = frame.image.shape[:2]
        x1, y1, x2, y2 = frame.boxes_xyxy_px.T
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 <= width).all()
        assert (y2 <= height).all()
        sides = np.sort(np.stack([x2 - x1, y2 - y1]), axis=0)
        assert (sides[0] >= SETTINGS.min_shorter_side_px).all()
        assert (sides[1] >= SETTINGS.min_longer_side_px).all()


def test_what_is_nearly_hidden_has_no_box_unless_it_is_large(frames: list[Frame]) -> None:
    for frame in frames:
        assert (frame.visibility <= 1.0).all()
        for number, visibility in enumerate(frame.visibility, start=1):
            large = np.mean(frame.instances == number) >= SETTINGS.min_picture_share
            assert visibility >= SETTINGS.min_visibility or large


def test_a_thing_covered_by_a_nearer_one_is_less_visible(frames: list[Frame]) -> None:
    """Of two cars whose boxes overlap, pixels in the overlap belong to one only: visibility must fall below 1."""
    covered = [frame.visibility[i] for frame in frames for i in _overlapped(frame)]
    assert len(covered) > 10
    assert np.mean(np.array(covered) < 0.95) > 0.8


def _overlapped(frame: Frame) -> list[int]:
    """Boxes of which another thing holds at least a third of the pixels."""
    found = []
    for i, (x1, y1, x2, y2) in enumerate(frame.boxes_xyxy_px.astype(int)):
        inside = frame.instances[y1:y2, x1:x2]
        if np.mean((inside != 0) & (inside != i + 1)) > 1 / 3:
            found.append(i)
    return found


def test_tracks_keep_their_class_and_move_smoothly(clips: dict[int, list[Frame]]) -> None:
    kept, seen = 0, 0
    for clip in clips.values():
        label_of: dict[int, int] = {}
        for before, after in pairwise(clip):
            assert len(set(after.track_ids.tolist())) == len(after.track_ids)
            places = {int(t): box for t, box in zip(before.track_ids, before.boxes_xyxy_px, strict=True)}
            for track, label, box in zip(after.track_ids, after.classes, after.boxes_xyxy_px, strict=True):
                assert label_of.setdefault(int(track), int(label)) == label
                if int(track) in places:
                    kept += _touch(places[int(track)], box)
                    seen += 1
        longest = Counter(int(t) for frame in clip for t in frame.track_ids).most_common(1)[0][1]
        assert longest == 8
    assert seen > 200
    assert kept / seen > 0.9


def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    """The boxes, half as large again, overlap: at 5 frames/s a near crossing car moves by more than its tail."""
    grow = 0.25 * max(a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1])
    return bool((np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:]) + 2 * grow).all())


def test_a_waiting_car_records_near_duplicates_that_differ_by_noise() -> None:
    frames = list(render_clip(0, 5, frames=5))
    waits = [(a, b) for a, b in pairwise(frames) if max(a.metadata["speed_kmh"], b.metadata["speed_kmh"]) == 0.0]
    drives = [(a, b) for a, b in pairwise(list(render_clip(0, 11, frames=5))) if a.metadata["speed_kmh"] > 10]
    assert waits
    assert drives
    assert all((a.image != b.image).any() for a, b in waits)
    assert max(_difference(*pair) for pair in waits) < min(_difference(*pair) for pair in drives)


def _difference(a: Frame, b: Frame) -> float:
    return float(np.abs(a.image.astype(int) - b.image.astype(int)).mean())


def test_same_arguments_same_pictures_and_other_arguments_others() -> None:
    first, again, other_seed, other_clip = (
        next(render_clip(seed, clip, frames=3)) for seed, clip in ((0, 5), (0, 5), (1, 5), (0, 6))
    )
    assert (first.image == again.image).all()
    assert (first.boxes_xyxy_px == again.boxes_xyxy_px).all()
    assert first.metadata == again.metadata
    assert (first.image != other_seed.image).any()
    assert (first.image != other_clip.image).any()


def test_the_same_street_in_other_sizes() -> None:
    """At twice the size the same things stand at twice the pixels: large ones have both boxes."""
    small, large = (next(render_clip(0, 29, frames=1, width=w, height=h)) for w, h in ((320, 192), (640, 384)))
    assert large.image.shape == (384, 640, 3)
    assert large.metadata == small.metadata
    doubled = {int(t): 2 * box for t, box in zip(small.track_ids, small.boxes_xyxy_px, strict=True)}
    compared = 0
    for track, box in zip(large.track_ids, large.boxes_xyxy_px, strict=True):
        if int(track) in doubled and (box[2:] - box[:2]).min() > 30:
            assert np.abs(doubled[int(track)] - box).max() <= 6
            compared += 1
    assert compared >= 2


def test_metadata_of_every_frame(clips: dict[int, list[Frame]]) -> None:
    for index, clip in clips.items():
        assert [frame.metadata["frame"] for frame in clip] == list(range(8))
        assert {frame.metadata["sequence"] for frame in clip} == {f"clip-{index:04d}"}
        assert len({(frame.metadata["time_of_day"], frame.metadata["weather"]) for frame in clip}) == 1
        assert all(0.0 <= frame.metadata["speed_kmh"] < 100.0 for frame in clip)


def test_night_is_darker_than_day(frames: list[Frame]) -> None:
    light = {hour: [f.image.mean() for f in frames if f.metadata["time_of_day"] == hour] for hour in ("day", "night")}
    assert max(light["night"]) < min(light["day"])


def test_many_frames_are_empty_and_people_and_bicycles_are_rare() -> None:
    """Measured over 150 clips: 23 % empty, 70 % with a car, 18 % with a person, 5 % with a bicycle."""
    frames = [next(render_clip(0, index, frames=1)) for index in range(30)]
    shown = [set(frame.classes.tolist()) for frame in frames]
    assert 0.1 < np.mean([not labels for labels in shown]) < 0.4
    car, person, bicycle = (np.mean([label in labels for labels in shown]) for label in range(3))
    assert car > 0.5
    assert bicycle < person < 0.35


def test_five_classes_in_the_papers_order() -> None:
    assert CLASSES == ("car", "person", "bicycle", "road sign", "traffic light")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": 0}, ("frames per clip", "got:      0", "1 to")),
        ({"width": 16}, ("width", "got:      16", "64 to 4096")),
        ({"height": 100_000}, ("height", "got:      100000", "64 to 4096")),
        ({"width": 2000, "height": 100}, ("too narrow or too wide", "2000 × 100 px", "320 × 192")),
    ],
)
def test_bad_sizes_are_refused(arguments: dict[str, int], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        render_clip(0, 0, **arguments)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(("seed", "clip", "word"), [(-1, 0, "seed"), (0, -1, "clip index")])
def test_negative_seed_or_clip_is_refused(seed: int, clip: int, word: str) -> None:
    with pytest.raises(ConfigError, match=f"{word} is out of range"):
        render_clip(seed, clip)
