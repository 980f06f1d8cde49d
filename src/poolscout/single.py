"""One stage alone, outside a run: what the `train` and `evaluate` commands call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from poolscout.assemble import (
    image_reader,
    load_members,
    logged,
    resolve_device,
    seed_for,
    starting_members,
    training_progress,
    training_set_of,
    training_work,
)
from poolscout.config import PoolConfig, RunConfig, build_config
from poolscout.engine import open_executor
from poolscout.engine.progress import Progress
from poolscout.errors import ConfigError
from poolscout.evaluation import detect, evaluate, wmap
from poolscout.formats.annotations import annotations_hash, format_of, read_annotations
from poolscout.labels import Oracle, sizes_of
from poolscout.pool import PoolListing, Storage, check_listing, files_digest, list_pool
from poolscout.pool.listing_stage import images_path, listed_in
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import file_hash
from poolscout.tables.parquet import read_table, write_table
from poolscout.tables.runfolder import RunFolder
from poolscout.training import train_ensemble
from poolscout.training.member import n_steps
from poolscout.training.metrics import ensemble_metrics


def train_from_coco(
    annotations: Path,
    out: Path,
    *,
    images: Path | str | None,
    overrides: Sequence[str],
    progress: Progress,
    redo_stale: bool = False,
) -> dict[str, Any]:
    """Train an ensemble on annotated images (COCO, YOLO, VOC) into the folder `out`; finished members are kept.

    Raises:
        RunError: `out` holds members trained with other settings or labels, and `redo_stale` is off.
    """
    config, listing = listed(annotations, images, [f"pool.format={format_of(annotations)}", *overrides], progress)
    oracle = Oracle(
        annotations, config.labelling.classes, bad_boxes=config.labelling.bad_boxes, sizes=sizes_of(listing.pool)
    )
    for note in oracle.notes:
        progress.say(note)
    labels = oracle.reveal(listing.pool["image_id"].to_pylist())
    members = config.training.members
    inputs = {"annotations": annotations_hash(annotations), "images": files_digest(listing.pool["uri"])}
    work = training_work(config, members, oracle.classes, inputs)
    start = starting_members(config.training, config.detector)

    def do() -> None:
        reader = image_reader(listing.pool, config.pool.max_pixels, Storage.of(config.pool))
        data, rejected = training_set_of(
            labels, oracle.classes, listing.pool, {}, reader, config.detector, out / ".pixels"
        )
        steps = members * n_steps(len(data), config.training)
        bar, curves = progress.task("training", steps), ensemble_metrics(out / "metrics")
        with open_executor(config.engine) as executor, bar as task, curves as metrics:
            train_ensemble(
                data,
                oracle.classes,
                config.detector,
                config.training,
                out,
                members=members,
                seed=seed_for(config.seed, "train"),
                device=resolve_device(config.device, config.engine),
                progress=training_progress(task, members, metrics),
                executor=executor,
                start=start,
            )
        write_table(out / "quarantine.parquet", QUARANTINE, pa.concat_tables([listing.quarantine, rejected]))
        (out / ".pixels").unlink(missing_ok=True)

    folder = RunFolder(out, redo_stale=redo_stale, say=progress.say)
    with folder.lock(), logged(progress, out, "train", config) as progress:
        # Also members that are there beyond those asked for: an ensemble is all that lies in its folder.
        made = {out / f"member-{i}{suffix}" for i in range(members) for suffix in (".safetensors", ".json")}
        outputs = [*sorted(made), out / "quarantine.parquet"]
        folder.stage(out, work, outputs, do, stale=[*out.glob("member-*"), out / "metrics"])
    n_rejected = read_table(out / "quarantine.parquet", QUARANTINE).num_rows
    return {
        "trained": members,
        "images": listing.pool.num_rows + listing.quarantine.num_rows - n_rejected,
        "boxes": labels.boxes.num_rows,
        "in quarantine": n_rejected,
        "models": out,
    }


def evaluate_on_coco(
    annotations: Path,
    *,
    models: Path | None,
    detections: Path | None,
    images: Path | str | None,
    overrides: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """AP, AP50 and wMAP of an ensemble's members, or of a COCO results file."""
    if (models is None) == (detections is None):
        raise ConfigError(
            "what is to be evaluated?",
            got="both --models and --detections" if models else "neither --models nor --detections",
            expected="one of them",
        )
    if detections is not None:
        result = wmap(annotations, detections)
        return {"wMAP": result.value, "wMAP_by_count": result.by_count, "definition": result.definition}
    assert models is not None
    config, listing = listed(annotations, images, [f"pool.format={format_of(annotations)}", *overrides], progress)
    members = load_members(models, resolve_device(config.device, config.engine))
    with progress.task("evaluating", listing.pool.num_rows) as task:
        found, rejected = detect(
            members,
            listing.pool,
            image_reader(listing.pool, config.pool.max_pixels, Storage.of(config.pool)),
            height=members[0].architecture.height,
            width=members[0].architecture.width,
            progress=task.update,
        )
    bad = set(rejected["image_id"].to_pylist())
    n_bad = len(bad) + listing.quarantine.num_rows
    if n_bad:
        progress.say(f"{n_bad} test images cannot be read and are left out of the figures")
    sizes = sizes_of(listing.pool)
    metrics = evaluate(
        read_annotations(annotations, bad_boxes=config.labelling.bad_boxes, sizes=sizes),
        found,
        {image_id: size for image_id, size in sizes.items() if image_id not in bad},
        members[0].classes,
        len(members),
        config.evaluation.size_buckets,
        config.evaluation.least_boxes,
    )
    flat = {"AP50": metrics.mean.ap50, "AP": metrics.mean.ap, "wMAP": metrics.mean.wmap, "members": len(members)}
    return flat | {f"AP50 {name}": figures["AP50"] for name, figures in metrics.mean.per_class.items()}


