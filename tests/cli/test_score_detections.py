"""`poolscout score --detections`: boxes of any detector in, picks out."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.pool import file_state
from poolscout.tables.declared import DETECTIONS, POOL, QUARANTINE, SCORES
from poolscout.tables.parquet import read_table
from tests.cli.typed import poolscout
from tests.pool.images import save  # 48 × 32 px

NAMES = ("a.png", "b/c.png", "d.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images and one that is broken, as a folder and as COCO json, and detections of it."""
    for name in NAMES:
        save(tmp_path / "images" / name)
    save(tmp_path / "images" / "broken.png", b"no picture")
    images = [{"id": 10 * number, "file_name": name} for number, name in enumerate((*NAMES, "broken.png"), 1)]
    coco = {"images": images, "categories": [{"id": 5, "name": "car"}, {"id": 2, "name": "person"}]}
    (tmp_path / "pool.json").write_text(json.dumps(coco))
    rows = [
        {"image_id": 10, "category_id": 5, "bbox": [1, 1, 10, 10], "score": 0.25},
        {"image_id": 20, "category_id": 5, "bbox": [1, 1, 10, 10], "score": 0.5},
        {"image_id": 20, "category_id": 5, "bbox": [20, 1, 10, 10], "score": 0.5},
        {"image_id": 20, "category_id": 5, "bbox": [60, 1, 10, 10], "score": 0.5},
        {"image_id": 40, "category_id": 2, "bbox": [1, 1, 10, 10], "score": 0.5},
    ]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    return tmp_path


def test_from_detections_to_picks(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    words = ["score", data / "pool.json", "--detections", data / "found.json", "--out", data / "s"]
    code, out, err = poolscout(capsys, *words, "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "scored": 3, "in quarantine": 1, "boxes": 3, "members": 1,
        "probabilities": "top score only, as brought, not calibrated", "written": str(data / "s"),
    }  # fmt: skip
    assert "scoring.scorers is not set: the sum of detection_entropy" in err
    assert "1 boxes of images in the quarantine" in err
    assert "1 boxes that lie outside" in err
    scores = read_table(data / "s" / "scores", SCORES)
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert scores["image_id"].to_pylist() == list(NAMES)
    assert scores["detection_entropy_sum"].to_pylist() == pytest.approx([quarter, 2 * math.log(2), 0])
    assert read_table(data / "s" / "pool" / "images", POOL).num_rows == 3
    assert read_table(data / "s" / "pool" / "quarantine.parquet", QUARANTINE)["image_id"].to_pylist() == ["broken.png"]
    assert set(read_table(data / "s" / "detections", DETECTIONS)["member"].to_pylist()) == {0}

    code, _, err = poolscout(
        capsys, "select", "--scores", data / "s" / "scores", "--pool", data / "s" / "pool" / "images", "--n", 2,
        "--out", data / "picks.csv",
    )  # fmt: skip
    assert code == 0, err
    assert [row["image_id"] for row in csv.DictReader((data / "picks.csv").open())] == ["b/c.png", "a.png"]


def test_a_finished_stage_is_kept_and_a_changed_one_is_told(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    words = ["score", data / "pool.json", "--detections", data / "found.json", "--out", data / "s", "--json"]
    first = poolscout(capsys, *words)
    part = data / "s" / "scores" / "part-00000.parquet"
    before = part.stat().st_mtime_ns
    assert poolscout(capsys, *words)[:2] == first[:2]
    assert part.stat().st_mtime_ns == before
    text = (data / "pool.json").read_text()
    (data / "pool.json").write_text(text.replace('"car"', '"x"').replace('"person"', '"car"'))
    code, _, err = poolscout(capsys, *words)
    assert (code, "source (its contents changed)" in err) == (6, True), "5 is now an x"
    (data / "pool.json").write_text(text)
    (data / "s" / "embeddings").mkdir()  # as a pass with a detector leaves them
    rows = json.loads((data / "found.json").read_text())
    (data / "found.json").write_text(json.dumps(rows[1:]))
    code, _, err = poolscout(capsys, *words)
    assert code == 6
    assert "detections 0 (its contents changed)" in err
    code, _, err = poolscout(capsys, *words, "--set", "scoring.min_probability=0.3", "--redo-stale")
    assert code == 0, err
    sums = read_table(data / "s" / "scores", SCORES)["detection_entropy_sum"].to_pylist()
    assert sums == pytest.approx([0, 2 * math.log(2), 0])
    assert not (data / "s" / "embeddings").exists()


def test_members_from_files_and_a_folder_as_source(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    for number, x in enumerate((1, 3)):
        row = {"image_id": "d.png", "class": "car", "probability": 0.5, "x1_px": x, "y1_px": 1, "x2_px": x + 10,
               "y2_px": 11, "class_probabilities": [0.5, 0.25]}  # fmt: skip
        rows = [row, row | {"image_id": "broken.png"}]
        pq.write_table(pa.Table.from_pylist(rows), data / f"{number}.parquet")
    code, out, err = poolscout(
        capsys, "score", data / "images", "--detections", data / "0.parquet", "--detections", data / "1.parquet",
        "--out", data / "s", "--json", "--set", "labelling.classes=[car, person]", "--set",
        "scoring.scorers=[{scorer: box_disagreement}, {scorer: margin}, {scorer: detection_entropy}]",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    assert (result["boxes"], result["members"]) == (2, 2)
    assert result["probabilities"] == "class probabilities as brought, not calibrated"
    assert "is not set" not in err
    assert "2 boxes of images in the quarantine" in err
    last = read_table(data / "s" / "scores", SCORES).to_pylist()[-1]
    assert last["image_id"] == "d.png"
    assert last["box_disagreement_max"] == pytest.approx(1 - 9 / 11, abs=1e-6)
    assert last["margin_max"] == pytest.approx(0.75)
    assert last["detection_entropy_max"] == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 2, "neither --models nor --detections"),
        (["--detections", "DATA/found.json", "--models", "DATA"], 2, "both --models and --detections"),
        (["--detections", "DATA/none.json"], 4, "not there"),
        (["--detections", "DATA/pool.json"], 4, "not COCO results"),
        (["--detections", "DATA"], 5, "no parts"),
        (["--detections", "DATA/images/a.png"], 4, "cannot be read"),
        (["--detections", "DATA/found.json", "--set", "scoring.scorers=[{scorer: entropy}]"], 8,
         "'entropy' needs maps"),
        (["--detections", "DATA/found.json", "--set", "scoring.scorers=[{scorer: margin}]"], 8,
         "the detections in found.json"),
    ],
)  # fmt: skip
def test_mistakes_end_in_a_message_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], data: Path, more: list[str], code: int, message: str
) -> None:
    words = [word.replace("DATA", str(data)) for word in more]
    got, _, err = poolscout(capsys, "score", data / "pool.json", "--out", data / "s", *words)
    assert (got, message in err, "Traceback" in err) == (code, True, False), err
    assert not (data / "s" / "scores").exists()


