"""An experiment's page: whole, offline, the same again; pictures once; the paper's table beside ours."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from poolscout.config_experiment import StrategyConfig, load_experiment
from poolscout.experiments import paper
from poolscout.experiments.charts import FULL_TITLE
from poolscout.experiments.comparison import compare
from poolscout.experiments.page import data_name, write_page
from poolscout.experiments.runner import Outcome, conclude_again, run_experiment, settled
from poolscout.labelling import ids_of, picks_of
from poolscout.labels import LabelStore
from tests.experiments.figures import make_points
from tests.experiments.test_experiment import STRATEGIES, config_of, data  # noqa: F401  (a fixture)
from tests.report.reading import Page

PRESETS = {"scoring": paper.SCORING, "sampling": paper.SAMPLING, "diversity": paper.diversity(["vgg"])}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:  # noqa: F811
    folder = tmp_path_factory.mktemp("page")
    strategies = {**STRATEGIES, "top": {"scorer": "entropy", "title": "<b>top</b> & co"}}
    experiment = {"strategies": strategies, "seeds": 1}
    config = config_of(data, folder, experiment=experiment, rounds=1, selection__price={"seconds_per_box": 90})
    return run_experiment("loop", config, folder / "out")


def page_of(
    finished: Outcome, kind: str, gains: dict[str, float], tmp_path: Path, *, rounds: int = 1, noise: float = 0.0
) -> Page:
    """The page of other figures, in the folder of a finished experiment."""
    config = load_experiment(finished.path / "run.yaml", [f"rounds={rounds}", "experiment.embeddings={vgg: vgg16}"])
    points = make_points(gains, rounds=rounds, noise=noise, spread=noise)
    findings = compare(points, {name: name for name in gains}, ("random",), rounds, ())
    before = finished.page.read_bytes()
    page, _ = write_page(kind, config, points, findings, finished.path)
    (tmp_path / "page.html").write_bytes(page.read_bytes())
    finished.page.write_bytes(before)
    return Page(tmp_path / "page.html")


def test_a_finished_experiment_has_its_page(finished: Outcome) -> None:
    page, text = Page(finished.page), finished.page.read_text()
    assert finished.page == finished.path / "experiment.html"
    assert "3 strategies were compared on" in page.text
    assert "measured on 8 test images" in page.text
    assert "images boxes minutes sequences" in " ".join(page.text.split()), "there is a price list"
    assert "at least 7 seeds are needed" in page.text, "two comparisons: 2 · 2⁻⁶ < 0.05"
    assert "<b>top</b> & co" in page.text, "as text, not as markup"
    assert "poolscout experiment loop run.yaml --out again" in page.text
    links = {str(attributes.get(key, "#")) for _, attributes in page.elements for key in ("src", "href")}
    assert all(link.startswith(("#", "data:")) for link in links), "nothing is fetched"
    assert len(text) < 8_000_000
    assert set(page.charts) == {"curve-final", "curve-scatter", "difference-0"}
    shown = {attributes.get("id") for attributes in page.all("div", class_="chart")}
    assert shown == set(page.charts)


def test_galleries_show_what_was_picked_and_labelled(finished: Outcome) -> None:
    page, at = Page(finished.page), finished.path / "seeds" / "seed-000"
    picks = {name: ids_of(picks_of(at / name / "round-000")) for name in STRATEGIES}
    assert len(page.all("figure", class_="card")) == sum(len(ids) for ids in picks.values()) == 18
    different = {image_id for ids in picks.values() for image_id in ids}
    assert finished.page.read_text().count("url(data:image/jpeg") == len(different) < 18
    boxes = 0
    for name, ids in picks.items():
        labelled = LabelStore(at / name / "labels").current().boxes["image_id"].to_pylist()
        boxes += sum(labelled.count(image_id) for image_id in ids)
    assert len(page.all("rect")) == boxes > 0


def test_the_same_folder_gives_the_same_page(finished: Outcome) -> None:
    before = finished.page.read_bytes()
    again = conclude_again(finished.path)
    assert again.told == finished.told
    assert again.page.read_bytes() == before


def test_curves_have_bands_for_every_strategy_and_the_whole_pool(finished: Outcome, tmp_path: Path) -> None:
    page = page_of(finished, "loop", {"random": 0.02, "xu": 0.03, "xu-xl": 0.04}, tmp_path, rounds=3, noise=0.002)
    assert {"curve-images", "curve-boxes", "curve-final"} <= set(page.charts)
    sets = page.charts["curve-images"]
    rows = [row for row in _values(sets) if row["strategy"] == "xu" and row["metric"] == "wMAP"]
    assert {(row["round"], row["images"], row["boxes"]) for row in rows} == {
        (number, 20 + 10 * number, 60 + 40 * number) for number in range(4)
    }
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)
    assert any(row["strategy"] == FULL_TITLE and row["mean"] == pytest.approx(0.4) for row in _values(sets))
    # what the paper's text says of its loop, and the same of ours: wMAP 0.32 over 0.26
    ours = float(re.search(r"over random, last round \+5.5 % \+([\d.]+) %", page.text)[1])  # type: ignore[index]
    assert ours == pytest.approx(100 * 0.06 / 0.26, abs=1)


@pytest.mark.parametrize("kind", PRESETS)
def test_the_paper_s_table_stands_beside_ours(kind: str, finished: Outcome, tmp_path: Path) -> None:
    table = PRESETS[kind]
    names = [line.name for line in table.lines]
    gains = {name: 0.01 * (1 + number) for number, name in enumerate(sorted(names, reverse=True))}
    page = page_of(finished, kind, gains, tmp_path)
    assert "Two different data sets" in page.text
    base = next(line.wmap for line in table.lines if line.name == "random")
    for line in table.lines:
        rank = 1 + sum(other.wmap > line.wmap for other in table.lines)
        gain = 100 * (gains[line.name] - gains["random"])
        theirs, ours = (f"{value:+.2f}".replace("-", "−") if value else "0.00" for value in (line.wmap - base, gain))
        our_rank = 1 + sum(other > gains[line.name] for other in gains.values())
        row = re.search(
            rf"{re.escape(line.title)} (?:{re.escape(line.name)} )?(\d+) (\S+) (\S+) (\d+) (\S+) ", page.text
        )
        assert row is not None, line
        assert (int(row[1]), row[2], float(row[3])) == (rank, theirs.replace("+0.00", "0.00"), line.wmap)
        assert (int(row[4]), row[5]) == (our_rank, ours)


@pytest.mark.parametrize("kind", PRESETS)
def test_the_paper_s_rows_are_our_strategies(kind: str, data: Path, tmp_path: Path) -> None:  # noqa: F811
    room = {"strategies": None, "embeddings": {"vgg": "vgg16"}}
    _, strategies = settled(kind, config_of(data, tmp_path, experiment=room))
    assert {line.name for line in PRESETS[kind].lines} <= set(strategies)
    assert all(isinstance(one, StrategyConfig) for one in strategies.values())


def test_an_image_that_is_gone_costs_its_picture_only(finished: Outcome, data: Path) -> None:  # noqa: F811
    before, gone = finished.page.read_bytes(), None
    image_id = ids_of(picks_of(finished.path / "seeds" / "seed-000" / "top" / "round-000"))[0]
    gone = data / "images" / image_id
    content = gone.read_bytes()
    gone.unlink()
    try:
        page = Page(conclude_again(finished.path).page)
        assert page.all("div", class_="picture gone")
        assert "missing" in page.text
    finally:
        gone.write_bytes(content)
        finished.page.write_bytes(before)


def test_without_a_finished_seed_the_page_says_so(finished: Outcome) -> None:
    before = finished.page.read_bytes()
    nothing = replace(finished.findings, seeds=(), summaries=(), comparisons=(), full=None, per_round={})
    config = load_experiment(finished.path / "run.yaml")
    page, _ = write_page("loop", config, [], nothing, finished.path)
    assert "No seed is finished" in Page(page).text
    finished.page.write_bytes(before)


@pytest.mark.parametrize(
    ("source", "name"),
    [("data/streets/pool.json", "streets"), ("data/streets", "streets"), ("s3://bucket/streets/pool.json", "streets"),
     ("pool.json", "pool.json")],
)  # fmt: skip
def test_data_are_called_by_their_folder(source: str, name: str) -> None:
    assert data_name(source) == name


def _values(spec: dict) -> list[dict]:
    """All rows of a chart's data, wherever they are in its specification."""
    found: list[dict] = []

    def look(part: object) -> None:
        if isinstance(part, dict):
            values = part.get("values")
            found.extend(values if isinstance(values, list) else [])
            for value in part.values():
                look(value)
        elif isinstance(part, list):
            for value in part:
                look(value)

    look(json.loads(json.dumps(spec)))
    return found
