"""What an A/B test has come to: figures, gains over the reference model, and their ratio, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from poolscout.experiments.ab_cells import BOTH, REFERENCE, AbCells, cost, figures
from poolscout.experiments.sentences import percent
from poolscout.experiments.statistics import (
    Interval,
    Paired,
    corrected,
    gain_ratio,
    mean_interval,
    paired,
    relative_gain,
)

Values = Mapping[str, Mapping[str, Mapping[str, list[float]]]]  # model → test → figure → one for each unit that has it
Ratios = dict[tuple[str, str], dict[str, dict[str, Interval | None]]]


@dataclass(frozen=True)
class ArmResult:
    """One arm, over all repeats.

    Attributes:
        cost: images, boxes, boxes of each class, minutes, sequences; means where each seed has picks of its own.
        figures, gain: test → figure → the arm's, and its relative gain over the reference model; None where that found
            nothing. Tests are `both` and each arm's own held-out part; figures are wMAP, AP50, AP and `wMAP CLASS`, the
            class's AP averaged over sizes, as in the paper's Table V.
    """

    name: str
    cost: dict[str, Any]
    figures: dict[str, dict[str, Interval]]
    gain: dict[str, dict[str, Interval | None]]


@dataclass(frozen=True)
class AbFindings:
    """What an A/B test has come to.

    Attributes:
        repeats: independent figures: of seeds, or of splits where the arms are given.
        reference: test → figure → interval, of the models without any arm.
        differences: (arm, other) → figure → the difference on `both`, p corrected over the arms and the figures of the
            wanted classes, and by itself over all other figures.
        ratio: (other, arm) → test → figure → how many times the gain of the arm named first the other's is; without an
            upper end where the first one's gain may be 0, None where nothing can be said.
        words: what is most asked for, in sentences.
        same_picks: the repeats split the same selections, which somebody brought.
    """

    repeats: int
    reference: dict[str, dict[str, Interval]]
    arms: tuple[ArmResult, ...]
    differences: dict[tuple[str, str], dict[str, Paired]]
    ratio: Ratios
    words: tuple[str, ...]
    same_picks: bool = False


def conclude(cells: AbCells) -> AbFindings:
    """The figures of all repeats, and what they say.

    Splits of the same picks are not independent: the mean over a seed's splits is one figure.
    """
    names, wanted = [REFERENCE, *cells.names], cells.config.experiment.ab.classes
    found = {name: [_flat(figures(cells, repeat, name)) for repeat in range(len(cells.arms))] for name in names}
    tests = [test for test in (BOTH, *cells.names) if any(test in one for one in found[REFERENCE])]
    values = {name: {test: _by_unit(found[name], test, cells.splits) for test in tests} for name in names}
    base = values[REFERENCE]
    arms = tuple(
        ArmResult(
            name,
            _mean_of([cost(cells, of.picked[name]) for of in cells.arms[:: cells.splits]]),
            {test: {key: mean_interval(of) for key, of in values[name][test].items()} for test in tests},
            {test: {key: relative_gain(of, base[test][key]) for key, of in values[name][test].items()}
             for test in tests},
        )
        for name in cells.names
    )  # fmt: skip
    pairs = list(combinations(cells.names, 2))
    of_wanted = keys_of(wanted, base[BOTH])
    differences = _differences(pairs, values, [of_wanted, [key for key in base[BOTH] if key not in of_wanted]])
    ratio: Ratios = {
        (b, a): {
            test: {key: gain_ratio(values[b][test][key], values[a][test][key], base[test][key]) for key in base[test]}
            for test in tests
        }
        for a, b in pairs
    }
    reference = {test: {key: mean_interval(of) for key, of in base[test].items()} for test in tests}
    told = of_wanted or class_keys(base[BOTH])
    words = tuple(_in_words(a, b, key, reference[BOTH], arms, differences, ratio) for a, b in pairs for key in told)
    repeats = len(cells.arms) // cells.splits
    return AbFindings(repeats, reference, arms, differences, ratio, words, cells.same_picks)


def of_class(cls: str) -> str:
    """The figure of a class."""
    return f"wMAP {cls}"


def keys_of(classes: Iterable[str], figures: Collection[str]) -> list[str]:
    """Those figures that are of these classes."""
    return [key for cls in classes if (key := of_class(cls)) in figures]


def class_keys(figures: Iterable[str]) -> list[str]:
    """Those figures that are of one class."""
    return [key for key in figures if key.startswith(of_class(""))]


def times_words(ratio: Interval) -> str:
    """1.6 times (1.2 … 2.6); at least 1.9 times, as the mean over what may be nothing may be anything."""
    if ratio.at_least is not None:
        return f"at least {ratio.at_least:.1f} times"
    return f"{ratio.mean:.1f} times" + ("" if ratio.low is None else f" ({ratio.low:.1f} … {ratio.high:.1f})")


def plain(found: AbFindings) -> dict[str, Any]:
    """For JSON."""
    differences = {f"{a} − {b}": {k: asdict(v) for k, v in of.items()} for (a, b), of in found.differences.items()}
    ratio = {
        f"{a} / {b}": {test: {k: v and asdict(v) for k, v in of.items()} for test, of in tests.items()}
        for (a, b), tests in found.ratio.items()
    }
    return {
        "repeats": found.repeats,
        "reference": {test: {k: asdict(v) for k, v in of.items()} for test, of in found.reference.items()},
        "arms": [asdict(arm) for arm in found.arms],
        "differences": differences,
        "ratio": ratio,
        "words": list(found.words),
    }


def _flat(tests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    return {
        test: {name: one[name] for name in ("wMAP", "AP50", "AP")}
        | {of_class(cls): values.get("wMAP") for cls, values in one["per_class"].items()}
        for test, one in tests.items()
    }


def _by_unit(
    repeats: Sequence[Mapping[str, Mapping[str, float | None]]], test: str, splits: int
) -> dict[str, list[float]]:
    """Figure → its value in each unit, a mean over its splits; units whose test shows no such object have none."""
    found: dict[str, list[float]] = {}
    for start in range(0, len(repeats), splits):
        unit = [one.get(test, {}) for one in repeats[start : start + splits]]
        for key in dict.fromkeys(key for one in unit for key in one):
            known = [value for one in unit if (value := one.get(key)) is not None]
            if known:
                found.setdefault(key, []).append(fmean(known))
    return found


def _differences(
    pairs: Sequence[tuple[str, str]], values: Values, families: Sequence[Sequence[str]]
) -> dict[tuple[str, str], dict[str, Paired]]:
    """Each family of figures is corrected by itself."""
    found: dict[tuple[str, str], dict[str, Paired]] = {pair: {} for pair in pairs}
    for keys in families:
        raw = {(a, b, key): paired(values[a][BOTH][key], values[b][BOTH][key]) for a, b in pairs for key in keys}
        for (a, b, key), one in corrected(raw).items():
            found[a, b][key] = one
    return found


def _mean_of(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cost by cost; whole numbers where all are alike."""

    def mean(values: Sequence[Any]) -> Any:
        if isinstance(values[0], Mapping):
            return _mean_of(values)
        return values[0] if len(set(values)) == 1 else fmean(values)

    return {key: mean([one[key] for one in costs]) for key in costs[0]}


