"""Selection alone, outside a run: what `poolscout select` calls."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.assemble import resolve_device
from poolscout.config import SelectionConfig
from poolscout.engine import Executor
from poolscout.errors import ConfigError, TableError, some
from poolscout.formats.embedding_files import ids_beside
from poolscout.formats.embeddings import Embeddings, read_embeddings
from poolscout.formats.id_lists import read_image_ids
from poolscout.selection import candidate_rows, notes_of, select_images
from poolscout.selection.checks import check_keys_folder, keep_apart, unknown_labelled
from poolscout.selection.columns import embedding_rows, id_array, positions_of, predicted_boxes, sequence_codes
from poolscout.selection.compare import N_SAMPLED, coverage, overlap
from poolscout.selection.registry import Candidates, samplers
from poolscout.tables.declared import BOX_COUNTS, CLASSES_KEY, DETECTIONS, POOL, SCORES, SELECTION
from poolscout.tables.named import check_ending, write_as_named
from poolscout.tables.parquet import iter_parts, read_schema, read_table, write_table

_POOL_COLUMNS = ("image_id", "sequence", "frame")


@dataclass(frozen=True)
class Sources:
    """Where a selection reads from.

    Attributes:
        scores: table or folder of parts; its metadata names the classes.
        rank_by: score column; None: the table's first.
        pool: pool table, for sequences and frames.
        embeddings: Parquet file, folder of parts, or .npy with rows as in NAME.ids.txt or `pool`.
        detections: detection table, for predicted boxes.
        labelled: list of the images that are labelled already.
        repeats: these may be picked again.
        keys: folder of distances that an earlier selection has calculated, and that this one leaves behind.
        device: auto, cpu, cuda or cuda:0.
        executor: whose actors, if it has any, hold the embeddings of a large pool.
    """

    scores: Path
    rank_by: str | None = None
    pool: Path | None = None
    embeddings: Path | None = None
    detections: Path | None = None
    labelled: Path | None = None
    repeats: bool = False
    keys: Path | None = None
    device: str = "cpu"
    executor: Executor | None = None


@dataclass(frozen=True)
class _Given:
    """What was read."""

    candidates: pa.Table
    rank_by: str
    classes: Sequence[str]
    pool: pa.Table | None
    embeddings: Embeddings | None
    detections: Path | None
    labelled: pa.Array
    device: str
    executor: Executor | None
    notes: Sequence[str]

    def pick(self, config: SelectionConfig, n: int, seed: int, keys: Path | None = None) -> pa.Table:
        return select_images(
            self.candidates, self.embeddings, config, n, seed, labelled=self.labelled, rank_by=self.rank_by,
            classes=self.classes, pool=self.pool, detections=None if self.detections is None else self.parts(),
            keys=keys, device=self.device, executor=self.executor,
        )  # fmt: skip

    def parts(self) -> Iterator[pa.Table]:
        assert self.detections is not None
        return iter_parts(self.detections, DETECTIONS, BOX_COUNTS)


def select_from_tables(sources: Sources, config: SelectionConfig, out: Path, seed: int) -> dict[str, Any]:
    """Pick `config.n` images from score tables and write the selection as Parquet or CSV.

    Returns:
        What was picked, for people; "notes": what the constraints did.

    Raises:
        ConfigError: a setting or score column that does not exist, or an `out` that cannot be.
        Others as of `select_images`.
    """
    check_ending(out)
    _check([out], sources, config)
    samplers.get(config.sampler)
    started = time.monotonic()
    given = _read(sources)
    picks = given.pick(config, config.n, seed, sources.keys)
    write_as_named(out, SELECTION, picks)
    facts = _facts(picks, given, config)
    seconds = round(time.monotonic() - started, 1)
    return {"picked": picks.num_rows, "sampler": config.sampler, **facts, "seconds": seconds, "written": out} | (
        {"notes": [*given.notes, *notes_of(picks)]}
    )


def compare_samplers(
    names: Sequence[str], sources: Sources, config: SelectionConfig, out: Path | None, seed: int
) -> dict[str, Any]:
    """Pick with each sampler, under the same constraints, and say how the batches differ.

    Args:
        names: of samplers, two or more.
        out: a folder for one selection each; None: nothing is written.

    Returns:
        "samplers": one row of figures each; "overlap": the share of common picks by name, pairwise; "notes".

    Raises:
        ConfigError: fewer than two samplers, one twice, or an `out` that cannot be.
        Others as of `select_images`.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            "--compare: nothing to compare", got=", ".join(names), expected="two or more samplers, each once"
        )
    if sources.keys is not None:
        raise ConfigError(
            "--keys does not go with --compare", got=sources.keys, expected="one of them",
            fix="keep the distances of the sampler that is chosen in the end",
        )  # fmt: skip
    for name in names:
        samplers.get(name)
    if out is not None:
        if out.suffix or out.is_file():
            raise ConfigError(
                f"--out {out}: not a folder", got=out.name, expected="a folder for one selection of each sampler",
                fix="name a folder, or leave --out out",
            )  # fmt: skip
        _check([out / f"{name}.parquet" for name in names], sources, config)
    given = _read(sources)
    rows: list[dict[str, Any]] = []
    picked: dict[str, np.ndarray] = {}
    notes = list(given.notes)
    known = _Known.of(given, config)
    for name in names:
        started = time.monotonic()
        picks = given.pick(config.model_copy(update={"sampler": name}), config.n, seed)
        seconds = round(time.monotonic() - started, 1)
        at = picked[name] = positions_of(picks["image_id"].combine_chunks(), known.ids)
        rows.append({"sampler": name, "picked": picks.num_rows, **known.figures(at, seed), "seconds": seconds})
        notes.extend(f"{name}: {note}" for note in notes_of(picks))
        if out is not None:
            write_table(out / f"{name}.parquet", SELECTION, picks)
    if known.candidates is not None and len(known.ids) > N_SAMPLED:
        notes.append(
            f"distances: to the nearest pick, of a random sample of {N_SAMPLED:,} of {len(known.ids):,} candidates"
        )
    shared = {one: {other: overlap(picked[one], picked[other]) for other in names if other != one} for one in names}
    return {"samplers": rows, "overlap": shared, "notes": notes} | ({} if out is None else {"written": out})


