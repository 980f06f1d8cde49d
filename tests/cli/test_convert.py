"""`poolscout convert` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolscout.formats.annotations import read_annotations
from tests.cli.typed import poolscout
from tests.formats.annotation_sets import save_image, write_files, yolo_set
from tests.formats.coco_files import document, saved


def test_from_coco_to_yolo_and_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = saved(tmp_path, document())
    for name in ("a.jpg", "b/c.jpg"):
        save_image(tmp_path / "images" / name)
    code, out, err = poolscout(capsys, "convert", source, tmp_path / "yolo", "--to", "yolo")
    assert code == 0
    assert [line.split() for line in out.splitlines()][:3] == [
        ["images", "2"],
        ["boxes", "2"],
        ["classes", "car,", "person"],
    ]
    assert "yolo has no place for the images' town, frame: left out" in err
    assert (tmp_path / "yolo/images/b/c.jpg").is_symlink()

    code, out, err = poolscout(
        capsys, "convert", tmp_path / "yolo", tmp_path / "coco", "--to", "coco", "--images", "copy", "--json"
    )
    assert (code, err) == (0, "")
    written = json.loads(out)
    assert written == {
        "images": 2,
        "boxes": 2,
        "classes": ["car", "person"],
        "written to": str(tmp_path / "coco/annotations.json"),
        "notes": [],
    }
    assert not (tmp_path / "coco/images/b/c.jpg").is_symlink()
    before, after = read_annotations(source), read_annotations(Path(written["written to"]))
    assert after.boxes.to_pylist() == before.boxes.to_pylist()


def test_images_elsewhere_or_left_behind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    source = saved(tmp_path / "labels", document())
    for name in ("a.jpg", "b/c.jpg"):
        save_image(tmp_path / "pictures" / name)
    words = ("convert", source, tmp_path / "voc", "--to", "voc")
    code, _, err = poolscout(capsys, *words)
    assert (code, "--images-from" in err) == (4, True)
    assert poolscout(capsys, *words, "--images", "none")[0] == 0
    assert not (tmp_path / "voc/JPEGImages").exists()
    assert poolscout(capsys, *words, "--images-from", tmp_path / "pictures")[0] == 2  # the folder is in use
    words = (*words[:2], tmp_path / "voc2", *words[3:])
    assert poolscout(capsys, *words, "--images-from", tmp_path / "pictures")[0] == 0
    assert (tmp_path / "voc2/JPEGImages/b/c.jpg").resolve() == tmp_path / "pictures/b/c.jpg"


def test_errors_have_exit_codes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write_files(yolo_set(tmp_path / "yolo"), {"labels/train/b.txt": "9 .5 .5 .1 .1\n"})
    code, _, err = poolscout(capsys, "convert", source, tmp_path / "out", "--to", "coco")
    assert (code, "labels/train/b.txt:1" in err) == (4, True)
    code, out, err = poolscout(
        capsys, "convert", source, tmp_path / "out", "--to", "coco", "--drop-bad-boxes", "--json"
    )
    assert (code, json.loads(out)["boxes"]) == (0, 1)
    assert "unusable annotations were left out: labels/train/b.txt:1: class index that names does not list" in err
    assert poolscout(capsys, "convert", source, tmp_path / "new", "--to", "csv")[0] == 2
    assert poolscout(capsys, "convert", tmp_path / "nothing", tmp_path / "new", "--to", "coco")[0] == 4
