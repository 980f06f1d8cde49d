"""What is known of the candidates, in the order of their image ids: read once from tables, in columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64

from poolscout.config import SelectionConfig
from poolscout.engine import Executor
from poolscout.errors import ConfigError, TableError
from poolscout.formats.embeddings import Embeddings
from poolscout.selection.columns import (
    check_distinct,
    class_columns,
    embedding_rows,
    id_array,
    score_column,
    sequence_codes,
    with_embeddings,
)
from poolscout.selection.keys import Keys
from poolscout.selection.over_classes import rank_over_classes
from poolscout.selection.ranking import check_weighable
from poolscout.selection.registry import Candidates, Sampler


@dataclass(frozen=True)
class Feed:
    """n candidates by ascending image_id: the same whatever the order of the rows they came in.

    Attributes:
        rows: their table, with the columns that selection looks at.
        ids: [n].
        labelled: ids of the images that are labelled already, in alphabetical order; candidates may be among them.
        centres: ids of the labelled images that have embeddings, in the order of `candidates.labelled_embeddings`; None
            where embeddings are not looked at.
        candidates: what samplers look at.
        scores: one an image, None when there are none.
        best: the class that brings most of the score.
        per_class: the scores of each class, as the scoring pass stored them.
        classes: their names.
        rank_by: the score's column.
    """

    rows: pa.Table
    ids: pa.Array
    labelled: pa.Array
    centres: pa.Array | None
    candidates: Candidates
    scores: Float64[np.ndarray, " n"] | None
    best: Int64[np.ndarray, " n"] | None
    per_class: Float64[np.ndarray, "n classes"] | None
    classes: Sequence[str]
    rank_by: str | None


def feed_of(
    candidates: pa.Table,
    embeddings: pa.Table | Embeddings | None,
    config: SelectionConfig,
    chosen: Sampler,
    *,
    labelled: Collection[str] | pa.Array,
    rank_by: str | None,
    classes: Sequence[str],
    keys: Keys | None = None,
    device: str = "cpu",
    executor: Executor | None = None,
) -> Feed:
    """Arguments and errors as of `select_images`."""
    wanted = {"image_id", "sequence", "frame", *([rank_by, f"{rank_by}_per_class"] if rank_by else [])}
    table = candidates.select([name for name in candidates.column_names if name in wanted])
    rows = table.take(pc.sort_indices(table["image_id"]))
    ids = id_array(rows["image_id"])
    check_distinct(ids)
    known = id_array(labelled)
    known = known.take(pc.sort_indices(known))
    scores, best, per_class = _scores(rows, ids, rank_by, config, classes)
    if chosen.weighs and scores is not None:
        check_weighable(scores, config.score_power, ids)
    vectors = at = of_labelled = centres = None
    if embeddings is not None and ("embeddings" in chosen.needs or config.constraints.min_distance is not None):
        centres = with_embeddings(known if keys is None else keys.first(known), embeddings)
        vectors, at, of_labelled = embedding_rows(embeddings, ids, centres)
    learned = None
    if keys is not None and vectors is not None and of_labelled is not None:
        learned = keys.of(ids, vectors, at, centres, of_labelled)
    seen = Candidates(
        len(ids), scores, vectors, at, sequence_codes(rows)[0], config.metric, of_labelled, config.score_power,
        learned, device, executor,
    )  # fmt: skip
    return Feed(rows, ids, known, centres, seen, scores, best, per_class, classes, rank_by)


def looks_at_scores(chosen: Sampler, config: SelectionConfig) -> bool:
    """Whether what is picked depends on scores."""
    return "scores" in chosen.needs_with(config.score_power) or config.constraints.prefilter is not None


def check_ranking(chosen: Sampler, config: SelectionConfig) -> None:
    """Refuse settings of scores that would do nothing.

    Raises:
        ConfigError: the sampler does not look at scores.
    """
    how = "round-robin over classes" if config.constraints.classes else how_ranked(config)
    if how and not ("scores" in chosen.needs_with(config.score_power) or (how_ranked(config) and _prefilters(config))):
        raise ConfigError(
            f"sampler {chosen.name!r} does not look at scores, but they are to be ranked by {how}",
            got=chosen.name, expected="a sampler that does, e.g. top-n",
            fix="choose another sampler, or leave over_classes, class_weights, normalise_classes and "
            "constraints.classes out",
        )  # fmt: skip


def how_ranked(config: SelectionConfig) -> str:
    """In words, where it is not the highest class of plain scores."""
    words = [] if config.over_classes == "max" else [f"{config.over_classes} over classes"]
    return ", ".join([*words, *(["classes normalised"] if config.normalise_classes else [])])


def _prefilters(config: SelectionConfig) -> bool:
    return config.constraints.prefilter is not None


def _scores(
    rows: pa.Table, ids: pa.Array, rank_by: str | None, config: SelectionConfig, classes: Sequence[str]
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Each candidate's score, the class that brings most of it, and the scores of the classes; None where not known."""
    if rank_by is None:
        return None, None, None
    scores, column = score_column(rows, ids, rank_by), f"{rank_by}_per_class"
    if column not in rows.column_names or not classes:
        if how := "class" if config.constraints.classes else how_ranked(config):
            raise TableError(
                f"the candidates cannot be ranked by {how}",
                got=f"no column {column!r}" if classes else "scores that do not say which classes they are of",
                expected="scores of each class, as the scoring pass writes them",
                fix="score again with this release, or rank by the score column alone",
            )
        return scores, None, None
    per_class = class_columns(rows, ids, column, len(classes))
    ranked, best = rank_over_classes(per_class, config, classes)
    return ranked if how_ranked(config) else scores, best, per_class