@dataclass(frozen=True)
class _Known:
    """What batches are compared by, in the order of `ids`; None for what was not given."""

    ids: pa.Array
    scores: np.ndarray
    sequences: np.ndarray | None
    boxes: np.ndarray | None
    candidates: Candidates | None

    @classmethod
    def of(cls, given: _Given, config: SelectionConfig) -> _Known:
        ids, candidates = given.candidates["image_id"].combine_chunks(), None
        if given.embeddings is not None:
            values, rows, _ = embedding_rows(given.embeddings, ids, pa.array([], pa.string()))
            candidates = Candidates(len(ids), embeddings=values, rows=rows, metric=config.metric)
        boxes = None
        if given.detections is not None:
            boxes = predicted_boxes(ids, given.parts(), config.price.min_probability)
        scores = given.candidates[given.rank_by].to_numpy()
        return cls(ids, scores, sequence_codes(given.candidates)[0], boxes, candidates)

    def figures(self, at: np.ndarray, seed: int) -> dict[str, Any]:
        figures: dict[str, Any] = {"mean score": float(self.scores[at].mean()) if len(at) else None}
        if self.candidates is not None and len(at):
            figures["farthest"], figures["mean distance"], _ = coverage(self.candidates, at, seed)
        if self.boxes is not None:
            figures["boxes"] = int(self.boxes[at].sum())
        if self.sequences is not None:
            figures["sequences"] = len(np.unique(self.sequences[at]))
        return figures


