"""The constraints of a config, made from what is known of the candidates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64

from poolscout.config import SelectionConfig
from poolscout.errors import CapabilityError, ConfigError, DataError, nearest, some
from poolscout.formats.id_lists import read_image_ids
from poolscout.selection.columns import frame_column, id_array, positions_of, predicted_boxes, sequence_codes
from poolscout.selection.constraints import Lane
from poolscout.selection.feed import Feed, looks_at_scores
from poolscout.selection.gates import NO_CODE, Budget, Cap, Gap, Gate
from poolscout.selection.near_duplicates import NearDuplicates
from poolscout.selection.ranking import by_score
from poolscout.selection.registry import Positions, samplers


@dataclass(frozen=True)
class Limits:
    """What `pick_batch` is told beside the sampler; see there.

    Attributes:
        notes: for people.
    """

    lanes: Sequence[Lane]
    gates: Sequence[Gate]
    start: Positions
    barred: Bool[np.ndarray, " n"]
    notes: Sequence[str]


def limits_of(
    feed: Feed, config: SelectionConfig, n: int, detections: Iterable[pa.Table] | None, pool: pa.Table | None
) -> Limits:
    """Arguments and errors as of `select_images`."""
    barred, notes = _excluded(feed, config)
    start, more = _included(feed, config, n, barred)
    budgets, on_boxes = _budgets(feed, config, start, detections)
    gates = [*budgets, *_along_sequences(feed, config, pool)]
    if config.constraints.min_distance is not None:
        if feed.candidates.embeddings is None:
            raise CapabilityError(
                "min_distance needs embeddings", got="candidates without embeddings", expected="one for each",
                fix="give the embeddings (--embeddings), or leave min_distance out",
            )  # fmt: skip
        gates.append(NearDuplicates(feed.candidates, config.constraints.min_distance))
    taken = barred.copy()
    taken[start] = True
    return Limits(_lanes(feed, config, n - len(start), ~taken), gates, start, barred, (*notes, *more, *on_boxes))


def needs_boxes(config: SelectionConfig) -> bool:
    """Whether a budget depends on predicted boxes."""
    limits = config.constraints
    return limits.budget_boxes is not None or (limits.budget_minutes is not None and config.price.seconds_per_box > 0)


def needs_embeddings(config: SelectionConfig) -> bool:
    """Whether the sampler or a constraint looks at embeddings."""
    return "embeddings" in samplers.get(config.sampler).needs or config.constraints.min_distance is not None


def needs_scores(config: SelectionConfig) -> bool:
    """Whether the sampler or a constraint looks at scores."""
    return looks_at_scores(samplers.get(config.sampler), config)


def listed_ids(given: Path | Sequence[str]) -> pa.Array:
    """Image ids of the config, or of the file it names."""
    return read_image_ids(given) if isinstance(given, Path) else id_array(list(given))


def check_classes(config: SelectionConfig, classes: Sequence[str]) -> None:
    """Refuse a class that is not there.

    Raises:
        ConfigError: names the nearest.
    """
    for name in config.constraints.classes:
        if name not in classes:
            raise ConfigError(
                f"selection.constraints.classes: no class {name!r}", got=name, expected=", ".join(classes),
                fix=nearest(name, classes) or None,
            )  # fmt: skip


def _lanes(feed: Feed, config: SelectionConfig, n: int, free: Bool[np.ndarray, " n"]) -> list[Lane]:
    names, quota = config.constraints.classes, config.constraints.class_quota
    if not names:
        return [_prefiltered(Lane(feed.candidates), config, n, free)]
    check_classes(config, feed.classes)
    if feed.per_class is None:
        raise CapabilityError(
            "round-robin over classes needs scores", got="candidates without scores", expected="scores of each class",
            fix="give the score table and the column to rank by",
        )  # fmt: skip
    lanes = []
    for name in names:
        scores = np.ascontiguousarray(feed.per_class[:, list(feed.classes).index(name)])
        weight = 1 / len(names) if quota is None else quota[name]
        most = None if config.constraints.quota_in_shares else int(weight)
        lane = Lane(replace(feed.candidates, scores=scores), weight, most)
        lanes.append(_prefiltered(lane, config, n * weight if most is None else most, free))
    return lanes


def _prefiltered(lane: Lane, config: SelectionConfig, n: float, free: Bool[np.ndarray, " n"]) -> Lane:
    if config.constraints.prefilter is None:
        return lane
    if lane.candidates.scores is None:
        raise CapabilityError(
            "prefilter needs scores", got="candidates without scores", expected="a score for each",
            fix="give the column to rank by, or leave prefilter out",
        )  # fmt: skip
    left = np.flatnonzero(free)
    best = by_score(lane.candidates.scores[left])[: int(np.ceil(config.constraints.prefilter * n))]
    looked_at = np.zeros(len(free), bool)
    looked_at[left[best]] = True
    return replace(lane, open=looked_at)


def _excluded(feed: Feed, config: SelectionConfig) -> tuple[Bool[np.ndarray, " n"], list[str]]:
    listed = listed_ids(config.constraints.exclude)
    barred = pc.is_in(feed.ids, value_set=listed).to_numpy(zero_copy_only=False)
    if not len(listed):
        return barred, []
    return barred, [f"excluded: {int(barred.sum()):,} candidates, of {len(listed):,} images listed"]


def _included(
    feed: Feed, config: SelectionConfig, n: int, barred: Bool[np.ndarray, " n"]
) -> tuple[Positions, list[str]]:
    listed = listed_ids(config.constraints.include)
    at = positions_of(listed, feed.ids)
    done = pc.is_in(listed, value_set=feed.labelled).to_numpy(zero_copy_only=False) & (at == NO_CODE)
    unknown = listed.filter(pa.array((at == NO_CODE) & ~done))
    if len(unknown):
        raise DataError(
            f"include: {len(unknown)} images are no candidates", got=some(unknown.to_pylist()),
            expected=f"image ids of the {len(feed.ids):,} candidates", fix="check the ids, or leave them out",
        )  # fmt: skip
    start = at[at != NO_CODE]
    for count, problem in (
        (len(listed) - len(pc.unique(listed)), "there more than once"),
        (int(barred[start].sum()), "to be excluded too"),
        (len(start) - n, f"more than the {n:,} to be picked"),
    ):
        if count > 0:
            raise ConfigError(
                f"include: {count:,} images are {problem}", got=f"{len(listed):,} images that must be picked",
                expected="each once, none of them excluded, no more than n", fix="leave these out, or raise n",
            )  # fmt: skip
    n_done = int(done.sum())
    return start, [f"include: {n_done:,} images are labelled already and no candidates"] if n_done else []


def _budgets(
    feed: Feed, config: SelectionConfig, start: Positions, detections: Iterable[pa.Table] | None
) -> tuple[list[Budget], list[str]]:
    """Budgets, and what is to be said of them."""
    limits, price, boxes, notes = config.constraints, config.price, np.zeros(len(feed.ids)), list[str]()
    if needs_boxes(config):
        if detections is None:
            raise CapabilityError(
                "a budget in boxes needs predicted boxes", got="no detections",
                expected="the scoring pass's detections",
                fix="give them (--detections), or a budget in images",
            )  # fmt: skip
        boxes = predicted_boxes(feed.ids, detections, price.min_probability).astype(np.float64)
        if not boxes.any():
            notes = [
                f"no candidate shows a predicted box (probability {price.min_probability:g} or more), so boxes cost "
                "nothing: are these the detections of these images?"
            ]
    # A labelled image that is picked again costs nothing.
    new = ~pc.is_in(feed.ids, value_set=feed.labelled).to_numpy(zero_copy_only=False)
    seconds = price.seconds_per_image + price.seconds_per_box * boxes
    budgets = []
    if limits.budget_boxes is not None:
        budgets.append(_budget("budget in boxes", boxes * new, float(limits.budget_boxes), start))
    if limits.budget_minutes is not None:
        budgets.append(_budget("budget in minutes", seconds / 60 * new, limits.budget_minutes, start))
    return budgets, notes


def _budget(name: str, costs: Float64[np.ndarray, " n"], budget: float, start: Positions) -> Budget:
    if (spent := costs[start].sum()) > budget:
        raise ConfigError(
            f"include: the images that must be picked are beyond the {name}", got=f"{spent:g}",
            expected=f"at most {budget:g}", fix="leave some of them out, or raise the budget",
        )  # fmt: skip
    return Budget(name, costs, budget)


def _along_sequences(feed: Feed, config: SelectionConfig, pool: pa.Table | None) -> list[Gate]:
    limits, gates = config.constraints, list[Gate]()
    if limits.cap_per_sequence is None and limits.min_gap is None:
        return gates
    sequences = feed.candidates.sequences
    if sequences is None:
        raise CapabilityError(
            "cap_per_sequence and min_gap need sequences", got="candidates without a column sequence",
            expected="the recording of each", fix="give the pool's table (--pool)",
        )  # fmt: skip
    if limits.cap_per_sequence is not None:
        gates.append(Cap(sequences, limits.cap_per_sequence))
    if limits.min_gap is not None:
        frames = frame_column(feed.rows, feed.ids, "candidates")
        gates.append(Gap(sequences, frames, limits.min_gap, _labelled_frames(feed, pool, limits.gap_to_labelled)))
    return gates


def _labelled_frames(feed: Feed, pool: pa.Table | None, wanted: bool) -> tuple[np.ndarray, np.ndarray] | None:
    if not wanted or not len(feed.labelled):
        return None
    if pool is None:
        raise CapabilityError(
            "gap_to_labelled needs the frames of labelled images", got="no pool table",
            expected="sequence and frame of each", fix="give the pool's table, or leave gap_to_labelled out",
        )  # fmt: skip
    labelled = pool.filter(pc.is_in(pool["image_id"], value_set=feed.labelled))
    if "sequence" not in labelled.column_names:
        return None
    codes = sequence_codes(feed.rows, labelled["sequence"])[1]
    return codes, frame_column(labelled, labelled["image_id"], "labelled images")
