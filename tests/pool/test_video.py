"""Frames of tiny videos that torchcodec's encoder wrote: flat pictures whose colour tells the frame's number."""

from __future__ import annotations

import functools
import io
import multiprocessing
import struct
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.errors import CapabilityError, DataError
from poolscout.pool import video
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.storage import Storage
from poolscout.pool.video import VideoListing, frame_place, is_video, list_video, read_frame

torchcodec = pytest.importorskip("torchcodec")
has_ffmpeg = torchcodec.ffmpeg_major_version is not None
needs_ffmpeg = pytest.mark.skipif(not has_ffmpeg, reason="torchcodec finds no FFmpeg on this machine")

N_FRAMES, WIDTH, HEIGHT = 20, 64, 48
CONTAINERS = [("mp4", "mpeg4"), ("mov", "mpeg4"), ("mkv", "mpeg4"), ("avi", "mpeg4"), ("webm", None)]


def colour_of(frame: int) -> np.ndarray:
    return np.array([12 * frame, 255 - 12 * frame, 100], np.int64)


def write_video(path: Path, codec: str | None = "mpeg4", *, left_half_red: bool = False, **options: Any) -> Path:
    import torch
    from torchcodec.encoders import VideoEncoder

    frames = np.empty((N_FRAMES, 3, HEIGHT, WIDTH), np.uint8)
    frames[:] = np.stack([colour_of(frame) for frame in range(N_FRAMES)])[:, :, None, None]
    if left_half_red:
        frames[:, :, :, : WIDTH // 2] = np.array([255, 0, 0])[:, None, None]
    VideoEncoder(torch.from_numpy(frames), frame_rate=10).to_file(path, codec=codec, **options)
    return path


def listed(path: Path, every: int = 1, storage: Storage | None = None) -> VideoListing:
    return list_video(str(path), every, name=path.name, storage=storage or Storage(), max_pixels=10**6)


def read(path: Path | str, frame: int, storage: Storage | None = None) -> np.ndarray:
    return read_frame(f"{path}#frame={frame}", storage=storage or Storage(), max_pixels=10**6)


def decoded_in_order(path: Path) -> np.ndarray:
    """uint8 [n, h, w, 3] without a seek: the packets one after the other, with torchcodec's building blocks."""
    from torchcodec.decoders import ColorConverter, Demuxer

    demuxer, convert = Demuxer(str(path)), ColorConverter().convert
    decoder = demuxer.streams[0].make_decoder()
    raw = [frame for packet in demuxer for frame in decoder.decode(packet)] + decoder.drain()
    return np.stack([convert(frame).data.permute(1, 2, 0).numpy() for frame in raw])


def turned_by_90(path: Path) -> Path:
    """The same file with a display matrix in its track header: to be shown turned clockwise, as phones write it."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44  # after the type: version, flags and the times and sizes of version 0
    assert struct.unpack(">9i", data[matrix : matrix + 36])[0] == 1 << 16, "not the identity matrix"
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return write_video(tmp_path / "drive.mp4")


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_every_frame_is_the_one_that_decoding_in_order_gives(tmp_path: Path, suffix: str, codec: str | None) -> None:
    path = write_video(tmp_path / f"drive.{suffix}", codec)
    expected = decoded_in_order(path)
    frames = listed(path).frames["frame"].to_pylist()
    assert frames == list(range(N_FRAMES))
    for frame in np.random.default_rng(0).permutation(N_FRAMES).tolist():  # also backwards
        pixels = read(path, frame)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected[frame])
        assert np.abs(pixels.astype(int) - colour_of(frame)).max() <= 4


@needs_ffmpeg
def test_frames_that_are_stored_out_of_order_are_counted_as_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4", extra_options={"bf": 2, "g": 7})
    for frame in (5, 4, 19, 0, 11):
        assert np.abs(read(path, frame).astype(int) - colour_of(frame)).max() <= 4


@needs_ffmpeg
@pytest.mark.parametrize("every", [1, 3, 7, 20, 1000])
def test_every_kth_frame_is_listed(drive: Path, every: int) -> None:
    found = list_video(str(drive), every, name="town/drive.mp4", storage=Storage(), max_pixels=10**6)
    frames = list(range(0, N_FRAMES, every))
    assert found.missing is None
    assert found.frames.to_pydict() == {
        "image_id": [f"town/drive.mp4#{frame:06d}" for frame in frames],
        "uri": [f"{drive}#frame={frame}" for frame in frames],
        "width": [WIDTH] * len(frames),
        "height": [HEIGHT] * len(frames),
        "sequence": ["town/drive.mp4"] * len(frames),
        "frame": frames,
        "time_s": pytest.approx([frame / 10 for frame in frames]),
    }


@needs_ffmpeg
def test_a_video_that_is_to_be_shown_turned_is_upright(tmp_path: Path) -> None:
    path = turned_by_90(write_video(tmp_path / "phone.mp4", left_half_red=True))
    row = listed(path).frames.slice(3, 1).to_pylist()[0]
    assert (row["width"], row["height"]) == (HEIGHT, WIDTH)
    pixels = read(path, 3).astype(int)
    assert pixels.shape == (WIDTH, HEIGHT, 3)
    # Turned clockwise, what was left is above.
    assert np.abs(pixels[: WIDTH // 2 - 8] - [255, 0, 0]).max() <= 12
    assert np.abs(pixels[WIDTH // 2 + 8 :] - colour_of(3)).max() <= 12


@needs_ffmpeg
def test_a_video_is_opened_once_for_frames_in_a_row_and_again_when_it_changes(tmp_path: Path) -> None:
    opened: list[str] = []

    class Counting(Storage):
        def open(self, uri: str) -> BinaryIO:
            opened.append(Path(uri).name)
            return super().open(uri)

    a, b, c = (write_video(tmp_path / f"{name}.mp4") for name in "abc")
    storage = Counting()
    for frame in range(5):
        read(a, frame, storage)
        read(b, frame, storage)
    assert opened == ["a.mp4", "b.mp4"]
    read(c, 0, storage)  # a's decoder was used longest ago
    read(b, 5, storage)
    read(a, 5, storage)
    assert opened == ["a.mp4", "b.mp4", "c.mp4", "a.mp4"]
    write_video(a, left_half_red=True)
    assert np.abs(read(a, 5, storage)[:, :20].astype(int) - [255, 0, 0]).max() <= 12


@needs_ffmpeg
def test_threads_and_processes_get_the_same_frames(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{name}.mp4") for name in "ab"]
    places = [(path, frame) for frame in range(N_FRAMES) for path in paths] * 3
    expected = {place: read(*place).tobytes() for place in places}
    # Forked while this thread holds decoders: their files' positions are not to be shared.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as processes:
        found = processes.map(read_bytes, [f"{path}#frame={frame}" for path, frame in places])
        assert list(found) == [expected[place] for place in places]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda place: read(*place).tobytes(), places)) == [expected[place] for place in places]


def read_bytes(uri: str) -> bytes:
    return read_frame(uri, storage=Storage(), max_pixels=10**6).tobytes()


@needs_ffmpeg
def test_a_decoder_is_not_shared_between_threads(drive: Path) -> None:
    seen: list[object] = []

    def keep() -> None:
        read(drive, 0)
        seen.extend(video._opened.decoders.values())

    for _ in range(2):
        thread = threading.Thread(target=keep)
        thread.start()
        thread.join()
    assert len({id(decoder) for decoder in seen}) == 2


@needs_ffmpeg
@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"])
def test_what_is_no_video_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "drive.mp4"
    path.write_bytes(content)
    for use in (listed, lambda path: read(path, 0)):
        with pytest.raises(RejectedImage) as caught:
            use(path)
        assert caught.value.reason == ("undecodable" if content else "empty")
        assert ".cpp" not in caught.value.detail


@needs_ffmpeg
def test_a_missing_video_and_an_oversized_one_are_rejected(drive: Path) -> None:
    with pytest.raises(RejectedImage, match="missing"):
        listed(drive.with_name("other.mp4"))
    for use in (
        lambda: list_video(str(drive), 1, name="d", storage=Storage(), max_pixels=WIDTH * HEIGHT - 1),
        lambda: read_frame(f"{drive}#frame=0", storage=Storage(), max_pixels=WIDTH * HEIGHT - 1),
    ):
        with pytest.raises(RejectedImage, match="oversized"):
            use()


@needs_ffmpeg
def test_a_video_that_was_cut_off_gives_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.avi")  # AVI: the header, with the number of frames, comes first
    data = path.read_bytes()
    path.write_bytes(data[: int(0.8 * len(data))])
    found = listed(path)
    n_there = len(found.frames)
    assert 0 < n_there < N_FRAMES
    assert found.missing is not None
    assert found.missing.reason == "truncated"
    assert found.missing.detail.startswith(f"{n_there} of the {N_FRAMES} frames")
    assert np.abs(read(path, n_there - 2).astype(int) - colour_of(n_there - 2)).max() <= 4
    with pytest.raises(RejectedImage, match="truncated"):
        read(path, n_there)


@needs_ffmpeg
@settings(max_examples=60, deadline=None)
@given(st.sampled_from([suffix for suffix, _ in CONTAINERS]), st.data())
def test_a_damaged_video_gives_frames_or_a_reason(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: Any):
    path = tmp_path_factory.mktemp("damaged") / f"drive.{suffix}"
    content = bytearray(video_bytes(suffix))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    reasons = {"undecodable", "truncated", "oversized", "size differs"}
    rows = rejected_or(lambda: listed(path, 7).frames.to_pylist(), reasons) or []
    for row in rows:
        pixels = rejected_or(lambda row=row: read(path, row["frame"]), reasons)
        assert pixels is None or pixels.shape == (row["height"], row["width"], 3)


def rejected_or(use: Callable[[], Any], reasons: set[str]) -> Any:
    """What `use` gives; None where it rejects the image for one of these reasons."""
    try:
        return use()
    except RejectedImage as rejected:
        if rejected.reason not in reasons:
            raise
        return None


@functools.cache
def video_bytes(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / f"drive.{suffix}", dict(CONTAINERS)[suffix]).read_bytes()


@needs_ffmpeg
def test_what_the_storage_says_while_a_video_is_read_comes_through(drive: Path) -> None:
    class Denied(io.FileIO):
        def readinto(self, buffer: object) -> int:
            if self.tell() > 0:
                raise DataError("access is denied")
            return super().readinto(buffer)  # type: ignore[arg-type]

    class Storing(Storage):
        def open(self, uri: str) -> BinaryIO:
            return io.BufferedReader(Denied(uri), 64)

    with pytest.raises(DataError, match="access is denied"):
        listed(drive, storage=Storing())


def test_without_ffmpeg_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torchcodec, "ffmpeg_major_version", None)
    with pytest.raises(CapabilityError, match="apt install ffmpeg"):
        listed(tmp_path / "drive.mp4")


def test_without_torchcodec_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchcodec", None)
    with pytest.raises(CapabilityError, match=r"pip install 'poolscout\[video\]'"):
        listed(tmp_path / "drive.mp4")


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("a/b.mp4#frame=12", ("a/b.mp4", 12)),
        ("s3://b/k.MOV#frame=0", ("s3://b/k.MOV", 0)),
        ("odd#frame=3.mp4#frame=4", ("odd#frame=3.mp4", 4)),
        ("a.mp4", ("a.mp4", None)),
        ("a.mp4#frame=-1", ("a.mp4#frame=-1", None)),
        ("#frame=1", ("#frame=1", None)),
    ],
)
def test_a_frames_place(uri: str, place: tuple[str, int | None]) -> None:
    assert frame_place(uri) == place


def test_videos_are_told_by_their_names() -> None:
    assert [is_video(name) for name in ("a/b.MP4", "c.webm", "d.mp4.txt", ".e.mkv", "f.jpg")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_a_uri_without_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="names no frame"):
        read_frame("a.mp4", storage=Storage(), max_pixels=1)