def test_boxes_that_do_not_count_are_said_and_none_at_all_is_an_error(
    capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    words = ["score", data / "pool.json", "--detections", data / "found.json", "--out", data / "s"]
    code, out, err = poolscout(capsys, *words, "--json", "--set", "scoring.min_probability=0.4")
    assert (code, json.loads(out)["boxes"]) == (0, 2)
    assert "2 of 3 boxes count: scoring.min_probability = 0.4" in err
    code, _, err = poolscout(capsys, *words[:-1], data / "t", "--set", "scoring.min_probability=0.9")
    assert code == 4
    assert "not one box counts" in err


@pytest.mark.parametrize(
    ("source", "out", "code"),
    [
        ("images", "images", 2), ("images", "images/scored", 2), ("pool.json", "images", 2),
        ("pool.json", "images-scored", 0),
    ],
)  # fmt: skip
def test_tables_do_not_lie_among_images(
    capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch, source: str, out: str, code: int
) -> None:
    monkeypatch.chdir(data)
    more = ["--images", "images"] if source == "pool.json" else []
    got, _, err = poolscout(capsys, "score", source, "--detections", "found.json", "--out", out, *more)
    assert (got, "among the files of the pool" in err) == (code, code == 2), err


def test_what_is_read_is_never_written_over(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    words = ["score", data / "pool.json", "--detections", data / "found.json", "--out", data / "s"]
    assert poolscout(capsys, *words)[0] == 0
    before = {path: path.read_bytes() for path in (data / "s").rglob("*.parquet")}
    own = ["score", data / "pool.json", "--detections", data / "s" / "detections", "--out", data / "s", "--redo-stale"]
    code, _, err = poolscout(capsys, *own)
    assert (code, "lie in the folder that is to be written" in err) == (2, True)
    scores = data / "s" / "scores"
    for out in (scores / "part-00000.parquet", data / "s" / "pool" / "images" / "part-00000.parquet"):
        select = ["select", "--scores", scores, "--pool", data / "s" / "pool" / "images", "--n", 1, "--out", out]
        code, _, err = poolscout(capsys, *select)
        assert (code, "that is what is read" in err) == (2, True)
    assert {path: path.read_bytes() for path in (data / "s").rglob("*.parquet")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "picks.txt"], "neither .csv nor .parquet"),
        (["--class-weight", "car=2", "--class-weight", "car=3"], "two weights for 'car'"),
        (["--class-weight", "car=1e308"], "0 to 1,000,000"),
        (["--class-weight", "car=-1"], "not a weight"),
        (["--class-weight", "cat=1"], "did you mean 'car'?"),
        (["--class-weight", "car=2", "--over-classes", "mean"], "does not go with --over-classes mean"),
        (["--sampler", "random", "--normalise-classes"], "'random' does not look at scores"),
    ],
)
def test_options_of_select_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], data: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    assert poolscout(capsys, "score", "pool.json", "--detections", "found.json", "--out", "s")[0] == 0
    code, _, err = poolscout(capsys, "select", "--scores", "s/scores", "--n", 1, *options)
    assert (code, message in err) == (2, True), err


def test_a_replaced_image_makes_scores_stale(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    before = file_state(str(tmp_path / "images" / "a.png"))
    assert file_state(str(tmp_path / "images" / "a.png")) == before
    save(tmp_path / "images" / "a.png", b"repaired, and longer than it was before, or not")
    assert file_state(str(tmp_path / "images" / "a.png")) != before
    assert file_state(str(tmp_path / "none.png")) is None


def test_a_misspelt_scorer_is_refused_before_anything_is_listed(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    words = ["score", data / "pool.json", "--detections", data / "found.json", "--out", data / "s"]
    code, _, err = poolscout(capsys, *words, "--set", "scoring.scorers=[{scorer: detection_entropi}]")
    assert (code, "did you mean 'detection_entropy'" in err) == (2, True)
    assert not (data / "s").exists()