def _in_words(
    a: str, b: str, key: str, reference: Mapping[str, Interval], arms: Sequence[ArmResult],
    differences: Mapping[tuple[str, str], Mapping[str, Paired]], ratios: Ratios,
) -> str:  # fmt: skip
    of = {arm.name: arm for arm in arms}
    if of[a].gain[BOTH][key] is None:
        told = f"the reference model found next to nothing ({reference[key].mean:.3f}), " + ", ".join(
            f"{name} has {of[name].figures[BOTH][key].mean:.3f}" for name in (a, b)
        )
    else:
        told = "over the reference model " + ", ".join(f"{name} {percent(of[name].gain[BOTH][key])}" for name in (a, b))
    ratio, tested = ratios[b, a][BOTH].get(key), differences[a, b][key]
    if ratio is None:
        theirs = of[a].gain[BOTH][key]
        gained = "gained" if theirs is not None and theirs.mean <= 0 else "may have gained"
        times = f"no multiple is told, as {a} {gained} nothing"
    else:
        times = f"{b} gains {times_words(ratio)} as much as {a}"
    said = {"better": f"{a} is better", "worse": f"{b} is better"}.get(tested.verdict, tested.verdict)
    return f"{key}: {told}; {times}; {said} (p = {tested.p_told:.3f})"
