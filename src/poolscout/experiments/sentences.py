"""What an experiment has found, in sentences that anyone can read; also where active learning did not help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poolscout.experiments.comparison import COSTS, Comparison, Findings, Summary
from poolscout.experiments.presets import RECOMMENDED
from poolscout.experiments.results import RANGE
from poolscout.experiments.statistics import LOW, Interval, Paired, smallest_p

LEVEL = 0.05
NOT_SHOWN = "“No difference shown” is not “no difference”: it may be as large as that."
LESS_EFFORT = 0.9  # of the strategies' steps an image
FIRST = 3  # sentences of each kind in brief
IN_FULL = 3  # strategies of a sentence that are told with interval and p
MEASURES: dict[str, Callable[[Comparison], Paired | None]] = {
    "in wMAP after the last round": lambda one: one.final,
    "in area under the curve over images": lambda one: one.area["images"],
    "in area under the curve over boxes": lambda one: one.area["boxes"],
}


@dataclass(frozen=True)
class Setting:
    """What was compared, on what.

    Attributes:
        data: what people call the data set.
        n_pool: images that could be picked.
        n_test, test_boxes: what was measured on.
        held_out: the test images are whole sequences of the pool, for choosing strategies.
        seeds: asked for; those that are finished are the findings'.
        initial, n: images labelled at first, and picked in each round.
        members: of each ensemble.
        trained_out: the last round was trained as long as the whole pool, those before it only to pick.
    """

    data: str
    n_pool: int
    n_test: int
    test_boxes: int
    held_out: bool
    seeds: int
    rounds: int
    initial: int
    n: int
    members: int
    baselines: tuple[str, ...]
    trained_out: bool = False


@dataclass(frozen=True)
class Told:
    """The summary of an experiment: a sentence, and lists of sentences."""

    what: str
    gained: list[str]
    not_helped: list[str]
    reached: list[str]
    power: list[str]

    @property
    def briefly(self) -> list[str]:
        """What was compared, the first of what helped and of what did not, and what could have been seen."""
        return [self.what, *self.gained[:FIRST], *self.not_helped[:FIRST], *self.power]


def tell(findings: Findings, setting: Setting) -> Told:
    """All sentences; a win is one where the corrected p is below 0.05."""
    if not findings.summaries:
        return Told(_what(findings, setting), [], ["No seed is finished: nothing can be said yet."], [], [])
    nothing = _nothing_learnt(findings)
    bases = [name for name in setting.baselines if any(one.baseline == name for one in findings.comparisons)]
    return Told(
        _what(findings, setting),
        [sentence for base in bases for sentence in _verdicts(findings, setting, base, "better")],
        [
            *nothing,
            *(sentence for base in bases for sentence in _not_better(findings, setting, base)),
            *_per_image_only(findings, setting),
            *_classes(findings, setting),
            *([] if nothing else _unreached(findings, setting)),
        ],
        [] if nothing else [*_whole_pool_s_effort(findings), *_reached(findings, setting)],
        _power(findings, setting, bases),
    )


def focus(findings: Findings, baselines: Sequence[str]) -> Summary | None:
    """The recommended strategy, or else the one with the highest wMAP; None where there are only baselines."""
    named = [one for one in findings.summaries if one.name == RECOMMENDED and one.name not in baselines]
    return named[0] if named else _best(findings, baselines)


def _best(findings: Findings, baselines: Sequence[str]) -> Summary | None:
    able = [one for one in findings.summaries if one.name not in baselines]
    return max(able, key=lambda one: one.final["wMAP"].mean, default=None)


def signed(value: float, digits: int = 3) -> str:
    """With its sign, and a true minus; what is rounded to 0 has none."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


def percent(gain: Interval | None) -> str:
    """+12 % (+3 … +20)."""
    if gain is None:
        return "no figure"
    between = f" ({signed(100 * gain.low, 0)} … {signed(100 * (gain.high or 0), 0)})" if gain.low is not None else ""
    return f"{signed(100 * gain.mean, 0)} %{between}"


