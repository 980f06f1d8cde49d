"""A report of a run in any state: what is missing is said, and nothing crashes."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from poolscout.report import write_report
from poolscout.tables.atomic import write_json
from poolscout.tables.declared import POOL, SELECTION
from poolscout.tables.parquet import part_path, read_table, write_table

from .fake_run import figures
from .reading import Page


def edit_config(run: Path, **rooms: dict) -> None:
    values = yaml.safe_load((run / "run.yaml").read_text())
    for room, keys in rooms.items():
        values[room] |= keys
    (run / "run.yaml").write_text(yaml.safe_dump(values))


def test_finished(finished: Path) -> None:
    assert "complete: 2 rounds" in Page(write_report(finished)).text


def test_the_pool_is_what_the_short_list_keeps(run: Path) -> None:
    assert "the pool holds 40 images" in Page(write_report(run)).text
    edit_config(run, shortlist={"where": "frame > 2"})
    assert "the pool holds" not in Page(write_report(run)).text
    kept = read_table(run / "pool" / "images", POOL).slice(0, 23)
    write_table(part_path(run / "pool" / "shortlist", 0), POOL, kept)
    assert "the pool holds 23 images" in Page(write_report(run)).text


def test_just_started(run: Path) -> None:
    for folder in run.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    (run / "versions.json").unlink()
    page = Page(write_report(run))
    for words in ("just started", "Nothing has been measured yet.", "No detector has been evaluated yet.",
                  "No images have been picked by the detectors yet.", "The run wrote no versions.",
                  "No detector has been trained yet."):  # fmt: skip
        assert words in page.text
    assert page.charts == {}


def test_waiting_for_labels(run: Path) -> None:
    edit_config(run, labelling={"mode": "files"}, references={"random": False, "full": False})
    shutil.rmtree(run / "round-002")
    shutil.rmtree(run / "references")
    (run / "round-001" / "to_label").mkdir()
    page = Page(write_report(run))
    assert "waiting for labels: see round-001/to_label" in page.text
    assert "Labelling 6 more images with 25 boxes raised AP50 from 0.110 to 0.190" in page.text
    assert "The random reference was not asked for (references.random)" in page.text
    assert "The class that gained most is car (+0.080 AP50)" in page.text
    assert "Random picks were not trained for comparison. The whole pool" in page.text


def test_waiting_for_the_first_labels(run: Path) -> None:
    edit_config(run, labelling={"mode": "files"})
    for folder in (*run.glob("round-*"), run / "references"):
        shutil.rmtree(folder)
    (run / "initial" / "to_label").mkdir(parents=True)
    assert "waiting for labels: see initial/to_label" in Page(write_report(run)).text


def test_without_a_test_set(run: Path) -> None:
    edit_config(run, evaluation={"annotations": None})
    for number, file in enumerate(sorted(run.glob("round-*/metrics.json"))):
        write_json(file, figures(8 + 6 * number, 30 + 25 * number, 0.5, 2, tested=False))
    shutil.rmtree(run / "references")
    page = Page(write_report(run))
    assert "There is no test set (evaluation.annotations), so it is not known what they gained." in page.text
    assert "Labels were bought for 20 of the pool's 40 images with 80 boxes (starting from 8 and 30)." in page.text
    assert "round 1 14 55 – – –" in page.text
    assert "curve-images" not in page.charts


def test_killed_while_training(run: Path) -> None:
    (run / "round-002" / "metrics.json").unlink()
    (run / "round-002" / "models" / "member-1.json").unlink()
    shutil.rmtree(run / "references")
    page = Page(write_report(run))
    assert "not finished: round 2 of 2, training" in page.text
    assert "The random reference is not trained yet" in page.text


def test_references_not_finished(run: Path) -> None:
    shutil.rmtree(run / "references" / "full")
    text = Page(write_report(run)).text
    assert "the reference (the whole pool) is not finished" in text
    assert "The whole pool was not trained for comparison yet." in text


def test_killed_while_scoring(run: Path) -> None:
    shutil.rmtree(run / "round-002")
    (run / "round-001" / "selection.parquet").unlink()
    page = Page(write_report(run))
    assert "not finished: round 1 of 2, scoring" in page.text
    assert len(page.all("img", class_="photo")) == 4


def test_without_scores_or_models(run: Path) -> None:
    shutil.rmtree(run / "round-000" / "scores")
    shutil.rmtree(run / "round-000" / "models")
    page = Page(write_report(run))
    assert "No scores were written for this round." in page.text
    assert "No heat maps: the round's models are not there" in page.text
    assert len(page.all("img", class_="photo")) == 8
    assert len(page.all("img", class_="heat")) == 4


def test_broken_files_are_named_and_the_rest_is_shown(run: Path) -> None:
    (run / "round-001" / "selection.parquet").write_bytes(b"not parquet")
    (run / "round-002" / "metrics.json").write_text("{")
    (run / "references" / "full" / "round-000" / "metrics.json").write_text('{"boxes": 3}')
    (run / "round-000" / "models" / "member-0.safetensors").write_bytes(b"no weights")
    page = Page(write_report(run))
    for words in ("round-001/selection.parquet: cannot be read as Parquet", "round-002/metrics.json: cannot be read",
                  "references/full/round-000/metrics.json: not a round's figures", "No heat maps:"):  # fmt: skip
        assert words in page.text
    assert "from 0.110 to 0.190" in page.text


def test_an_image_that_is_gone_is_said(run: Path, tmp_path: Path) -> None:
    first = read_table(run / "round-000" / "selection.parquet", SELECTION)["image_id"][0].as_py()
    pool = read_table(run / "pool" / "images", POOL).to_pydict()
    pool["uri"][pool["image_id"].index(first)] = str(tmp_path / "moved.jpg")
    write_table(run / "pool" / "images" / "part-00000.parquet", POOL, pool)
    page = Page(write_report(run))
    assert "missing" in page.text
    assert len(page.all("div", class_="picture gone")) == 1
    assert len(page.all("img", class_="heat")) == 7
    grids = page.text[page.text.index("How the scorers see the first picks") :]
    second = read_table(run / "round-000" / "selection.parquet", SELECTION)["image_id"][1].as_py()
    assert grids.startswith(f"How the scorers see the first picks 2 {second}")


def test_no_pictures_asked_for(run: Path) -> None:
    edit_config(run, report={"images_per_round": 0})
    page = Page(write_report(run))
    assert not page.all("img")
    assert "6 images picked, the first 0 shown" in page.text


def test_random_picks_have_no_score(run: Path) -> None:
    file = run / "round-000" / "selection.parquet"
    picks = read_table(file, SELECTION).to_pydict()
    write_table(file, SELECTION, picks | {"score": [None] * 6, "class": [None] * 6, "labelled_already": [True] * 6})
    assert "again" in Page(write_report(run)).text
