"""Scoring alone, outside a run: what `poolscout score` calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.assemble import ensemble_hash, image_reader, load_members, resolve_device
from poolscout.config import RunConfig, ScorerChoice, ScoringConfig
from poolscout.engine import open_executor
from poolscout.engine.progress import Progress
from poolscout.errors import ConfigError, DataError, some
from poolscout.formats.predictions import Names, Predictions, names_of, read_predictions
from poolscout.pool import PoolListing, QuarantineLimit, Storage
from poolscout.pool.listing_stage import images_path
from poolscout.scoring import check_scoring, gives_of, score_pool
from poolscout.scoring.brought import gives_of_predictions, score_predictions, strongest
from poolscout.scoring.registry import scorers
from poolscout.single import pool_inputs, single_config, single_stage
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import Work, file_hash
from poolscout.tables.parquet import read_table

BOX_SCORERS = (ScorerChoice(scorer="detection_entropy", aggregate="sum"),)  # where there are boxes and no maps


def score_source(
    source: Path | str,
    models: Path,
    out: Path,
    *,
    images: Path | str | None,
    overrides: Sequence[str],
    progress: Progress,
    redo_stale: bool = False,
) -> dict[str, Any]:
    """Score every image of a source with the ensemble in `models`; tables go to `out`, finished parts are kept.

    Raises:
        RunError: `out` holds scores of other images, models or settings, and `redo_stale` is off.
    """
    config = single_config(source, images, overrides)
    members = load_members(models, resolve_device(config.device, config.engine))
    check_scoring(config.scoring.scorers, gives_of(members))  # before a folder is made and a pool listed
    with single_stage(out, "score", config, progress, redo_stale=redo_stale) as (folder, listing, progress):
        inputs = {"models": ensemble_hash(models), **pool_inputs(out, listing)}

        def do() -> None:
            bar = progress.task("scoring", listing.pool.num_rows)
            with open_executor(config.engine) as executor, bar as task:
                score_pool(
                    listing.pool,
                    image_reader(listing.pool, config.pool.max_pixels, Storage.of(config.pool)),
                    members,
                    config.scoring,
                    out,
                    height=members[0].architecture.height,
                    width=members[0].architecture.width,
                    executor=executor,
                    limit=QuarantineLimit(config.pool.max_quarantined, listing.pool.num_rows),
                    say=progress.say,
                    progress=lambda done, _: task.update(done),
                )

        work = Work("score", config.scoring.model_dump(mode="json"), inputs)
        folder.stage(out, work, [out / name for name in ("scores", "embeddings", "detections", "quarantine")], do)
    n_rejected = read_table(out / "quarantine", QUARANTINE).num_rows
    return {
        "scored": listing.pool.num_rows - n_rejected,
        "in quarantine": n_rejected + listing.quarantine.num_rows,
        "probabilities": gives_of(members).provenance,
        "written": out,
    }


def score_detections(
    source: Path | str,
    detections: Sequence[Path],
    out: Path,
    *,
    images: Path | str | None,
    overrides: Sequence[str],
    progress: Progress,
    redo_stale: bool = False,
) -> dict[str, Any]:
    """Score every image of a source by the boxes that a detector of one's own has found; tables go to `out`.

    Args:
        detections: COCO results or Parquet: one file, or one for each member; see `formats.predictions`.

    Raises:
        CapabilityError: a scorer needs more than these detections, e.g. maps.
        RunError: `out` holds scores of other images, detections or settings, and `redo_stale` is off.
    """
    inside = [path for path in detections if path.resolve().is_relative_to(out.resolve())]
    if inside:
        raise ConfigError(
            "the detections lie in the folder that is to be written", got=some(inside), expected="another --out",
            fix="choose another --out: this one's detections would be replaced by those that count",
        )  # fmt: skip
    config = single_config(source, images, overrides)
    scoring = config.scoring
    if "scorers" not in scoring.model_fields_set:  # the default one needs maps
        scoring = scoring.model_copy(update={"scorers": BOX_SCORERS})
        progress.say("scoring.scorers is not set: the sum of detection_entropy over each image's boxes")
    for choice in scoring.scorers:  # before a pool is listed; whether the detections will do, they say themselves
        scorers.get(choice.scorer)
    with single_stage(out, "score", config, progress, redo_stale=redo_stale) as (folder, listing, progress):
        names = _names(config, listing)
        found = read_predictions(detections, listing.pool, names)
        gives = gives_of_predictions(found)
        check_scoring(scoring.scorers, gives)
        for note in found.notes:
            progress.say(note)
        found = _counting(found, scoring, progress)
        inputs = {f"detections {number}": file_hash(path) for number, path in enumerate(detections)}
        inputs |= {"pool": file_hash(images_path(out / "pool")), "ids of images and categories": names.fingerprint}
        work = Work("score", scoring.model_dump(mode="json") | {"classes": list(found.classes)}, inputs)

        def do() -> None:
            with progress.task("scoring", listing.pool.num_rows) as task:
                score_predictions(listing.pool, found, scoring, out, task.update)

        outputs = [out / name for name in ("scores", "detections", "quarantine")]
        folder.stage(out, work, outputs, do, stale=[out / "embeddings"])
    return {
        "scored": listing.pool.num_rows,
        "in quarantine": listing.quarantine.num_rows,
        "boxes": len(found.images),
        "members": len(found.members),
        "probabilities": gives.provenance,
        "written": out,
    }


def _counting(found: Predictions, scoring: ScoringConfig, progress: Progress) -> Predictions:
    """The boxes that count, and a word about those that do not."""
    n_read, found = len(found.images), strongest(found, scoring.min_probability, scoring.max_boxes)
    limits = f"scoring.min_probability = {scoring.min_probability}, scoring.max_boxes = {scoring.max_boxes} an image"
    if not len(found.images):
        raise DataError(
            f"{found.name}: not one box counts", got=f"{n_read} boxes inside their images, all less probable",
            expected=limits, fix="lower scoring.min_probability, or look at the detector",
        )  # fmt: skip
    if len(found.images) < n_read:
        progress.say(f"{len(found.images):,} of {n_read:,} boxes count: {limits}")
    return found


def _names(config: RunConfig, listing: PoolListing) -> Names:
    """What ids in a file of predictions mean, for this pool."""
    known = pa.chunked_array([
        chunk for table in (listing.pool, listing.quarantine) for chunk in table["image_id"].chunks
    ], pa.string())  # fmt: skip
    kind, source = config.pool.format, config.pool.source
    is_json = isinstance(source, Path) and source.suffix.lower() == ".json"
    is_coco = kind == "coco" or (kind == "auto" and is_json)
    return names_of(known, Path(source) if is_coco else None, config.labelling.classes)