def listed(
    source: Path | str, images: Path | str | None, overrides: Sequence[str], progress: Progress
) -> tuple[RunConfig, PoolListing]:
    """The settings of a single stage and the images it is about; for labelled images, which are few.

    Those for which `shortlist.where` holds, if it is set.
    """
    config = single_config(source, images, overrides)
    with progress.task(f"listing {source}", 0) as task:
        listing = list_pool(config.pool, progress=task.update)
    check_listing(config.pool.max_quarantined, listing.pool, listing.quarantine, f"the images of {source}")
    if config.shortlist.where is None:
        return config, listing
    from poolscout.pool.shortlist import shortlist  # DuckDB takes half a second to load

    found = shortlist(listing.pool, config.shortlist.where, config.shortlist.tables)
    progress.say(f"shortlist: {found.in_words}")
    return config, replace(listing, pool=found.pool)


def single_config(source: Path | str, images: Path | str | None, overrides: Sequence[str]) -> RunConfig:
    """The settings of a single stage."""
    named = {"source": str(source)} | ({} if images is None else {"images": str(images)})
    return build_config({"pool": named}, overrides)


@contextmanager
def single_stage(
    out: Path, stage: str, config: RunConfig, progress: Progress, *, redo_stale: bool
) -> Iterator[tuple[RunFolder, PoolListing, Progress]]:
    """The folder `out`, held for a pass over a pool alone; the pool, listed in `out/pool`; a progress with a log.

    Raises:
        ConfigError: tables and the pool's own files would lie in one folder; a condition, which this would not heed.
    """
    _keep_apart(out.resolve(), config.pool)
    if config.shortlist.where is not None:
        raise ConfigError(
            f"{stage} takes a pool as it is, without shortlist.where", got=config.shortlist.where,
            expected="a source that is short-listed already",
            fix="poolscout shortlist SOURCE --where … --out shortlist.parquet, and give that file as the source",
        )  # fmt: skip
    folder = RunFolder(out, redo_stale=redo_stale, say=progress.say)
    with folder.lock(), logged(progress, out, stage, config) as log:
        folder.keep_apart(stage, "embed" if stage == "score" else "score")
        yield folder, listed_in(folder, out / "pool", config.pool, log), log


def _keep_apart(out: Path, pool: PoolConfig) -> None:
    source, images = pool.source, pool.images
    is_mixed = (
        isinstance(source, Path) and source.is_dir() and (out.is_relative_to(source) or source.is_relative_to(out))
    )
    if is_mixed or out == images:  # `images` may be the root of much more, where file names start
        raise ConfigError(
            f"--out {out}: tables would lie among the files of the pool", got=source if is_mixed else images,
            expected="a folder of its own, beside that of the pool", fix="choose another --out",
        )  # fmt: skip


def pool_inputs(out: Path, listing: PoolListing) -> dict[str, str]:
    """What a pass depends on: the pool as it was listed in `out`, and its images' files as they are now."""
    return {"pool": file_hash(images_path(out / "pool")), "images": files_digest(listing.pool["uri"])}
