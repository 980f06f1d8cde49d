"""The street clips as a COCO data set on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from poolscout.errors import ConfigError, OtherRunError
from poolscout.sandbox.render import Frame, check_arguments, render_clip
from poolscout.sandbox.settings import CLASSES, SETTINGS, StreetSettings
from poolscout.tables.atomic import storage_errors, write_json, write_text

VERSION = 1
"""Of the pictures: raised whenever the same seed gives other bytes than before."""
FIRST_TEST_CLIP = 1_000_000
"""Test clips count from here, so that a larger pool never takes in a clip of the test part."""
TRACKS_PER_CLIP = 1_000_000
JPEG_QUALITY = 90
Parameters = dict[str, Any]


@dataclass(frozen=True)
class SandboxSummary:
    """What `write_sandbox` wrote, or found already written."""

    out_dir: Path
    annotations_pool: Path
    annotations_test: Path | None
    pool_images: int
    test_images: int
    empty_images: int
    boxes: dict[str, int]
    """Per class, pool and test together."""
    already_there: bool


def write_sandbox(
    out_dir: Path | str,
    *,
    clips: int,
    frames_per_clip: int = 40,
    seed: int = 0,
    width: int = 320,
    height: int = 192,
    field_of_view_deg: float = SETTINGS.horizontal_fov_deg,
    test_clips: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SandboxSummary:
    """Write `clips` clips for the pool, and `test_clips` others for the test, under `out_dir`.

    Writes images/clip-0007/frame-000012.jpg, README.md, annotations_test.json (where there are test clips),
    annotations_pool.json and, last of all, sandbox.json: a killed run leaves a folder without annotations,
    and the same call writes it again. Where a data set of the same parameters is complete, nothing is done.

    Args:
        out_dir: a new or empty folder, or one that this function wrote with the same parameters.
        clips: number of clips in the pool, ≥ 1.
        frames_per_clip: frames of each clip, 0.2 s apart.
        seed: same seed, same bytes; clip k does not depend on how many clips there are.
        width: of the images in pixels.
        height: of the images in pixels.
        field_of_view_deg: horizontal, of the camera, 20 to 120; a longer lens sees less, and that larger.
        test_clips: number of clips in the test part, ≥ 0.
        progress: called with (frames done, frames in all) after each frame.

    Raises:
        ConfigError: a number is out of its range, or `out_dir` is a file.
        OtherRunError: `out_dir` holds something else.
        StorageError: the disk is full or the folder may not be written.
    """
    _check_counts(clips, test_clips)
    parameters = {
        "clips": clips, "field_of_view_deg": float(field_of_view_deg), "frames_per_clip": frames_per_clip,
        "height": height, "seed": seed, "test_clips": test_clips, "version": VERSION, "width": width,
    }  # fmt: skip
    check_arguments(
        seed=seed, clip_index=0, frames=frames_per_clip, width=width, height=height, settings=_settings(parameters)
    )
    out_dir = Path(out_dir)
    known = _known(out_dir, parameters)
    if known is not None:
        return known
    return _write(out_dir, parameters, progress)


def _settings(parameters: Parameters) -> StreetSettings:
    return replace(SETTINGS, horizontal_fov_deg=parameters["field_of_view_deg"])


def _write(out_dir: Path, parameters: Parameters, progress: Callable[[int, int], None] | None) -> SandboxSummary:
    write_json(out_dir / "sandbox.json", {"parameters": parameters})
    clips, test_clips, frames_per_clip = (parameters[name] for name in ("clips", "test_clips", "frames_per_clip"))
    total, done, settings = (clips + test_clips) * frames_per_clip, 0, _settings(parameters)
    parts = {"pool": range(clips), "test": range(FIRST_TEST_CLIP, FIRST_TEST_CLIP + test_clips)}
    written: dict[str, _Part] = {}
    for name, indices in parts.items():
        part = written[name] = _Part()
        for index in indices:
            frames = render_clip(
                parameters["seed"],
                index,
                frames=frames_per_clip,
                width=parameters["width"],
                height=parameters["height"],
                settings=settings,
            )
            for _ in part.write(out_dir / "images", index, frames):
                done += 1
                if progress is not None:
                    progress(done, total)
    summary = _summary(out_dir, written)
    write_text(out_dir / "README.md", _readme(parameters, summary))
    for name in ("test", "pool"):
        if written[name].images:
            write_text(out_dir / f"annotations_{name}.json", written[name].json(parameters))
    counts = {"boxes": summary.boxes, "empty_images": summary.empty_images}
    counts |= {"pool_images": summary.pool_images, "test_images": summary.test_images}
    write_json(out_dir / "sandbox.json", {"parameters": parameters, "summary": counts})
    return summary


def _check_counts(clips: int, test_clips: int) -> None:
    for name, value, low in (("clips", clips, 1), ("test clips", test_clips, 0)):
        if not low <= value < FIRST_TEST_CLIP:
            raise ConfigError(
                f"sandbox: the number of {name} is out of range",
                got=value, expected=f"{low} to {FIRST_TEST_CLIP - 1}", fix=f"choose another number of {name}",
            )  # fmt: skip


def _known(out_dir: Path, parameters: Parameters) -> SandboxSummary | None:
    """The summary of a complete data set of these parameters; None where it is still to be written."""
    if out_dir.exists() and not out_dir.is_dir():
        raise ConfigError(
            f"{out_dir}: is a file", got="a file", expected="a folder, or a path that does not exist yet",
            fix="choose another folder for the sandbox",
        )  # fmt: skip
    if not out_dir.exists() or not any(out_dir.iterdir()):
        return None
    found = _read_marker(out_dir / "sandbox.json")
    if found is None or found.get("parameters") != parameters:
        raise OtherRunError(
            f"{out_dir}: holds something other than this sandbox",
            got=f"a sandbox with {json.dumps(found['parameters'])}" if found else "files without a sandbox.json",
            expected=f"an empty folder, or a sandbox with {json.dumps(parameters)}",
            fix="choose another folder, or empty this one",
        )
    test = out_dir / "annotations_test.json" if parameters["test_clips"] else None
    pool = out_dir / "annotations_pool.json"
    counts = found.get("summary")
    if counts is None or not all(path.exists() for path in (pool, test) if path):
        return None
    return SandboxSummary(out_dir, pool, test, **counts, already_there=True)


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("parameters"), dict):
        return None
    # Sets written before there was a choice of lenses do not name theirs.
    found["parameters"] = {"field_of_view_deg": SETTINGS.horizontal_fov_deg} | found["parameters"]
    return found


class _Part:
    """The COCO records of the pool or of the test, in the making."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def write(self, images_dir: Path, clip_index: int, frames: Iterable[Frame]) -> Iterator[None]:
        """Write the images of a clip and note their records, one for each step of the iterator."""
        for number, frame in enumerate(frames):
            file_name = f"clip-{clip_index:04d}/frame-{number:06d}.jpg"
            path = images_dir / file_name
            with storage_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame.image).save(path, "JPEG", quality=JPEG_QUALITY)
            self._note(file_name, clip_index, frame)
            yield

    def _note(self, file_name: str, clip_index: int, frame: Frame) -> None:
        image_id = len(self.images) + 1
        height, width = frame.image.shape[:2]
        self.images.append({"id": image_id, "file_name": file_name, "width": width, "height": height, **frame.metadata})
        rows = zip(
            frame.boxes_xyxy_px.tolist(), frame.classes.tolist(), frame.track_ids.tolist(),
            frame.visibility.tolist(), strict=True,
        )  # fmt: skip
        for (x1, y1, x2, y2), label, track, visibility in rows:
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "track_id": clip_index * TRACKS_PER_CLIP + track,
                    "visibility": round(visibility, 3),
                }
            )

    def json(self, parameters: Parameters) -> str:
        content = {
            "info": {"description": "poolscout sandbox: procedural street clips", "parameters": parameters},
            "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
            "images": self.images,
            "annotations": self.annotations,
        }
        return json.dumps(content, sort_keys=True, allow_nan=False) + "\n"


