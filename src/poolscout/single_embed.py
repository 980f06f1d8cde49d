"""Embedding alone, outside a run: what `poolscout embed` calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poolscout.assemble import image_reader, resolve_device
from poolscout.embedding import embed_pool, load_backbone, pretrained_weights
from poolscout.engine import open_executor
from poolscout.engine.progress import Progress
from poolscout.pool import QuarantineLimit, Storage
from poolscout.single import pool_inputs, single_config, single_stage
from poolscout.tables.declared import QUARANTINE
from poolscout.tables.manifest import Work
from poolscout.tables.parquet import read_table

PRETRAINED = "pretrained"  # in the place of a file of weights


def embed_source(
    source: Path | str,
    name: str,
    weights: str,
    out: Path,
    *,
    images: Path | str | None,
    overrides: Sequence[str],
    progress: Progress,
    height: int | None = None,
    width: int | None = None,
    redo_stale: bool = False,
) -> dict[str, Any]:
    """Embed every image of a source with a pre-trained backbone; tables go to `out`, finished parts are kept.

    Args:
        source: as `pool.source`: a path or URL of anything that holds or lists images.
        name: vgg16, resnet50, dinov2_vits14, or a name of timm's.
        weights: a file, or `pretrained`: those that were published.
        height, width: the backbone's input, px; default 224 × 384, rounded up to whole patches.

    Raises:
        ConfigError: no such backbone, a file that is none of weights, or a setting that does not exist.
        DataError: weights that cannot be read or are another backbone's; a source without usable images.
        CapabilityError: timm is needed and not installed.
        RunError: `out` holds embeddings of other images, weights or settings, and `redo_stale` is off.
    """
    config = single_config(source, images, overrides)
    device = resolve_device(config.device, config.engine)
    path = pretrained_weights(name, progress.say) if weights == PRETRAINED else Path(weights)
    backbone = load_backbone(name, path, height, width, device)
    size = {"height": backbone.architecture.height, "width": backbone.architecture.width}
    batches = {"batch_size": config.scoring.batch_size, "shard_size": config.scoring.shard_size}
    with single_stage(out, "embed", config, progress, redo_stale=redo_stale) as (folder, listing, progress):
        inputs = {"weights": backbone.weights, **pool_inputs(out, listing)}

        def do() -> None:
            bar = progress.task("embedding", listing.pool.num_rows)
            with open_executor(config.engine) as executor, bar as task:
                embed_pool(
                    listing.pool,
                    image_reader(listing.pool, config.pool.max_pixels, Storage.of(config.pool)),
                    backbone,
                    out,
                    batch_size=config.scoring.batch_size,
                    shard_size=config.scoring.shard_size,
                    executor=executor,
                    limit=QuarantineLimit(config.pool.max_quarantined, listing.pool.num_rows),
                    say=progress.say,
                    progress=lambda done, _: task.update(done),
                )

        work = Work("embed", {"backbone": name, **size, **batches}, inputs)
        folder.stage(out, work, [out / "embeddings", out / "quarantine"], do)
    n_rejected = read_table(out / "quarantine", QUARANTINE).num_rows
    return {
        "embedded": listing.pool.num_rows - n_rejected,
        "in quarantine": n_rejected + listing.quarantine.num_rows,
        "numbers an image": backbone.d,
        "weights": path,
        "written": out,
    }
