"""What an A/B test has found, in sentences; also what neither arm gained."""

from __future__ import annotations

from collections.abc import Sequence

from poolscout.experiments.ab_cells import BOTH
from poolscout.experiments.ab_findings import AbFindings, class_keys, keys_of
from poolscout.experiments.sentences import NOT_SHOWN, Told, listed, percent, seen_words, too_few
from poolscout.experiments.statistics import Interval

SAME_PICKS = (
    "All repeats split the same selections: p and intervals speak of these, over splits and initial weights, and not "
    "of what the ways of selecting would pick another time."
)


def tell_ab(findings: AbFindings, what: str, wanted: Sequence[str]) -> Told:
    """All sentences.

    Args:
        what: the first one: what was compared.
        wanted: classes that the arms were picked for; none: all.
    """
    keys = wanted_keys(findings, wanted)
    gained = [*findings.words, *_own_parts(findings, keys)]
    limits = [*_power(findings, keys), *([SAME_PICKS] if findings.same_picks else [])]
    return Told(what, gained, _not_helped(findings), [], limits)


def wanted_keys(findings: AbFindings, wanted: Sequence[str]) -> list[str]:
    """The figures that are asked for: those of the wanted classes, or of all."""
    known = findings.reference.get(BOTH, {})
    return keys_of(wanted, known) or class_keys(known)


def part_words(test: str) -> str:
    """What was measured on."""
    return "all that is held out" if test == BOTH else f"what {test} holds out"


def _own_parts(findings: AbFindings, keys: Sequence[str]) -> list[str]:
    """The gains on each arm's own held-out images: there the other arm has no home game."""
    sentences = []
    for test in findings.reference:
        if test == BOTH:
            continue
        each = [
            f"{key} " + ", ".join(f"{arm.name} {percent(arm.gain[test].get(key))}" for arm in findings.arms)
            for key in keys
            if any(arm.gain[test].get(key) for arm in findings.arms)
        ]
        if each:
            sentences.append(f"Over the reference model on {part_words(test)} only: {listed(each)}.")
    return sentences


def _not_helped(findings: AbFindings) -> list[str]:
    sentences = []
    for arm in findings.arms:
        known = {key: gain for key, gain in arm.gain[BOTH].items() if gain is not None}
        lost = [f"{key} {percent(gain)}" for key, gain in known.items() if gain.high is not None and gain.high < 0]
        unshown = [f"{key} {percent(gain)}" for key, gain in known.items() if not _is_clear(gain)]
        if lost:
            sentences.append(f"{arm.name} is below the reference model in {listed(lost)}.")
        if unshown:
            sentences.append(f"{arm.name} shows no gain over the reference model in {listed(unshown)}.")
    for (a, b), of in findings.differences.items():
        same = [key for key, one in of.items() if one.verdict == "no difference shown"]
        if same:
            sentences.append(f"No difference between {a} and {b} was shown in {listed(same)}.")
    return sentences


def _is_clear(gain: Interval) -> bool:
    """Whether the interval lies on one side of 0."""
    return gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)


def _power(findings: AbFindings, keys: Sequence[str]) -> list[str]:
    n = findings.repeats
    told = [of[key] for of in findings.differences.values() for key in keys if key in of]
    if sentences := too_few(n, max((one.tests for one in told), default=0)):
        return [*sentences, NOT_SHOWN]
    for (a, b), of in findings.differences.items():
        if words := seen_words([of[key] for key in keys if key in of], n, "class"):
            sentences.append(f"A true difference in a class's wMAP between {a} and {b} of {words}")
    return [*sentences, NOT_SHOWN] if sentences else []