def p_words(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def listed(parts: Sequence[str]) -> str:
    """a, b and c; with semicolons where a part has a comma of its own."""
    between = "; " if any(", " in part for part in parts) else ", "
    return " and ".join([between.join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def difference_words(one: Paired) -> str:
    """+0.031 (95 % interval +0.012 to +0.050, p = 0.016)."""
    of = one.difference
    interval = f"95 % interval {signed(of.low)} to {signed(of.high or 0)}, " if of.low is not None else ""
    return f"{signed(of.mean)} ({interval}{p_words(one.p_told)})"


def _what(findings: Findings, setting: Setting) -> str:
    n, done = setting.seeds, len(findings.seeds)
    seeds = f"{done} paired seed{'s' if done != 1 else ''}" + (f" of {n} (only these are finished)" if done < n else "")
    rounds = f"in each of {setting.rounds} rounds" if setting.rounds > 1 else "in one round"
    test = "images held out from the pool" if setting.held_out else "test images"
    several = f"ensembles of {setting.members}" if setting.members > 1 else "one detector each"
    out = ""
    if setting.trained_out:
        out = " What is told is the last round, trained as long as the whole pool; training before it was for picking."
    return (
        f"{len(findings.summaries)} strategies were compared on {setting.data} over {seeds}: each began with the same "
        f"{setting.initial:,} labelled images, picked {setting.n:,} more of the pool's {setting.n_pool:,} {rounds}, "
        f"and was measured on {setting.n_test:,} {test} with {setting.test_boxes:,} boxes ({several}).{out}"
    )


def _nothing_learnt(findings: Findings) -> list[str]:
    if max(one.final["wMAP"].mean for one in findings.summaries) >= LOW:
        return []
    return [f"No strategy's wMAP reaches {LOW}: the detectors learnt next to nothing, so nothing follows from this."]


def _verdicts(findings: Findings, setting: Setting, base: str, verdict: str) -> list[str]:
    """One sentence for each measure in which strategies are `better` or `worse` than a baseline."""
    titles, found, ones = _titles(findings), list[str](), _against(findings, setting, base)
    for words, measure in MEASURES.items():
        able = [(titles[one.strategy], of) for one in ones if (of := measure(one)) is not None]
        told = [(title, of) for title, of in able if of.verdict == verdict]
        told.sort(key=lambda pair: -abs(pair[1].difference.mean))
        if told:
            first = [f"{title} {difference_words(of)}" for title, of in told[:IN_FULL]]
            rest = [f"{title} {signed(of.difference.mean)}" for title, of in told[IN_FULL:]]
            more = f"; and by less {listed(rest)}" if rest else ""
            share = f" ({len(told)} of {len(able)} strategies)" if len(able) > 1 else ""
            found.append(f"{verdict.capitalize()} than {titles[base]} {words}{share}: {listed(first)}{more}.")
    return found


def _not_better(findings: Findings, setting: Setting, base: str) -> list[str]:
    titles, ones = _titles(findings), _against(findings, setting, base)
    sentences = _verdicts(findings, setting, base, "worse")
    verdicts = {one.strategy: [p.verdict for of in MEASURES.values() if (p := of(one)) is not None] for one in ones}
    silent = [one for one in ones if all(verdict == "no difference shown" for verdict in verdicts[one.strategy])]
    if ones and not any("better" in of for of in verdicts.values()):
        sentences.insert(0, f"No strategy was shown to be better than {titles[base]}, by any measure.")
    if silent:
        each = [f"{titles[one.strategy]} ({signed(one.final.difference.mean)} wMAP)" for one in silent]
        sentences.append(f"No difference from {titles[base]} was shown, by any measure, for {listed(each)}.")
    return sentences


def _per_image_only(findings: Findings, setting: Setting) -> list[str]:
    """Those that win for their images, and not for their boxes: a sentence for each baseline and outcome."""
    if setting.trained_out:
        return []  # of its last round alone nothing is told per box
    by_name, told = {one.name: one for one in findings.summaries}, dict[tuple[str, str], list[Summary]]()
    for one in findings.comparisons:
        images, boxes = one.area["images"], one.area["boxes"]
        wins = one.final.verdict == "better" or (images is not None and images.verdict == "better")
        if one.strategy in setting.baselines or not wins or (boxes is not None and boxes.verdict == "better"):
            continue
        if boxes is None:
            per_box = "per box nothing can be said (not in every seed do the curves share a range of boxes)"
        else:
            per_box = "per box it loses" if boxes.verdict == "worse" else "per box no difference was shown"
        told.setdefault((one.baseline, per_box), []).append(by_name[one.strategy])
    sentences = []
    for (base, per_box), ours in told.items():
        theirs = by_name[base]
        if len(ours) == 1:
            ahead, cost = f"{ours[0].title} wins", f"its labels have {ours[0].cost['boxes'].mean:,.0f} boxes"
        else:
            ahead = f"{listed([one.title for one in ours])} win"
            per_box = per_box.replace("it loses", "they lose")
            means = [one.cost["boxes"].mean for one in ours]
            cost = f"their labels have {min(means):,.0f} to {max(means):,.0f} boxes"
        sentences.append(
            f"{ahead} over {theirs.title} per image; {per_box}: {cost}, those of {theirs.title} "
            f"{theirs.cost['boxes'].mean:,.0f}."
        )
    return sentences


def _classes(findings: Findings, setting: Setting) -> list[str]:
    """The classes, and the ranges of box sizes, in which the strategy in focus is not ahead."""
    ours, base = focus(findings, setting.baselines), _first_baseline(findings, setting)
    if ours is None or base is None:
        return []
    sentences = []
    for words, prefix in (("Classes", "AP "), ("Sizes", RANGE)):
        names = [key for key in ours.final if key.startswith(prefix) and key in base.final]
        behind = [key for key in names if ours.final[key].mean <= base.final[key].mean]
        each = [
            f"{key.removeprefix(prefix)} ({ours.final[key].mean:.3f} against {base.final[key].mean:.3f})"
            for key in behind
        ]
        if behind:
            sentences.append(
                f"{words} in which {ours.title} is not above {base.title} (mean AP, not tested): {listed(each)}; "
                f"{len(behind)} of {len(names)}."
            )
    return sentences


def _whole_pool_s_effort(findings: Findings) -> list[str]:
    """That targets are too easy where the whole pool was trained less for each of its images than the strategies."""
    full, last = findings.steps_an_image or (0.0, 0.0)
    if full >= LESS_EFFORT * last:
        return []
    return [
        f"The whole pool was trained {full:.2g} steps for each image, the last round {last:.2g}: with more, it may "
        "reach more, so these targets may be too low."
    ]


def _reached(findings: Findings, setting: Setting) -> list[str]:
    """Cost of each target, for the strategy in focus, the best one and the baselines."""
    shown = _shown(findings, setting)
    sentences = []
    for target in shown[0].to_reach if shown else ():
        each = [
            f"{one.title} with {_cost_words(findings, setting, one, target)}"
            for one in shown
            if one.to_reach[target]["images"][1]
        ]
        if each:
            sentences.append(f"{target_words(target, findings)} was reached by {listed(each)}.")
    return sentences


def target_words(target: float, findings: Findings) -> str:
    """What a target is: a share of the whole pool's figure, where it is a round one."""
    full = findings.full["wMAP"].mean if findings.full else 0.0
    share = round(100 * target / full) if full else 0
    if full and abs(target - share / 100 * full) < 1e-9:
        whole = "The whole pool's wMAP" if share == 100 else f"{share} % of the whole pool's wMAP"
        return f"{whole} ({target:.3f})"
    return f"A wMAP of {target:.3f}"


def _cost_words(findings: Findings, setting: Setting, one: Summary, target: float) -> str:
    (images, reached), (boxes, _) = (one.to_reach[target][cost] for cost in COSTS)
    assert images is not None
    assert boxes is not None
    all_boxes = findings.full["boxes"].mean if findings.full else 0
    share = f" ({100 * boxes / all_boxes:.0f} %)" if all_boxes else ""
    return (
        f"{images:,.0f} images ({100 * images / setting.n_pool:.0f} % of the pool) and {boxes:,.0f} boxes{share} "
        f"in {reached} of {one.seeds} seeds"
    )


def _unreached(findings: Findings, setting: Setting) -> list[str]:
    sentences = []
    shown = _shown(findings, setting)
    for target in shown[0].to_reach if shown else ():
        never = [one.title for one in shown if not one.to_reach[target]["images"][1]]
        if never:
            sentences.append(f"{target_words(target, findings)} was not reached by {listed(never)} in any seed.")
    return sentences


def _power(findings: Findings, setting: Setting, bases: Iterable[str]) -> list[str]:
    """What so many seeds could have seen."""
    n, titles = len(findings.seeds), _titles(findings)
    if sentences := too_few(n, len(findings.comparisons)):
        return [*sentences, NOT_SHOWN]
    for base in bases:
        if words := seen_words([one.final for one in _against(findings, setting, base)], n):
            sentences.append(f"A true difference in wMAP from {titles[base]} of {words}")
    return [*sentences, NOT_SHOWN] if sentences else []


def too_few(n_seeds: int, comparisons: int) -> list[str]:
    """A sentence where not even the smallest p that so many seeds can give passes the correction."""
    if not comparisons or comparisons * smallest_p(n_seeds) < LEVEL:
        return []
    least = next(seeds for seeds in range(2, 99) if comparisons * smallest_p(seeds) < LEVEL)
    return [
        f"With {n_seeds} seed{'s' if n_seeds > 1 else ''} and {comparisons} comparison{'s' if comparisons > 1 else ''} "
        f"no difference can be shown, however large: at least {least} seeds are needed."
    ]


def seen_words(comparisons: Sequence[Paired], n_seeds: int, of: str = "strategy") -> str:
    """How large a difference so many seeds would have found, by one test and corrected; nothing where not known."""
    ends = [(one.detectable, one.detectable_corrected) for one in comparisons]
    alone = _from_to([a for a, _ in ends if a is not None])
    if not alone:
        return ""
    depending = f", depending on the {of}," if " to " in alone else ""
    strictest, tests = _from_to([b for _, b in ends if b is not None]), max(one.tests for one in comparisons)
    corrected = f", {strictest} by the strictest of {tests} corrected ones" if tests > 1 and strictest else ""
    return (
        f"{alone}{depending} would have been found in 4 of 5 experiments with {n_seeds} seeds by one test{corrected}."
    )


def _from_to(figures: Sequence[float]) -> str:
    if not figures:
        return ""
    low, high = f"{min(figures):.3f}", f"{max(figures):.3f}"
    return low if low == high else f"{low} to {high}"


def _against(findings: Findings, setting: Setting, base: str) -> list[Comparison]:
    return [one for one in findings.comparisons if one.baseline == base and one.strategy not in setting.baselines]


def _titles(findings: Findings) -> Mapping[str, str]:
    return {one.name: one.title for one in findings.summaries}


def _first_baseline(findings: Findings, setting: Setting) -> Summary | None:
    return next((one for base in setting.baselines for one in findings.summaries if one.name == base), None)


def _shown(findings: Findings, setting: Setting) -> list[Summary]:
    """The strategy in focus, the best one, which may be another, and the baselines."""
    first = [focus(findings, setting.baselines), _best(findings, setting.baselines)]
    ours = {one.name: one for one in first if one is not None}
    return [*ours.values(), *(one for one in findings.summaries if one.name in setting.baselines)]
