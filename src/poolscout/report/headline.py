"""What was gained for what was paid, in three plain sentences."""

from __future__ import annotations

import numpy as np

from poolscout.report.rundata import Point, RunData

T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # 97.5 % quantile for 1, 2 … degrees of freedom


def headline(run: RunData) -> list[str]:
    """Three sentences; what is not known is said to be unknown."""
    if not run.points:
        return [
            "Nothing has been measured yet.",
            f"This run is {run.state()[1]}.",
            "Start the same command again to go on; this page is written anew whenever the run stops.",
        ]
    if not run.measured:
        return [
            _paid(run, "Labels were bought for"),
            "There is no test set (evaluation.annotations), so it is not known what they gained.",
            "With a COCO file of labelled test images, this page shows the learning curve.",
        ]
    return [_gain(run), _against_random(run), _against_full(run) if run.full else _best_and_worst_class(run)]


def _paid(run: RunData, words: str) -> str:
    first, last = run.points[0], run.points[-1]
    whole = f" of the pool's {run.n_pool:,}" if run.n_pool else ""
    start = f" (starting from {first.n_images:,} and {first.n_boxes:,})" if len(run.points) > 1 else ""
    return f"{words} {last.n_images:,}{whole} images with {last.n_boxes:,} boxes{start}."


def _gain(run: RunData) -> str:
    first, last = run.measured[0], run.measured[-1]
    n_test, members = last.test.get("images"), len(last.members)
    mean = f"mean of {members} detectors" if members > 1 else "one detector"
    on = f" ({mean}" + (f", {n_test:,} test images)" if n_test else ")")
    before, after = _ap50(first), _ap50(last)
    if len(run.measured) == 1:
        return f"The first {first.n_images:,} labelled images with {first.n_boxes:,} boxes give AP50 {before:.3f}{on}."
    verb = "raised" if after > before else "lowered" if after < before else "left"
    to = f"from {before:.3f} to {after:.3f}" if after != before else f"at {after:.3f}"
    more = f"{last.n_images - first.n_images:,} more images with {last.n_boxes - first.n_boxes:,} boxes"
    return f"Labelling {more} {verb} AP50 {to}{on}."


def _against_random(run: RunData) -> str:
    later = [point for point in run.random if point.arm == "random" and point.mean is not None]
    if not later:
        why = "is not trained yet" if run.config.references.random else "was not asked for (references.random)"
        return f"The random reference {why}, so it is not known how much of this the choice of images gained."
    chance = later[-1]
    same = [point for point in run.measured if point.number == chance.number]
    if not same:
        return f"Random picks reach AP50 {_ap50(chance):.3f} for {chance.n_boxes:,} boxes."
    chosen = same[0]
    difference = _ap50(chosen) - _ap50(chance)
    doubt = _doubt(run, chosen, chance)
    if doubt is None:
        verdict = f"a difference of {difference:+.3f}, of which one detector each cannot tell whether it is chance"
    elif abs(difference) <= doubt:
        verdict = f"no clear difference ({difference:+.3f} ± {doubt:.3f} between trainings)"
    else:
        verdict = f"choosing was {'better' if difference > 0 else 'worse'} by {abs(difference):.3f}"
    return (
        f"As many random images reach {_ap50(chance):.3f} with {chance.n_boxes:,} boxes instead of "
        f"{chosen.n_boxes:,}: {verdict}{_at_equal_boxes(run, later)}."
    )


def _at_equal_boxes(run: RunData, later: list[Point]) -> str:
    """Both curves read at the smaller of the two box counts: images are cheap when they show little."""
    chance = [point for point in run.random if point.mean is not None]
    chosen = [point for point in run.measured if point.number <= later[-1].number]
    boxes = min(chosen[-1].n_boxes, chance[-1].n_boxes)
    at = [float(np.interp(boxes, [p.n_boxes for p in arm], [_ap50(p) for p in arm])) for arm in (chosen, chance)]
    return f"; at an equal {boxes:,} boxes (read off the curves) it stands {at[0]:.3f} to {at[1]:.3f}"


def _doubt(run: RunData, a: Point, b: Point) -> float | None:
    """Half a 95 % interval of the difference of two means over trainings (Student's t); None with single detectors.

    The spread of single detectors around their round's mean is pooled over all rounds, as each has a few only.
    """
    chance = [point for point in run.random if point.arm == "random" and point.mean is not None]  # round 0 is shared
    several = [point for point in (*run.measured, *chance) if len(point.members) > 1]
    deviations = [member["AP50"] - _ap50(point) for point in several for member in point.members]
    degrees = sum(len(point.members) - 1 for point in several)
    if degrees == 0:
        return None
    spread = float(np.sqrt(np.sum(np.square(deviations)) / degrees))
    return T_95[min(degrees, len(T_95)) - 1] * spread * (1 / len(a.members) + 1 / len(b.members)) ** 0.5


def _against_full(run: RunData) -> str:
    full, last = run.full, run.measured[-1]
    assert full is not None
    if full.mean is None or _ap50(full) == 0:
        return f"All {full.n_images:,} labels of the pool were learnt from, too, but give no AP50 to compare with."
    share = _ap50(last) / _ap50(full)
    return (
        f"All {full.n_images:,} images of the pool with {full.n_boxes:,} boxes give {_ap50(full):.3f}: this run is at "
        f"{share:.0%} of that for {last.n_images / full.n_images:.0%} of the images and "
        f"{last.n_boxes / max(full.n_boxes, 1):.0%} of the boxes."
    )


def _best_and_worst_class(run: RunData) -> str:
    first, last = run.measured[0].mean, run.measured[-1].mean
    assert first is not None
    assert last is not None
    change = {
        name: figures["AP50"] - (first["per_class"].get(name, {}).get("AP50") or 0.0)
        for name, figures in last["per_class"].items()
        if figures["AP50"] is not None
    }
    if len(run.measured) == 1 or len(change) < 2:
        why = "is not trained yet" if run.config.references.full else "was not asked for (references.full)"
        return f"The reference with all labels of the pool {why}, so it is not known how much is left to gain."
    if not any(change.values()):
        return "No class has gained or lost anything."
    best, worst = max(change, key=lambda n: change[n]), min(change, key=lambda n: change[n])
    return (
        f"The class that gained most is {best} ({change[best]:+.3f} AP50), the one that gained least is {worst} "
        f"({change[worst]:+.3f})."
    )


def _ap50(point: Point) -> float:
    value = point.figure("AP50")
    assert value is not None
    return value
