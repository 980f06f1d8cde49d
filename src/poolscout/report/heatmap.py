"""`poolscout heatmap`: which image, which ensemble, and the figure of both as a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.config import PoolConfig, ScoringConfig
from poolscout.detector.member import Member
from poolscout.errors import ConfigError, DataError, RunError, nearest, some
from poolscout.pool import ImageReader, RejectedImage, Storage
from poolscout.report.figure import draw_figure
from poolscout.report.rundata import Round, RunData, read_run
from poolscout.report.seen import Seen, fitting, look
from poolscout.tables.atomic import atomic_path
from poolscout.tables.declared import POOL
from poolscout.tables.parquet import iter_parts

MOST_GUESSED = 20_000  # names compared when one is mistyped: comparing millions takes a minute


@dataclass(frozen=True)
class Target:
    """An image and the ensemble that looks at it.

    Attributes:
        image_id: what `reader` calls the image.
        reader: reads it.
        models: folder of the ensemble.
        scoring: which boxes are kept, how many dropout passes.
        origin: the run and round, for people.
    """

    image_id: str
    reader: ImageReader
    models: Path
    scoring: ScoringConfig
    origin: str


def find_target(image: str, *, run: Path | None, models: Path | None, number: int | None = None) -> Target:
    """Look up an image, and the models of a run's round or of a folder.

    Args:
        image: an image_id of the run's pool or test set, or the path of an image file.
        run: a run's folder.
        models: or a folder with member-*.safetensors; then `image` is a path.
        number: of the run's round; default: the last one whose ensemble is complete.

    Raises:
        ConfigError: neither or both of `run` and `models`, or a round without a run.
        RunError: not a run's folder, no models in it yet, or none in that round.
        DataError: no such image; names the nearest.
    """
    if (run is None) == (models is None):
        raise ConfigError(
            "whose view of the image?", got="both --run and --models" if run else "neither --run nor --models",
            expected="one of them", fix="name a run's folder, or a folder with member-*.safetensors",
        )  # fmt: skip
    if models is not None:
        if number is not None:
            raise ConfigError("--round goes with --run", got=f"--round {number} with --models", fix="leave it out")
        return Target(
            *_file(image, PoolConfig.model_fields["max_pixels"].default),
            models,
            ScoringConfig(),
            "/".join(models.parts[-2:]),
        )
    assert run is not None
    data = read_run(run)
    shown = _round_with_models(data, number)
    image_id, reader = _image_of_run(image, data)
    origin = f"{data.config.name}, round {shown.number}"
    return Target(image_id, reader, shown.path / "models", data.config.scoring, origin)


def write_heatmap(target: Target, members: Sequence[Member], names: Sequence[str], out: Path) -> dict[str, Any]:
    """Draw what the members see in the image and write it as PNG.

    Args:
        target: the image.
        members: the ensemble.
        names: scorers that give a map; empty: those of the paper's Figure 2 that fit the ensemble.
        out: the file.

    Returns:
        what was drawn: image, members, and the highest value of each scorer and class.

    Raises:
        DataError: the image cannot be read.
        ConfigError, CapabilityError, NonFiniteError: as `scoring.view`.
        StorageError: the disk is full or refuses.
    """
    try:
        photo = target.reader.read(target.image_id)
    except RejectedImage as error:
        raise DataError(
            f"{target.image_id}: the image cannot be used", got=f"{error.reason}: {error.detail}",
            expected="an image file", fix="repair it, or look at another image",
        ) from error  # fmt: skip
    shape = members[0].architecture
    names = list(dict.fromkeys(names)) or fitting(members)
    seen = look(members, target.reader, [target.image_id], names, target.scoring, shape)[target.image_id]
    facts = [
        target.origin,
        f"{len(members)} member{'s' if len(members) > 1 else ''}, input {shape.width} x {shape.height}",
    ]
    figure = draw_figure(photo, seen, Path(target.image_id).name, facts)
    with atomic_path(out) as temporary:
        figure.save(temporary, "PNG", optimize=True)
    return {"image": target.image_id, "members": len(members), "written": out, "highest": _highest(seen)}


def _highest(seen: Seen) -> dict[str, dict[str, float]]:
    return {name: dict(zip(seen.classes, maps.max((1, 2)).tolist(), strict=True)) for name, maps in seen.maps.items()}


def _round_with_models(run: RunData, number: int | None) -> Round:
    """The round asked for, or the last one with a whole ensemble, or with any."""
    able = [r for r in run.rounds if next(r.path.glob("models/member-*.safetensors"), None)]
    if not able:
        raise RunError(
            f"{run.path}: no models yet", got=run.state()[1], expected="a round with trained detectors",
            fix="start `poolscout run` again to go on, and look then",
        )  # fmt: skip
    if number is None:
        whole = [r for r in able if len(r.cards) >= run.config.training.members]
        return (whole or able)[-1]
    found = [r for r in able if r.number == number]
    if not found:
        raise RunError(
            f"{run.path}: round {number} has no models", got=f"--round {number}",
            expected=f"a round with trained detectors: {some((r.number for r in able), 20)}",
        )  # fmt: skip
    return found[0]


def _image_of_run(image: str, run: RunData) -> tuple[str, ImageReader]:
    config = run.config.pool
    for part in _images(run):
        rows = part.filter(pc.equal(part["image_id"], image))
        if rows.num_rows:
            return image, ImageReader({image: rows["uri"][0].as_py()}, config.max_pixels, Storage.of(config))
    if Path(image).exists():
        return _file(image, config.max_pixels)
    raise DataError(
        f"no image {image!r} in {run.path}", got=image,
        expected="an image_id of the run's pool or test set, or the path of an image file",
        fix=nearest(image, _resembling(image, run)) or "check the name",
    )  # fmt: skip


def _images(run: RunData) -> Iterator[pa.Table]:
    for name in ("pool", "test"):
        folder = run.path / name / "images"
        if folder.exists():
            yield from iter_parts(folder, POOL, ["image_id", "uri"])


def _resembling(image: str, run: RunData) -> list[str]:
    """Ids that hold the name that was typed; else the first ones, to compare letter by letter."""
    ids = pa.chunked_array([chunk for part in _images(run) for chunk in part["image_id"].chunks], pa.string())
    holding = ids.filter(pc.match_substring(ids, Path(image).stem, ignore_case=True)) if Path(image).stem else ids
    return (holding if len(holding) else ids).slice(0, MOST_GUESSED).to_pylist()


def _file(image: str, max_pixels: int) -> tuple[str, ImageReader]:
    path = Path(image)
    if not image or path.is_dir():
        raise DataError(
            f"{image or 'no name'}: not an image", got="a folder" if image else "an empty name",
            expected="an image_id, or the path of an image file", fix="name one image",
        )  # fmt: skip
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"{image}: no such image", got="no file there", expected="the path of an image file",
            fix=nearest(path.name, beside[:MOST_GUESSED]) or "check the path",
        )  # fmt: skip
    return image, ImageReader({image: str(path)}, max_pixels)
