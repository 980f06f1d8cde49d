"""The data set on disk: COCO, the same bytes again, never half of one."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poolscout.errors import ConfigError, OtherRunError
from poolscout.sandbox import CLASSES, SETTINGS, SandboxSummary, render_clip, write_sandbox

SMALL = {"frames_per_clip": 2, "width": 160, "height": 96}


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SandboxSummary:
    return write_sandbox(tmp_path_factory.mktemp("sandbox") / "set", clips=2, test_clips=1, seed=7, **SMALL)


def _coco(path: Path | None) -> dict:
    assert path is not None
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_files_and_the_summary_agree(written: SandboxSummary) -> None:
    pool, test = _coco(written.annotations_pool), _coco(written.annotations_test)
    assert len(pool["images"]) == written.pool_images == 4
    assert len(test["images"]) == written.test_images == 2
    names = {c["id"]: c["name"] for c in pool["categories"]}
    assert names == dict(enumerate(CLASSES, start=1))
    for name, count in written.boxes.items():
        assert count == sum(names[a["category_id"]] == name for part in (pool, test) for a in part["annotations"])
    labelled = sum(len({a["image_id"] for a in part["annotations"]}) for part in (pool, test))
    assert written.empty_images == 6 - labelled
    assert sum(written.boxes.values()) > 0


def test_every_image_is_there_with_its_size_and_metadata(written: SandboxSummary) -> None:
    for image in _coco(written.annotations_pool)["images"]:
        with Image.open(written.out_dir / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (160, 96)
        assert image["file_name"] == f"{image['sequence']}/frame-{image['frame']:06d}.jpg"
        assert image["time_of_day"] in ("day", "dusk", "night")
        assert image["weather"] in ("clear", "rain", "fog")
        assert image["speed_kmh"] >= 0


def test_annotations_are_coco(written: SandboxSummary) -> None:
    pool = _coco(written.annotations_pool)
    ids = {image["id"] for image in pool["images"]}
    assert len({a["id"] for a in pool["annotations"]}) == len(pool["annotations"])
    for annotation in pool["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert annotation["image_id"] in ids
        assert 0 <= x < x + width <= 160
        assert 0 <= y < y + height <= 96
        assert annotation["area"] == width * height
        assert 0 < annotation["visibility"] <= 1


def test_pool_and_test_share_no_clip(written: SandboxSummary) -> None:
    pool, test = (
        {image["sequence"] for image in _coco(path)["images"]}
        for path in (written.annotations_pool, written.annotations_test)
    )
    assert len(pool) == 2
    assert len(test) == 1
    assert not pool & test


def test_same_parameters_same_bytes(written: SandboxSummary, tmp_path: Path) -> None:
    again = write_sandbox(tmp_path / "again", clips=2, test_clips=1, seed=7, **SMALL)
    assert _hashes(again.out_dir) == _hashes(written.out_dir)


def test_a_clip_does_not_depend_on_how_many_there_are(written: SandboxSummary, tmp_path: Path) -> None:
    fewer = write_sandbox(tmp_path / "fewer", clips=1, test_clips=1, seed=7, **SMALL)
    images, all_images = _hashes(fewer.out_dir / "images"), _hashes(written.out_dir / "images")
    assert images == {name: digest for name, digest in all_images.items() if name in images}
    assert len(images) == 4


def test_another_seed_gives_other_pictures(written: SandboxSummary, tmp_path: Path) -> None:
    other = write_sandbox(tmp_path / "other", clips=1, seed=8, **SMALL)
    images, all_images = _hashes(other.out_dir / "images"), _hashes(written.out_dir / "images")
    assert not set(images.values()) & set(all_images.values())


def test_a_complete_set_is_not_written_again(written: SandboxSummary) -> None:
    calls: list[tuple[int, int]] = []
    again = write_sandbox(
        written.out_dir, clips=2, test_clips=1, seed=7, progress=lambda *done: calls.append(done), **SMALL
    )
    assert calls == []
    assert again.already_there
    assert not written.already_there
    assert (again.boxes, again.pool_images, again.test_images) == (
        written.boxes, written.pool_images, written.test_images,
    )  # fmt: skip


def test_a_killed_run_leaves_no_annotations_and_is_finished_by_the_same_call(
    written: SandboxSummary, tmp_path: Path
) -> None:
    def kill(done: int, total: int) -> None:
        assert total == 6
        if done == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        write_sandbox(folder, clips=2, test_clips=1, seed=7, progress=kill, **SMALL)
    assert len(list(folder.rglob("*.jpg"))) == 3
    assert not list(folder.glob("annotations*"))
    finished = write_sandbox(folder, clips=2, test_clips=1, seed=7, **SMALL)
    assert not finished.already_there
    assert _hashes(folder) == _hashes(written.out_dir)


def test_a_folder_with_other_parameters_is_refused(written: SandboxSummary) -> None:
    before = _hashes(written.out_dir)
    with pytest.raises(OtherRunError) as caught:
        write_sandbox(written.out_dir, clips=2, test_clips=1, seed=9, **SMALL)
    assert '"seed": 7' in str(caught.value)
    assert '"seed": 9' in str(caught.value)
    assert "choose another folder" in str(caught.value)
    assert _hashes(written.out_dir) == before


@pytest.mark.parametrize("name", ["holiday.jpg", "sandbox.json"])
def test_a_folder_with_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("not a sandbox")
    with pytest.raises(OtherRunError, match=r"files without a sandbox\.json"):
        write_sandbox(tmp_path, clips=1, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        write_sandbox(path, clips=1, **SMALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"clips": 0}, ("number of clips", "got:      0", "expected: 1 to")),
        ({"clips": 1, "test_clips": -1}, ("number of test clips", "got:      -1", "expected: 0 to")),
        ({"clips": 1, "frames_per_clip": 0}, ("frames per clip", "got:      0", "expected: 1 to")),
        ({"clips": 1, "width": 5000}, ("width", "got:      5000", "expected: 64 to 4096")),
        ({"clips": 1, "seed": -3}, ("seed", "got:      -3", "expected: 0 to")),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, int], words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        write_sandbox(tmp_path / "set", **arguments)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)
    assert "fix:" in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_without_test_clips_there_is_no_test_file(tmp_path: Path) -> None:
    summary = write_sandbox(tmp_path / "set", clips=1, **SMALL)
    assert summary.annotations_test is None
    assert not (tmp_path / "set" / "annotations_test.json").exists()


def test_a_longer_lens_shows_things_larger() -> None:
    ratios = []
    for clip in (2, 3, 4, 5):
        usual, longer = (
            next(render_clip(7, clip, frames=1, settings=replace(SETTINGS, horizontal_fov_deg=degrees)))
            for degrees in (70.0, 35.0)
        )
        heights = dict(zip(usual.track_ids.tolist(), np.diff(usual.boxes_xyxy_px[:, 1::2])[:, 0], strict=True))
        for track, (x1, y1, x2, y2) in zip(longer.track_ids.tolist(), longer.boxes_xyxy_px, strict=True):
            if track in heights and min(x1, y1, 320 - x2, 192 - y2) > 0:  # the whole of it is seen
                ratios.append((y2 - y1) / heights[track])
    assert len(ratios) >= 4
    assert np.median(ratios) == pytest.approx(math.tan(math.radians(35)) / math.tan(math.radians(17.5)), rel=0.05)


def test_a_lens_no_camera_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="field of view"):
        write_sandbox(tmp_path / "none", clips=1, field_of_view_deg=180, **SMALL)


def test_a_set_written_before_lenses_could_be_chosen_is_known(written: SandboxSummary, tmp_path: Path) -> None:
    folder = tmp_path / "before"
    shutil.copytree(written.out_dir, folder)
    marker = json.loads((folder / "sandbox.json").read_text())
    assert marker["parameters"].pop("field_of_view_deg") == 70
    (folder / "sandbox.json").write_text(json.dumps(marker))
    assert write_sandbox(folder, clips=2, test_clips=1, seed=7, **SMALL).already_there
    with pytest.raises(OtherRunError):
        write_sandbox(folder, clips=2, test_clips=1, seed=7, field_of_view_deg=40, **SMALL)
