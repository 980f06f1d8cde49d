"""The page of an A/B test."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from poolscout.experiments.ab import run_ab
from poolscout.experiments.ab_findings import AbFindings, ArmResult, times_words
from poolscout.experiments.ab_page import write_ab_page_again
from poolscout.experiments.ab_sentences import tell_ab
from poolscout.experiments.statistics import Interval, Paired
from tests.experiments.test_ab import arms_of, config_of
from tests.loop.tiny import write_data
from tests.report.reading import Page


def interval(mean: float, half: float) -> Interval:
    return Interval(mean, mean - half, mean + half, 10)


def findings_of(repeats: int = 10, p: float = 0.004) -> AbFindings:
    """al gains four times as much as manual for person; for car nobody gains."""
    keys = ("wMAP person", "wMAP car")
    flat = {key: interval(0.2, 0.01) for key in keys}
    gain = {"manual": {"wMAP person": interval(0.05, 0.02), "wMAP car": interval(0.0, 0.02)},
            "al": {"wMAP person": interval(0.20, 0.03), "wMAP car": interval(-0.01, 0.02)}}  # fmt: skip
    cost = {"images": 30, "boxes": 90, "boxes_per_class": {"person": 20, "car": 70}, "minutes": 21.0, "sequences": 4}
    arms = tuple(ArmResult(name, cost, {"both": flat, "manual": flat}, {"both": of, "manual": of})
                 for name, of in gain.items())  # fmt: skip
    of = {"wMAP person": Paired(interval(-0.03, 0.01), 0.01, p, p, 0.012),
          "wMAP car": Paired(interval(0.002, 0.01), 0.01, 0.7, 0.7, 0.015)}  # fmt: skip
    return AbFindings(repeats, {"both": flat, "manual": flat}, arms, {("manual", "al"): of}, {}, ("al is better",))


def test_what_no_arm_gained_is_said_too() -> None:
    told = tell_ab(findings_of(), "What.", ["person"])
    assert told.gained == [
        "al is better",
        "Over the reference model on what manual holds out only: wMAP person manual +5 % (+3 … +7), al +20 % "
        "(+17 … +23).",
    ]
    assert told.not_helped == [
        "manual shows no gain over the reference model in wMAP car 0 % (−2 … +2).",
        "al shows no gain over the reference model in wMAP car −1 % (−3 … +1).",
        "No difference between manual and al was shown in wMAP car.",
    ]
    assert told.power[0].startswith(
        "A true difference in a class's wMAP between manual and al of 0.012 would have been found"
    )
    assert "at least 6 seeds" in tell_ab(findings_of(repeats=3), "What.", ["person"]).power[0]


def test_given_selections_are_said_to_be_the_same_in_all_repeats() -> None:
    assert tell_ab(replace(findings_of(), same_picks=True), "What.", []).power[-1].startswith("All repeats split the s")
    assert "All repeats" not in tell_ab(findings_of(), "What.", []).power[-1]


def test_a_multiple_without_an_upper_end_is_told_by_its_lower_one() -> None:
    assert times_words(Interval(34.0, 3.97, None, 10)) == "at least 3.9 times", "a bound is not rounded up"
    assert times_words(Interval(1.62, 1.2, 2.6, 10)) == "1.6 times (1.2 … 2.6)"
    assert times_words(Interval(2.0, None, None, 1)) == "2.0 times"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("ab")
    data = write_data(folder / "data", n_pool=80, n_test=0)
    run_ab(config_of(data), arms_of(folder), folder / "out", reference=folder / "reference.txt")
    figures = folder / "out" / "ab.json"
    written = figures.read_bytes()
    figures.write_text(json.dumps({"arms": json.loads(written)["arms"]}))
    again = write_ab_page_again(folder / "out")
    assert figures.read_bytes() == written
    return Page(again)


def test_the_page_has_gains_cost_and_both_galleries(page: Page) -> None:
    assert list(page.charts) == ["gain-0", "gain-1", "gain-2"]
    for words in (
        "manual (24 images of ",
        " min) and al (23 images of ",
        "Every figure",
        "seconds_per_box",
        "5.94",
        "arms/arms.json",
    ):
        assert words in page.text
    assert page.text.count("images from") == 2
    assert len(page.all("figure", class_="card")) == 24
    assert not [a for a in page.all("link") + page.all("img") if str(a.get("src") or a.get("href")).startswith("http")]
