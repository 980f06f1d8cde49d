"""What is said of an experiment: wins only where they are shown, and what did not help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.experiments.cells import FULL
from poolscout.experiments.comparison import Findings, compare
from poolscout.experiments.presets import RECOMMENDED
from poolscout.experiments.sentences import NOT_SHOWN, Setting, Told, focus, listed, signed, tell
from tests.experiments.figures import make_points

GAINS = {"random": 0.02, "far": 0.05}
SETTING = Setting("streets", 100, 50, 200, False, 10, 2, 20, 10, 3, ("random",))


def found(gains: Mapping[str, float], targets: tuple[float, ...] = (), **more: Any) -> Findings:
    points = make_points(gains, **more)
    return compare(points, {name: name for name in gains}, SETTING.baselines, more.get("rounds", 2), targets)


def told(gains: Mapping[str, float], **more: Any) -> Told:
    return tell(found(gains, **more), SETTING)


def test_what_was_compared() -> None:
    assert told({"random": 0.02, "good": 0.04}).what == (
        "2 strategies were compared on streets over 10 paired seeds: each began with the same 20 labelled images, "
        "picked 10 more of the pool's 100 in each of 2 rounds, and was measured on 50 test images with 200 boxes "
        "(ensembles of 3)."
    )  # fmt: skip
    assert "3 paired seeds of 10 (only these are finished)" in told({"random": 0.02, "good": 0.04}, seeds=3).what


def test_a_win_is_told_with_its_interval_and_p() -> None:
    of = told({"random": 0.02, "good": 0.04}, noise=0.0)
    # the same difference for all 10 seeds: the smallest p of a paired permutation test, 2 / 2^10
    assert of.gained[0] == (
        "Better than random in wMAP after the last round: good +0.040 (95 % interval +0.040 to +0.040, p = 0.002)."
    )
    assert "area under the curve over images: good +0.020" in of.gained[1]
    # a box gains 0.001 against 0.04 / 60 up to the 120 boxes where random ends: 30 boxes on average
    assert "area under the curve over boxes: good +0.010" in of.gained[2]
    assert of.not_helped == [
        f"{share} (0.{target}) was not reached by {who} in any seed."
        for share, target, who in (
            ("80 % of the whole pool's wMAP", "320", "good and random"),
            ("90 % of the whole pool's wMAP", "360", "good and random"),
            ("The whole pool's wMAP", "400", "good and random"),
        )
    ]


def test_with_five_seeds_nothing_is_won() -> None:
    of = told({"random": 0.02, "good": 0.08}, seeds=5)
    assert of.gained == []
    assert of.not_helped[0] == "No strategy was shown to be better than random, by any measure."
    assert of.not_helped[1].startswith("No difference from random was shown, by any measure, for good (+0.1")
    assert of.power == [
        "With 5 seeds and 1 comparison no difference can be shown, however large: at least 6 seeds are needed.",
        NOT_SHOWN,
    ]


def test_the_power_note_tells_the_detectable_differences() -> None:
    findings = found({"random": 0.02, "a": 0.03, "b": 0.02}, noise=0.02)
    seen = sorted(one.final.detectable for one in findings.comparisons)
    strict = sorted(one.final.detectable_corrected for one in findings.comparisons)
    assert tell(findings, SETTING).power == [
        f"A true difference in wMAP from random of {seen[0]:.3f} to {seen[1]:.3f}, depending on the strategy, would "
        f"have been found in 4 of 5 experiments with 10 seeds by one test, {strict[0]:.3f} to {strict[1]:.3f} by the "
        "strictest of 2 corrected ones.",
        NOT_SHOWN,
    ]  # fmt: skip


def test_a_loss_and_a_win_per_image_only_are_told() -> None:
    of = told({"random": 0.02, "greedy": 0.03, "bad": 0.005})
    assert any(
        s.startswith("Worse than random in wMAP after the last round (1 of 2 strategies): bad −0.0")
        for s in of.not_helped
    )
    assert any(s.startswith("Worse than random in area under the curve over boxes (2 of 2") for s in of.not_helped)
    assert (
        "greedy wins over random per image; per box it loses: its labels have 240 boxes, those of random 120."
        in of.not_helped
    )  # fmt: skip


def test_a_win_per_image_says_what_is_known_per_box() -> None:
    of = told({"random": 0.02, "even": 0.02 * 4 / 3}, noise=0.004)  # an image of even has 4 boxes, of random 3
    assert (
        "even wins over random per image; per box no difference was shown: its labels have 140 boxes, those of random "
        "120." in of.not_helped
    )  # fmt: skip
    both = told({"random": 0.02, "greedy": 0.06, "even": 0.02 * 4 / 3}, noise=0.004)  # an image of greedy has 9 boxes
    assert (
        "greedy and even win over random per image; per box no difference was shown: their labels have 140 to 240 "
        "boxes, those of random 120." in both.not_helped
    )  # fmt: skip
    points = [
        replace(p, boxes=p.boxes + 100 * (p.strategy == "far" and p.seed == 0)) for p in make_points(GAINS, noise=0.0)
    ]
    apart = tell(compare(points, {name: name for name in GAINS}, ["random"], 2), SETTING)
    assert any(
        s.startswith("far wins over random per image; per box nothing can be said (not in every seed")
        for s in apart.not_helped
    )


def test_classes_and_sizes_that_did_not_gain_are_named() -> None:
    of = told({"random": 0.02, "good": 0.05, RECOMMENDED: 0.04}, behind=[RECOMMENDED], noise=0.0, spread=0.0)
    assert (
        "Classes in which xu-xl is not above random (mean AP, not tested): person (0.000 against 0.240); 1 of 2."
        in of.not_helped
    )  # fmt: skip
    assert (
        "Sizes in which xu-xl is not above random (mean AP, not tested): up to 205 px², 1,650 boxes (0.000 against "
        "0.240); 1 of 2." in of.not_helped
    )


def test_a_whole_pool_that_was_trained_less_is_called_too_easy_a_target() -> None:
    # the last round has 40 images, the whole pool 100: 50 steps are 1.25 and 0.5 an image
    points = make_points({"random": 0.02, "good": 0.08})
    told_of = {
        steps: tell(compare([replace(p, steps=steps) if p.strategy == FULL else p for p in points],
                            {"random": "random", "good": "good"}, ["random"], 2), SETTING).reached[0]
        for steps in (50, 112, 113)
    }  # fmt: skip
    assert told_of[50].startswith("The whole pool was trained 0.5 steps for each image, the last round 1.2: with")
    assert told_of[112].startswith("The whole pool was trained 1.1 steps")
    assert told_of[113].startswith("80 % of the whole pool's wMAP")


def test_targets_tell_images_boxes_and_seeds() -> None:
    of = told({"random": 0.01, "good": 0.08}, noise=0.0, spread=0.0, full=0.38)
    # 0.304 is reached after 1.3 rounds of 10 images with 40 boxes, 0.342 after 1.775
    assert of.reached == [
        "80 % of the whole pool's wMAP (0.304) was reached by good with 33 images (33 % of the pool) and 112 boxes "
        "(28 %) in 10 of 10 seeds.",
        "90 % of the whole pool's wMAP (0.342) was reached by good with 38 images (38 % of the pool) and 131 boxes "
        "(33 %) in 10 of 10 seeds.",
    ]  # fmt: skip
    assert (
        tell(found({"random": 0.02}, (0.21,), full=None), SETTING).reached[0].startswith("A wMAP of 0.210 was reached")
    )


def test_the_best_strategy_is_told_of_beside_the_recommended_one() -> None:
    of = told({"random": 0.01, "other": 0.02, "good": 0.08, RECOMMENDED: 0.07}, noise=0.0, spread=0.0, full=0.38)
    assert "was reached by xu-xl with" in of.reached[0]
    assert " and good with 33 images" in of.reached[0]
    assert not any("other with" in sentence for sentence in of.reached)


def test_without_anything_to_say() -> None:
    nothing = tell(Findings((), (), (), None, {}), SETTING)
    assert nothing.not_helped == ["No seed is finished: nothing can be said yet."]
    alone = told({"random": 0.02})
    assert (alone.gained, alone.power) == ([], [])
    blind = told({"random": 0.0, "good": 0.0}, start=0.0, spread=0.0, noise=0.0)
    assert blind.not_helped[0].startswith("No strategy's wMAP reaches 0.01")
    assert blind.reached == []


def test_the_recommended_strategy_is_in_focus_else_the_best() -> None:
    best = focus(found({"random": 0.05, "a": 0.02, "b": 0.03}), ("random",))
    named = focus(found({"random": 0.05, RECOMMENDED: 0.02, "b": 0.03}), ("random",))
    assert (best.name, named.name) == ("b", RECOMMENDED)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.021, 0.03, 0.06]), min_size=1, max_size=5))
def test_every_strategy_is_told_of(gains: list[float]) -> None:
    names = {f"s{number}" for number in range(len(gains))}
    of = told({"random": 0.02} | dict(zip(sorted(names), gains, strict=True)), rounds=1)
    for name in names:
        assert any(name in sentence for sentence in (*of.gained, *of.not_helped))


@pytest.mark.parametrize(("value", "text"), [(0.0123, "+0.012"), (-0.5, "−0.500"), (-0.0001, "0.000"), (0.0, "0.000")])
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text


def test_lists() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a, 1", "b", "c"]) == "a, 1; b and c"
