"""Selection from tables: candidates in, the selection table with each pick's reasons out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import SelectionConfig
from poolscout.engine import Executor
from poolscout.errors import CapabilityError, ConfigError, PoolscoutError, TableError, some
from poolscout.formats.embeddings import Embeddings
from poolscout.selection.api import check_budget
from poolscout.selection.columns import frame_column
from poolscout.selection.constraints import Asked, pick_batch
from poolscout.selection.feed import Feed, check_ranking, feed_of
from poolscout.selection.keys import Keys, fingerprints, read_keys, write_keys
from poolscout.selection.limits import check_classes, limits_of, listed_ids
from poolscout.selection.reasons import selection_table
from poolscout.selection.registry import samplers


def check_sampler(name: str, *, scored: bool = True) -> None:
    """Refuse, before anything is trained, a sampler that does not exist or cannot be fed.

    Args:
        name: the sampler.
        scored: whether scores and embeddings will be there when it is asked.

    Raises:
        ConfigError: no such sampler; names the nearest.
        CapabilityError: it needs scores or embeddings, and there are none yet.
    """
    needs = [need for need in samplers.get(name).needs if need in ("scores", "embeddings")]
    if needs and not scored:
        able = [other for other in samplers.names() if not set(samplers.get(other).needs) & {"scores", "embeddings"}]
        raise CapabilityError(
            f"sampler {name!r} needs {some(needs)}, and nothing is scored yet",
            got=name,
            expected=" or ".join(able),
            fix=f"use {able[0]!r} here",
        )


def check_constraints(config: SelectionConfig, classes: Sequence[str], pool: pa.Table) -> None:
    """Refuse, before anything is trained, constraints that this pool cannot be held to.

    Raises:
        ConfigError: no such class; a sampler without scores is to go round-robin over classes.
        DataError: a list of images that cannot be read.
        CapabilityError, TableError: frame numbers are needed, and images have none.
    """
    check_ranking(samplers.get(config.sampler), config)
    check_classes(config, classes)
    for listed in (config.constraints.exclude, config.constraints.include):
        listed_ids(listed)
    if config.constraints.min_gap is not None:
        frame_column(pool, pool["image_id"], "images")


def candidate_rows(pool: pa.Table, scores: pa.Table) -> pa.Table:
    """The rows of a pool table that have scores, with the score table's columns, by image_id.

    (Arrow's own join refuses list columns such as the per-class scores.)
    """
    ids = scores["image_id"].combine_chunks()
    strangers = ids.filter(pc.invert(pc.is_in(ids, value_set=pool["image_id"].combine_chunks())))
    if len(strangers):
        raise TableError(
            f"{len(strangers)} images have scores but are not in the pool",
            got=some(sorted(strangers.to_pylist())),
            expected="scores of this pool's images",
            fix="name the pool that was scored",
        )
    where = pc.index_in(pool["image_id"], value_set=ids)
    scored = pool.filter(where.is_valid())
    matched = scores.take(where.drop_null())
    for name in scores.column_names:
        if name != "image_id":
            scored = scored.append_column(name, matched[name])
    return scored


def select_images(
    candidates: pa.Table,
    embeddings: pa.Table | Embeddings | None,
    config: SelectionConfig,
    n: int,
    seed: int,
    *,
    labelled: Collection[str] | pa.Array,
    rank_by: str | None = None,
    classes: Sequence[str] = (),
    detections: Iterable[pa.Table] | None = None,
    pool: pa.Table | None = None,
    keys: Path | None = None,
    device: str = "cpu",
    executor: Executor | None = None,
) -> pa.Table:
    """Pick `n` images within the constraints, or all there are when there are fewer; the rows' order does not matter.

    Args:
        candidates: image_id; `sequence` and `frame` for what looks at them; the score column `rank_by` and, beside it,
            `{rank_by}_per_class`.
        embeddings: with one for each candidate, for samplers and constraints that look at them; never copied as a
            whole, except a table whose embeddings lie in several chunks.
        config: sampler and metric; how the scores of classes become one; constraints and prices.
        n: images to pick, those that must be included among them.
        seed: of samplers that draw.
        labelled: image ids that have labels; a candidate among them is picked as a repeat and costs nothing. For
            whatever measures distances, those with embeddings count as centres.
        rank_by: the score to rank by; None for samplers that do not look at scores.
        classes: names in the order of the per-class scores.
        detections: parts of a detection table, for budgets in boxes or minutes; read only when they are needed.
        pool: image_id, sequence and frame of the labelled images, for constraints.gap_to_labelled.
        keys: folder in which samplers that measure distances keep them: what is still valid of an earlier selection is
            used, and what this one knows replaces it. The picks are the same with and without.
        device: where samplers that can use a GPU calculate; the picks are the same everywhere.
        executor: whose actors, if it has any, hold the embeddings of a large pool; the picks are the same.

    Returns:
        The selection table, in pick order; `notes_of` it says what the constraints did. Ties go to the lowest image_id.

    Raises:
        ConfigError: an unknown sampler or class, a negative n, settings that contradict each other.
        CapabilityError: the sampler or a constraint needs what is not given.
        DataError: a list of images that cannot be read, or that is not of the candidates.
        TableError: the candidates lack `rank_by`; an image is there twice, or without an embedding or frame number.
        NonFiniteError: NaN or infinity in a score or an embedding; names the image ids.
    """
    chosen, n = samplers.get(config.sampler), check_budget(n)
    check_ranking(chosen, config)
    if keys is not None and not chosen.keeps:
        keeping = [name for name in samplers.names() if samplers.get(name).keeps]
        raise ConfigError(
            f"sampler {chosen.name!r} has no distances to keep", got=f"keys: {keys}", expected=" or ".join(keeping),
            fix="leave the keys out, or choose another sampler",
        )  # fmt: skip
    earlier, notes = _earlier(keys, config.metric)
    feed = feed_of(
        candidates, embeddings, config, chosen, labelled=labelled, rank_by=rank_by, classes=classes, keys=earlier,
        device=device, executor=executor,
    )  # fmt: skip
    limits = limits_of(feed, config, n, detections, pool)
    batch = pick_batch(chosen, limits.lanes, n, seed, gates=limits.gates, start=limits.start, barred=limits.barred)
    if keys is not None and batch.asked is not None:
        try:
            write_keys(keys, _learned(feed, batch.asked))
        except (OSError, PoolscoutError) as error:  # the selection does not depend on them
            notes.append(f"the distances could not be kept for the next selection: {str(error).splitlines()[0]}")
    batch = replace(batch, notes=(*batch.notes, *notes))
    return selection_table(feed, config, chosen, limits, batch, n)


def _earlier(keys: Path | None, metric: str) -> tuple[Keys | None, list[str]]:
    """Keys of an earlier selection; damaged ones are nothing but lost time."""
    try:
        return None if keys is None else read_keys(keys, metric), []
    except (OSError, PoolscoutError) as error:
        return None, [f"{keys}: not readable, so all distances are measured again ({str(error).splitlines()[0]})"]


def _learned(feed: Feed, asked: Asked) -> Keys:
    """What a selection knows of distances now."""
    seen = feed.candidates
    assert seen.embeddings is not None
    assert seen.labelled_embeddings is not None
    labelled = fingerprints(seen.labelled_embeddings, np.arange(len(seen.labelled_embeddings)))
    return Keys(
        seen.metric, feed.ids.take(pa.array(asked.positions)),
        fingerprints(seen.embeddings, seen.rows_of(asked.positions)), asked.known,
        pa.concat_arrays([feed.centres, feed.ids.take(pa.array(asked.centres))]),
        np.concatenate([labelled, fingerprints(seen.embeddings, seen.rows_of(asked.centres))]),
    )  # fmt: skip
