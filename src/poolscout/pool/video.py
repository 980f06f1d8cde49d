"""Frames of video files as images: `drive.mp4#000120` is frame 120, counted from 0 in the order they are shown.

torchcodec decodes (the extra `video`), with the FFmpeg that the machine has. Files are read through `Storage` and never
by name: a playlist that poses as a video can then reach nothing else.
"""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, UInt8

from poolscout.errors import CapabilityError
from poolscout.pool.rejected import RejectedImage
from poolscout.pool.storage import Storage, file_state, frame_place
from poolscout.pool.trouble import words

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})

_KEPT_OPEN = 2  # decoders a thread; each holds the pictures that later ones are predicted from

_opened = threading.local()


@dataclass(frozen=True)
class VideoListing:
    """What a video holds.

    Attributes:
        frames: image_id, uri, width and height (px, upright), sequence, frame (from 0), time_s (from the file's start);
            in the order they are shown.
        missing: set where the file tells of more frames than there are, as one that was cut off does.
    """

    frames: pa.Table
    missing: RejectedImage | None


def is_video(name: str) -> bool:
    """Whether a name ends as a video's does, and is not hidden."""
    last = PurePosixPath(name)
    return last.suffix.lower() in VIDEO_SUFFIXES and not last.name.startswith(".")


def list_video(uri: str, every: int, *, name: str, storage: Storage, max_pixels: int) -> VideoListing:
    """Every `every`-th frame of a video, from the first on. The file is read once; no frame is decoded.

    Args:
        uri: a local path or URL.
        every: 1 lists all frames.
        name: the video's path relative to the pool's root: its frames' sequence, and how their ids begin.

    Raises:
        RejectedImage: missing, unreadable, empty, undecodable (damaged, no video, no decoder for it) or oversized.
        CapabilityError: torchcodec or FFmpeg cannot be loaded.
    """
    decoders = _decoders()
    with _rejecting(), storage.open(uri) as file:
        _check_not_empty(file)
        stream = decoders.Demuxer(file).streams[0]
        width, height = _checked_size(stream.metadata, max_pixels)
        stream.make_decoder()  # refuses what this FFmpeg has no decoder for
        index = stream.scan()
        times_s = index.pts_seconds.numpy()
        if not len(times_s):
            raise RejectedImage("undecodable", "a video without frames")
        end_s = index.end_stream_seconds_from_content
    frames = range(0, len(times_s), every)
    table = pa.table({
        "image_id": pa.array([f"{name}#{frame:06d}" for frame in frames], pa.string()),
        "uri": pa.array([f"{uri}#frame={frame}" for frame in frames], pa.string()),
        "width": pa.array([width] * len(frames), pa.int32()),
        "height": pa.array([height] * len(frames), pa.int32()),
        "sequence": pa.array([name] * len(frames), pa.string()),
        "frame": pa.array(frames, pa.int64()),
        "time_s": pa.array(times_s[::every], pa.float64()),
    })  # fmt: skip
    return VideoListing(table, _missing(stream.metadata, times_s, end_s))


def read_frame(uri: str, *, storage: Storage, max_pixels: int) -> UInt8[np.ndarray, "h w 3"]:
    """The upright RGB frame that `PATH.mp4#frame=120` names, exact also where frames come at uneven times.

    Frames of one video are quickest in rising order and in one thread, which keeps its decoder open.

    Raises:
        RejectedImage: as `list_video`; truncated: the video ends before; size differs: from the rest of the video.
        CapabilityError: torchcodec or FFmpeg cannot be loaded.
        ValueError: the URI names no frame.
    """
    video, frame = frame_place(uri)
    if frame is None:
        raise ValueError(f"{uri!r} names no frame: expected PATH#frame=NUMBER")
    with _rejecting():
        decoder = _decoder(video, storage)
        width, height = _checked_size(decoder.metadata, max_pixels)
        if frame >= len(decoder):
            raise RejectedImage("truncated", f"frame {frame} of a video that ends after {len(decoder)} frames")
        pixels: np.ndarray = decoder[frame].numpy()
    if pixels.shape != (height, width, 3):
        found = f"{pixels.shape[1]}×{pixels.shape[0]}"
        raise RejectedImage("size differs", f"the video says {width}×{height}, frame {frame} is {found}")
    return pixels


def _decoder(video: str, storage: Storage) -> Any:
    """This thread's decoder of a video, opened again where the file has changed."""
    # Not to be used after a fork: the file's position would be shared with the parent.
    key = (os.getpid(), video, repr(storage), file_state(video))
    kept: OrderedDict[Any, Any] = _opened.__dict__.setdefault("decoders", OrderedDict())
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    decoders = _decoders()
    file = storage.open(video)
    _check_not_empty(file)
    # The decoder holds the file and closes it with itself. It reads through the file once, to know every frame's place.
    decoder = decoders.VideoDecoder(file, dimension_order="NHWC", num_ffmpeg_threads=1, device="cpu", seek_mode="exact")
    kept[key] = decoder
    while len(kept) > _KEPT_OPEN:
        kept.popitem(last=False)
    return decoder


def _decoders() -> ModuleType:
    """torchcodec's decoders, with FFmpeg found."""
    try:
        import torchcodec
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError) as error:
        raise CapabilityError(
            "video files need torchcodec, which cannot be loaded",
            got=words(error),
            fix="pip install 'poolscout[video]'",
        ) from error
    if torchcodec.ffmpeg_major_version is None:
        raise CapabilityError(
            "video files need FFmpeg, which torchcodec cannot load", got="none of the versions it knows",
            expected="FFmpeg's shared libraries, version 4 or later", fix="apt install ffmpeg, or conda install ffmpeg",
        )  # fmt: skip
    return decoders


@contextmanager
def _rejecting() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:  # as torchcodec raises them
        # "Demuxer, /…/Demuxer.cpp:120, Could not open input buffer: …": what comes after the place in its source
        raise RejectedImage("undecodable", re.sub(r"^.*?\.cpp:[0-9]+, ", "", words(error))) from error


def _check_not_empty(file: io.BufferedReader | io.BytesIO) -> None:
    if not file.read(1):
        raise RejectedImage("empty", "0 bytes")
    file.seek(0)


def _checked_size(metadata: Any, max_pixels: int) -> tuple[int, int]:
    """(width, height) in px, upright."""
    width, height = metadata.width, metadata.height
    if not width or not height:
        raise RejectedImage("undecodable", "a video of unknown size")
    if width * height > max_pixels:
        raise RejectedImage("oversized", f"{width}×{height} = {width * height} pixels, at most {max_pixels} allowed")
    return width, height


def _missing(metadata: Any, times_s: Float64[np.ndarray, " n"], end_s: float) -> RejectedImage | None:
    """Told frames that are not there. A trimmed video hides frames on purpose, and tells the shorter duration."""
    told, told_s = metadata.num_frames_from_header, metadata.duration_seconds_from_header
    length_s = end_s - float(times_s[0])
    if told is None or told <= len(times_s) or told_s is None or told_s < length_s * (1 + 1.5 / len(times_s)):
        return None
    return RejectedImage("truncated", f"{len(times_s)} of the {told} frames that its header tells of are there")
