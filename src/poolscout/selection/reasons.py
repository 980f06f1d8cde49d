"""The selection table: each pick with its reasons, and what is to be said of the whole batch."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import SelectionConfig
from poolscout.selection.columns import names_of
from poolscout.selection.constraints import START, Batch
from poolscout.selection.feed import Feed, how_ranked, looks_at_scores
from poolscout.selection.gates import NO_CODE
from poolscout.selection.limits import Limits
from poolscout.selection.registry import Sampler
from poolscout.tables.declared import NOTES_KEY, SELECTION


def selection_table(
    feed: Feed, config: SelectionConfig, chosen: Sampler, limits: Limits, batch: Batch, n: int
) -> pa.Table:
    """The picks in order; notes go into the metadata, where there are any."""
    k, positions = len(batch.positions), batch.positions
    scores, classes = _scores(feed, config, chosen, batch)
    ids = feed.ids.take(pa.array(positions))
    table = pa.table(
        {
            "rank": pa.array(np.arange(k), pa.int32()),
            "image_id": ids,
            "score": pa.nulls(k, pa.float32()) if scores is None else pa.array(scores.astype(np.float32)),
            "class": classes,
            "distance": _float32(batch.distances),
            "reason": pa.array(_reasons(feed, config, chosen, limits, batch, n), pa.string()),
            "labelled_already": pc.is_in(ids, value_set=feed.labelled),
        }
    )
    notes = _notes(feed, limits, batch, n)
    return SELECTION.check(
        table.replace_schema_metadata({NOTES_KEY: json.dumps(notes)} if notes else None), "selection"
    )


def _float32(distances: np.ndarray) -> pa.Array:
    """Empty where there is none, or none that float32 can hold."""
    held = np.abs(distances) <= np.finfo(np.float32).max
    return pa.array(np.where(held, distances, 0).astype(np.float32), mask=~held)


def notes_of(selection: pa.Table) -> list[str]:
    """What is to be said of a batch: which constraints refused how much, and why it is short."""
    return json.loads((selection.schema.metadata or {}).get(NOTES_KEY, b"[]"))


def _scores(feed: Feed, config: SelectionConfig, chosen: Sampler, batch: Batch) -> tuple[np.ndarray | None, pa.Array]:
    """Of each pick the score it was ranked by, and the class it was picked for or that brings most of that score."""
    positions = batch.positions
    if feed.scores is None or not looks_at_scores(chosen, config):
        return None, pa.nulls(len(positions), pa.string())
    scores = feed.scores[positions]
    at = np.full(len(positions), NO_CODE) if feed.best is None else feed.best[positions]
    if config.constraints.classes and feed.per_class is not None:
        lanes = np.array([list(feed.classes).index(name) for name in config.constraints.classes])
        own = batch.lanes != START
        at = np.where(own, lanes[batch.lanes], at)
        scores = np.where(own, feed.per_class[positions, at], scores)
    return scores, names_of(feed.classes, at)


def _reasons(feed: Feed, config: SelectionConfig, chosen: Sampler, limits: Limits, batch: Batch, n: int) -> list[str]:
    base, classes = _base(feed, config, chosen, n), config.constraints.classes
    short = "" if limits.gates or limits.barred.any() or n <= len(feed.ids) else f"; {n} asked, {len(feed.ids)} there"
    words = []
    for lane, because, moved in zip(batch.lanes.tolist(), batch.because, batch.moved, strict=True):
        turn = f", round-robin: {classes[lane]}" if classes and lane != START else ""
        must = "; must-include" if lane == START else ""
        after = f"; after {moved}" if moved else ""
        words.append(base + turn + must + after + (f"; {because}" if because else "") + short)
    return words


def _base(feed: Feed, config: SelectionConfig, chosen: Sampler, n: int) -> str:
    base = chosen.name
    if feed.rank_by is None:
        return base
    over = f", {how_ranked(config)}" if how_ranked(config) else ""
    if "scores" in chosen.needs_with(config.score_power):
        power = f"^{config.score_power:g}" if chosen.weighs and config.score_power != 1 else ""
        base += f" by {feed.rank_by}{power}{over}"
    if config.constraints.prefilter is not None:
        base += f", of the best {int(np.ceil(config.constraints.prefilter * n)):,} by {feed.rank_by}"
    return base


def _notes(feed: Feed, limits: Limits, batch: Batch, n: int) -> Sequence[str]:
    notes = list(limits.notes)
    for gate in limits.gates:
        refused, ruled_out = batch.refused[gate.name], batch.ruled_out[gate.name]
        if refused or ruled_out:
            notes.append(f"{gate.name}: {refused:,} picks refused, {ruled_out:,} more candidates ruled out")
    notes.extend(batch.notes)
    if (k := len(batch.positions)) < n:
        bound = limits.gates or limits.barred.any() or any(lane.open is not None or lane.most for lane in limits.lanes)
        why = "no other candidate is within the constraints" if bound else "there are no more candidates"
        notes.append(f"{n:,} asked for, {k:,} picked of {len(feed.ids):,}: {why}")
    return notes