def _facts(picks: pa.Table, given: _Given, config: SelectionConfig) -> dict[str, Any]:
    """Of a batch, as far as the tables tell."""
    facts: dict[str, Any] = {}
    ids = picks["image_id"].combine_chunks()
    if config.constraints.classes:
        counts = Counter(picks["class"].to_pylist())
        facts |= {f"for {name}": counts[name] for name in config.constraints.classes}
    if repeats := pc.sum(picks["labelled_already"]).as_py():
        facts["of these labelled already"] = repeats
    if "sequence" in given.candidates.column_names:
        of_picks = given.candidates["sequence"].take(
            pc.index_in(ids, value_set=given.candidates["image_id"].combine_chunks())
        )
        facts["sequences"] = len(pc.unique(of_picks))
    if given.detections is not None:
        new = ids.filter(pc.invert(picks["labelled_already"].combine_chunks()))
        boxes = int(predicted_boxes(new, given.parts(), config.price.min_probability).sum())
        facts["predicted boxes"] = boxes
        if minutes := config.price.minutes(len(new), boxes):
            facts["labelling minutes"] = round(minutes, 1)
    return facts


def _read(sources: Sources) -> _Given:
    schema = read_schema(sources.scores, SCORES)
    columns = [c for c in schema.names if c != "image_id" and not c.endswith("_per_class")]
    if not columns:
        raise TableError(f"{sources.scores}: no score column", got=schema.names, expected="e.g. entropy_max")
    rank_by = sources.rank_by or columns[0]
    if rank_by not in columns:
        raise ConfigError(f"{sources.scores}: no score column {rank_by!r}", got=rank_by, expected=some(columns))
    wanted = [name for name in ("image_id", rank_by, f"{rank_by}_per_class") if name in schema.names]
    table = read_table(sources.scores, SCORES, wanted)
    if sources.pool is not None and sources.pool.suffix.lower() == ".json":
        raise ConfigError(
            f"--pool {sources.pool}: not a pool table", got="json", expected="the pool.parquet of `poolscout score`",
            fix="name the pool.parquet beside the scores",
        )  # fmt: skip
    pool = None if sources.pool is None else read_table(sources.pool, POOL, _POOL_COLUMNS)
    if pool is not None:
        table = candidate_rows(pool, table)
    labelled = pa.array([], pa.string()) if sources.labelled is None else read_image_ids(sources.labelled)
    scored = id_array(table["image_id"])
    if not sources.repeats:
        table = table.filter(pc.invert(pc.is_in(table["image_id"], value_set=labelled)))
    embeddings = None
    if sources.embeddings is not None:
        in_pool_order = sources.embeddings.suffix.lower() == ".npy" and ids_beside(sources.embeddings) is None
        pool_ids = None if pool is None else pool["image_id"]
        embeddings = read_embeddings(sources.embeddings, pool_ids if in_pool_order else None)
    known = [scored, *([] if pool is None else [id_array(pool["image_id"])])]
    known += [] if embeddings is None else [id_array(embeddings.image_ids)]
    notes = unknown_labelled(labelled, known, sources.labelled)
    classes = _classes(sources.scores, schema)
    device = resolve_device(sources.device)
    return _Given(
        table, rank_by, classes, pool, embeddings, sources.detections, labelled, device, sources.executor, notes
    )


def _classes(scores: Path, schema: pa.Schema) -> list[str]:
    told = (schema.metadata or {}).get(CLASSES_KEY, b"[]")
    try:
        classes = json.loads(told)
    except (ValueError, RecursionError):
        classes = None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise TableError(
            f"{scores}: its metadata does not name the classes", got=told, expected="a JSON list of names",
            fix="score the pool again",
        )  # fmt: skip
    return classes


def _check(outs: Sequence[Path], sources: Sources, config: SelectionConfig) -> None:
    lists = (config.constraints.exclude, config.constraints.include)
    read = [sources.scores, sources.pool, sources.embeddings, sources.detections, sources.labelled]
    read += [listed for listed in lists if isinstance(listed, Path)]
    keys = [] if sources.keys is None else [("--keys", sources.keys)]
    keep_apart([*(("--out", out) for out in outs), *keys], read)
    check_keys_folder(sources.keys)