def _summary(out_dir: Path, parts: dict[str, _Part]) -> SandboxSummary:
    labels = Counter(a["category_id"] for part in parts.values() for a in part.annotations)
    images = sum(len(part.images) for part in parts.values())
    full = sum(len({a["image_id"] for a in part.annotations}) for part in parts.values())
    return SandboxSummary(
        out_dir=out_dir,
        annotations_pool=out_dir / "annotations_pool.json",
        annotations_test=out_dir / "annotations_test.json" if parts["test"].images else None,
        pool_images=len(parts["pool"].images),
        test_images=len(parts["test"].images),
        empty_images=images - full,
        boxes={name: labels[i] for i, name in enumerate(CLASSES, start=1)},
        already_there=False,
    )


def _readme(parameters: Parameters, summary: SandboxSummary) -> str:
    boxes = "\n".join(f"| {name} | {count} |" for name, count in summary.boxes.items())
    test = (
        f"- `annotations_test.json`: {summary.test_images} images of {parameters['test_clips']} other clips\n"
        if summary.annotations_test
        else ""
    )
    return f"""# Street clips

Procedural pictures of streets, {parameters["width"]} × {parameters["height"]} px, of a camera that sees
{parameters["field_of_view_deg"]:g}°, written by `poolscout sandbox` with
seed {parameters["seed"]}: the same parameters give the same files.

- `images/clip-0007/frame-000012.jpg`: frames of a clip are 0.2 s apart
- `annotations_pool.json`: COCO, {summary.pool_images} images of {parameters["clips"]} clips
{test}- `sandbox.json`: the parameters, written before the first image, and the counts, written last

Each image has `sequence`, `frame`, `time_of_day` (day, dusk, night), `weather` (clear, rain, fog) and `speed_kmh`.
Each box is the smallest around the visible pixels and has `visibility` (visible share) and `track_id`.
Boxes under 6 px long, under 3 px wide, less than a fifth visible or lost in fog are left out.

| class | boxes |
|---|---|
{boxes}

{summary.empty_images} of {summary.pool_images + summary.test_images} images are empty.
"""
