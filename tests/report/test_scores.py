"""The page names the score that was shown, and its unit, whatever the run ranked by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.report import write_report
from poolscout.tables.declared import SCORES, SELECTION
from poolscout.tables.parquet import part_path, read_table, write_table

from .fake_run import COLUMN
from .reading import Page
from .test_states import edit_config


def ranked_by(run: Path, **choice: Any) -> Page:
    """The page of a run that ranked by another score."""
    edit_config(run, scoring={"scorers": [choice]})
    column = f"{choice['scorer']}_{choice.get('aggregate', 'max')}"
    for number in (0, 1):
        file = part_path(run / f"round-00{number}" / "scores", 0)
        table = read_table(file, SCORES)
        names = [name.replace(COLUMN, column) for name in table.column_names]
        write_table(file, SCORES, pa.table(dict(zip(names, table.columns, strict=True))))
    return Page(write_report(run))


def score_of_first(run: Path) -> str:
    return f"{read_table(run / 'round-000' / 'selection.parquet', SELECTION)['score'][0].as_py():.3g}"


def x_title(page: Page) -> str:
    return page.charts["scores-0"]["encoding"]["x"]["title"]


def test_nats_where_the_score_is_in_nats(run: Path) -> None:
    page = ranked_by(run, scorer="entropy")
    assert x_title(page) == "score (nats)"
    assert "Scores of all candidates: entropy (max)" in page.text
    assert re.search(r"entropy, largest over classes: 0 0\.\d+ nats ", page.text)
    assert f"1 {score_of_first(run)} nats car" in page.text


def test_no_nats_where_the_score_has_no_unit(run: Path) -> None:
    page = ranked_by(run, scorer="gradient_variance")
    assert x_title(page) == "score"
    assert "Scores of all candidates: gradient variance (max)" in page.text
    assert f"1 {score_of_first(run)} car" in page.text
    before_the_grid = page.text[page.text.index("Scores of all") : page.text.index("How the scorers see")]
    assert "gradient variance, largest over classes" in before_the_grid
    assert "nats" not in before_the_grid


def test_a_score_of_boxes_has_no_map_and_the_cards_name_the_one_they_show(run: Path) -> None:
    page = ranked_by(run, scorer="detection_entropy", aggregate="sum")
    assert "Scores of all candidates: detection entropy (sum)" in page.text
    assert "mutual information, largest over classes" in page.text
    assert len(page.all("img", class_="heat")) == 8


def test_a_score_of_whole_images_and_a_single_detector(run: Path) -> None:
    for file in run.glob("round-*/models/member-1.*"):
        file.unlink()
    page = ranked_by(run, scorer="gradient_total", aggregate="whole")
    assert x_title(page) == "score"
    assert "entropy, largest over classes" in page.text, "a single detector has no mutual information"
    heads = page.text[page.text.index("How the scorers see") :]
    assert heads.index("entropy 0") < heads.index("gradient 0") < heads.index("mc dropout 0")
    assert "gradient variance" not in heads


def test_a_scorer_that_is_not_installed_here_breaks_nothing(run: Path) -> None:
    page = ranked_by(run, scorer="from_a_plugin")
    assert "Scores of all candidates: from a plugin (max)" in page.text
    assert x_title(page) == "score"
    assert "mutual information, largest over classes" in page.text


def test_a_single_picture_has_a_single_grid(run: Path) -> None:
    edit_config(run, report={"images_per_round": 1})
    page = Page(write_report(run))
    assert len(page.all("figure", class_="views")) == 2
    assert "How the scorers see the first pick 1" in page.text


def test_picks_by_normalised_classes_have_no_unit_and_it_is_said(run: Path) -> None:
    edit_config(run, selection={"n": 6, "normalise_classes": True, "over_classes": "mean"})
    page = ranked_by(run, scorer="entropy")
    words = "entropy (max), the highest of the classes; picked by their mean, each class by its rank"
    assert f"Scores of all candidates: {words}" in page.text
    assert x_title(page) == "score (nats)"
    assert f"1 {score_of_first(run)} car" in page.text
