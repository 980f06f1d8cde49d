"""What is learnt from and what is measured on: whole sequences held out, and no frame on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import DataError, some
from poolscout.experiments.look_alikes import families
from poolscout.formats.annotations import read_annotations
from poolscout.formats.content import Annotations
from poolscout.labels import sizes_of
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import Work, file_hash, fingerprint
from poolscout.tables.parquet import part_path, read_table, write_table
from poolscout.world import TestSet, World

SEED = 20_200_409  # of validation splits: the same for every seed and strategy


def held_out(world: World, share: float, near_duplicates: int) -> World:
    """The same world with whole sequences of its pool as test images, and the rest as its pool.

    Sequences with frames that look alike (a car that waits at the same lights twice) go to the same side.

    Args:
        world: of the whole pool.
        share: of the pool's images, about.
        near_duplicates: see `check_look_alikes`.

    Raises:
        DataError: too few sequences, or frames of unknown sequence.
        RunError: another share was held out here before, and the folder may not redo it.
    """
    at = world.folder.path / "split"

    def do() -> None:
        sides = split_by_sequence(world.pool, share, SEED, families(world.pool, world.reader, near_duplicates))
        for name, rows in zip(("pool", "held_out"), sides, strict=True):
            write_table(part_path(at / name, 0), POOL, rows)

    settings = {"validation": share, "seed": SEED, "near_duplicates": near_duplicates}
    work = Work("split", settings, {"pool": file_hash(world.pool_path)})
    world.folder.stage(at, work, [at / "pool", at / "held_out"], do)
    pool, images = read_table(at / "pool", POOL), read_table(at / "held_out", POOL)
    digest = fingerprint([world.oracle_digest, file_hash(at / "held_out")])
    test = TestSet(images, known_labels(world), world.reader, digest)
    return replace(world, pool=pool, pool_path=at / "pool", test=test)


def known_labels(world: World) -> Annotations:
    """All labels that the oracle answers from: for what measures, never for what learns."""
    labelling = world.config.labelling
    source = Path(labelling.annotations or world.config.pool.source)
    return read_annotations(source, bad_boxes=labelling.bad_boxes, sizes=sizes_of(world.pool))


def split_by_sequence(
    rows: pa.Table, share: float, seed: int, family: Mapping[str, str] = MappingProxyType({})
) -> tuple[pa.Table, pa.Table]:
    """Rows of whole sequences on either side; the second side has about this share of the rows.

    Sequences are taken in random order as long as the second side does not grow beyond half a sequence too much; both
    sides have at least one.

    Args:
        rows: with column `sequence`.
        share: of the rows, 0 … 1.
        seed: of the order.
        family: sequence → the name of those it must not be parted from; one that is missing stands alone.

    Raises:
        DataError: rows of unknown sequence, or fewer than two sequences.
    """
    unknown = rows.filter(pc.is_null(rows["sequence"]))
    if unknown.num_rows:
        raise DataError(
            f"{unknown.num_rows} images belong to no known sequence, so they cannot be split without leaking",
            got=some(unknown["image_id"].to_pylist()), expected="a sequence for every image",
            fix="set pool.sequence to the column that names the recording",
        )  # fmt: skip
    groups = pa.array([family.get(name, name) for name in rows["sequence"].to_pylist()], pa.string())
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(groups).to_pylist()}
    if len(counts) < 2:
        n = len(pc.unique(rows["sequence"]))
        alike = f", {n} sequences that all look alike" if n > len(counts) else ""
        raise DataError(
            "a split takes whole sequences", got=f"{len(counts)} sequence: {some(counts)}{alike}",
            expected="two or more", fix="set pool.sequence to a column that tells recordings apart",
        )  # fmt: skip
    names = sorted(counts)
    wanted, taken, n = share * rows.num_rows, list[str](), 0
    for position in np.random.default_rng(seed).permutation(len(names)):
        name = names[position]
        if len(taken) < len(names) - 1 and n + counts[name] / 2 <= wanted:
            taken.append(name)
            n += counts[name]
    if not taken:
        taken = [min(names, key=lambda name: (counts[name], name))]
    is_taken = pc.is_in(groups, value_set=pa.array(taken, pa.string()))
    return rows.filter(pc.invert(is_taken)), rows.filter(is_taken)


def check_sequences(learnt: pa.Table, measured: pa.Table, column: str | None, where: str) -> None:
    """Refuse a split in which a sequence is on both sides.

    Args:
        learnt, measured: image_id and, where it is known, `sequence`, or the column that means it.
        column: that column's name.
        where: for the message: whose split it is.

    Raises:
        DataError: names the sequences and images.
    """
    ours, theirs = (_sequences(table, column) for table in (learnt, measured))
    shared = sorted(set(ours) & set(theirs))
    if shared:
        images = [image for name in shared[:3] for image in (ours[name], theirs[name])]
        raise DataError(
            f"{where}: {len(shared)} sequences are on both sides",
            got=f"{some(shared)}; images such as {some(images, 6)}",
            expected="every sequence on one side: frames of one recording look alike",
            fix="split by whole sequences, or set pool.sequence to the column that names the recording",
        )  # fmt: skip


def check_named(pool: pa.Table, independent: bool) -> None:
    """Refuse to part images by their recordings where most of them name none: listing calls each its own sequence.

    Args:
        pool: image_id and sequence.
        independent: each does stand by itself.

    Raises:
        DataError: says how to name them.
    """
    if independent:
        return
    alone = pc.sum(pc.equal(pool["sequence"], pool["image_id"])).as_py() or 0  # in Arrow: each worker opens the pool
    if 2 * alone <= pool.num_rows:
        return
    columns = [name for name in pool.column_names if name not in {column.name for column in POOL.columns}]
    raise DataError(
        "images name no recordings: frames of one could end up on both sides of a split",
        got=f"{alone:,} of {pool.num_rows:,} images, each a sequence of its own",
        expected="a column that names the recording, or a folder for each",
        fix=(f"set pool.sequence to one of {some(columns, 20)}; or, " if columns else "name the recordings; or, ")
        + "where every image stands by itself, set experiment.independent_images to true",
    )  # fmt: skip


def unseen_sequences(learnt: pa.Table, measured: pa.Table, column: str | None) -> str | None:
    """What to say where `check_sequences` could see nothing; None where both sides name their recordings."""
    blind = [name for name, table in (("pool", learnt), ("test", measured)) if not _sequences(table, column)]
    if not blind:
        return None
    return (
        f"the {' and '.join(blind)} images name no recordings: one that is on both sides would not be seen, only "
        f"frames that look alike. pool.sequence names the column, now {column or 'sequence'}, for both"
    )


def _sequences(table: pa.Table, column: str | None) -> dict[str, str]:
    """Sequence → one of its images; none where every image is called a sequence of its own."""
    name = column if column in table.column_names else "sequence"
    if name not in table.column_names:
        return {}
    pairs: Sequence[tuple[object, str]] = list(zip(table[name].to_pylist(), table["image_id"].to_pylist(), strict=True))
    is_named = any(sequence is not None and sequence != image_id for sequence, image_id in pairs)
    return {str(sequence): image_id for sequence, image_id in pairs if sequence is not None} if is_named else {}
