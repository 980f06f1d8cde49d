"""Selection from tables: candidates in, the selection table with each pick's reasons out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import SelectionConfig
from poolscout.errors import CapabilityError, ConfigError, TableError, some
from poolscout.selection.api import check_budget, check_finite
from poolscout.selection.over_classes import rank_over_classes
from poolscout.selection.registry import Candidates, Sampler, run_sampler, samplers
from poolscout.tables.declared import SELECTION


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


def candidate_rows(pool: pa.Table, scores: pa.Table) -> pa.Table:
    """The rows of a pool table that have scores, with the score table's columns, by image_id.

    (Arrow's own join refuses list columns such as the per-class scores.)
    """
    strangers = set(scores["image_id"].to_pylist()) - set(pool["image_id"].to_pylist())
    if strangers:
        raise TableError(
            f"{len(strangers)} images have scores but are not in the pool",
            got=some(sorted(strangers)),
            expected="scores of this pool's images",
            fix="name the pool that was scored",
        )
    where = pc.index_in(pool["image_id"], scores["image_id"].combine_chunks())
    scored = pool.filter(where.is_valid())
    matched = scores.take(where.drop_null())
    for name in scores.column_names:
        if name != "image_id":
            scored = scored.append_column(name, matched[name])
    return scored


def select_images(
    candidates: pa.Table,
    embeddings: pa.Table | None,
    config: SelectionConfig,
    n: int,
    seed: int,
    *,
    labelled: Collection[str],
    rank_by: str | None = None,
    classes: Sequence[str] = (),
) -> pa.Table:
    """Pick `n` images, or all there are when there are fewer; the order of the rows does not matter.

    Args:
        candidates: image_id; `sequence` for samplers that look at it; the score column `rank_by` and, beside it,
            `{rank_by}_per_class`.
        embeddings: embedding table with a row for each candidate, for samplers that look at it.
        config: sampler and metric; how the scores of classes become one.
        n: images to pick.
        seed: of samplers that draw.
        labelled: image ids that have labels; a candidate among them is picked as a repeat. For samplers that measure
            distances, those with embeddings count as centres.
        rank_by: the score to rank by; None for samplers that do not look at scores.
        classes: names in the order of the per-class scores.

    Returns:
        The selection table, in pick order. Ties go to the lowest image_id.

    Raises:
        ConfigError: an unknown sampler, a negative n.
        CapabilityError: the sampler needs what is not given.
        TableError: the candidates lack `rank_by`; an image is there twice, or without an embedding.
        NonFiniteError: NaN or infinity in a score or an embedding; names the image ids.
    """
    chosen = samplers.get(config.sampler)
    if "scores" not in chosen.needs and _how_ranked(config):
        raise ConfigError(
            f"sampler {chosen.name!r} does not look at scores, but they are to be ranked by {_how_ranked(config)}",
            got=chosen.name, expected="a sampler that does, e.g. top-n",
            fix="choose another sampler, or leave over_classes, class_weights and normalise_classes out",
        )  # fmt: skip
    rows = candidates.take(pc.sort_indices(candidates["image_id"]))
    ids = rows["image_id"].to_pylist()
    _check_distinct(ids)
    scores, best = _scores(rows, ids, rank_by, config, classes)
    vectors, labelled_vectors = _embeddings(embeddings, ids, labelled, chosen)
    feed = Candidates(len(ids), scores, vectors, _sequences(rows), config.metric, labelled_vectors)
    picks = run_sampler(chosen, feed, check_budget(n), seed)
    ranked_by = rank_by if "scores" in chosen.needs else None
    reason = f"{chosen.name} by {ranked_by}" if ranked_by else chosen.name
    if n > len(ids):
        reason += f"; {n} asked, {len(ids)} there"
    if not ranked_by:
        scores, best = None, None
    elif scores is not None and (over := _how_ranked(config)):
        reason = reason.replace(f"by {ranked_by}", f"by {ranked_by}, {over}")
    picked = _with_reasons(
        rows.take(picks), None if scores is None else scores[picks],
        None if best is None else [classes[c] for c in best[picks]], reason, labelled,
    )  # fmt: skip
    return SELECTION.check(picked, "selection")


def _how_ranked(config: SelectionConfig) -> str:
    """In words, where it is not the highest class of plain scores."""
    words = [] if config.over_classes == "max" else [f"{config.over_classes} over classes"]
    return ", ".join([*words, *(["classes normalised"] if config.normalise_classes else [])])


def _with_reasons(
    picked: pa.Table, scores: np.ndarray | None, best: list[str] | None, reason: str, labelled: Collection[str]
) -> pa.Table:
    n = picked.num_rows
    return pa.table(
        {
            "rank": pa.array(np.arange(n), pa.int32()),
            "image_id": picked["image_id"],
            "score": pa.nulls(n, pa.float32()) if scores is None else pa.array(scores.astype(np.float32)),
            "class": pa.array([None] * n if best is None else best, pa.string()),
            "distance": pa.nulls(n, pa.float32()),
            "reason": pa.array([reason] * n, pa.string()),
            "labelled_already": pc.is_in(picked["image_id"], pa.array(sorted(labelled), pa.string())),
        }
    )


def _check_distinct(sorted_ids: Sequence[str]) -> None:
    double = [a for a, b in pairwise(sorted_ids) if a == b]
    if double:
        raise TableError(
            f"{len(double)} candidates are there twice", got=some(double), expected="each image_id once",
            fix="drop the doubles",
        )  # fmt: skip


def _scores(
    rows: pa.Table, ids: Sequence[str], rank_by: str | None, config: SelectionConfig, classes: Sequence[str]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Each candidate's score and the class that brings most of it; None for what is not known."""
    if rank_by is None:
        return None, None
    if rank_by not in rows.column_names:
        raise TableError(
            f"the candidates have no score column {rank_by!r}", got=some(rows.column_names, 20), expected=rank_by,
            fix="score the pool with this scorer and aggregate first",
        )  # fmt: skip
    scores = rows[rank_by].to_numpy().astype(np.float64)
    check_finite(scores, rank_by, ids)
    column = f"{rank_by}_per_class"
    if column not in rows.column_names or not classes:
        if _how_ranked(config):
            raise TableError(
                f"the candidates cannot be ranked by {_how_ranked(config)}",
                got=f"no column {column!r}" if classes else "scores that do not say which classes they are of",
                expected="scores of each class, as the scoring pass writes them",
                fix="score again with this release, or leave over_classes and normalise_classes out",
            )
        return scores, None
    per_class = np.array(rows[column].to_pylist(), np.float64).reshape(len(ids), len(classes))
    check_finite(per_class, column, ids)
    ranked, best = rank_over_classes(per_class, config, classes)
    return ranked if _how_ranked(config) else scores, best


def _sequences(rows: pa.Table) -> np.ndarray | None:
    if "sequence" not in rows.column_names:
        return None
    return np.unique(rows["sequence"].to_numpy(), return_inverse=True)[1].astype(np.int64)


def _embeddings(
    table: pa.Table | None, ids: Sequence[str], labelled: Collection[str], chosen: Sampler
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Embeddings of the candidates and of the labelled images, when the sampler looks at them."""
    if table is None or "embeddings" not in chosen.needs:
        return None, None
    vectors = np.stack(table["embedding"].to_numpy()) if table.num_rows else np.empty((0, 0), np.float32)
    at = {image_id: position for position, image_id in enumerate(table["image_id"].to_pylist())}
    missing = [image_id for image_id in ids if image_id not in at]
    if missing:
        raise TableError(
            f"{len(missing)} candidates have no embedding", got=some(missing), expected="one for each candidate",
            fix="take scores and embeddings from the same scoring pass",
        )  # fmt: skip
    of_candidates = vectors[[at[image_id] for image_id in ids]]
    check_finite(of_candidates, "embedding", ids)
    return of_candidates, vectors[[at[image_id] for image_id in sorted(labelled) if image_id in at]]
