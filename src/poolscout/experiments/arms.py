"""The arms of an A/B test, and how each repeat splits them (Haussmann et al. 2020, section V)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import DataError, some
from poolscout.formats.id_lists import read_image_ids


@dataclass(frozen=True)
class Arms:
    """Selections that are compared.

    Attributes:
        reference: image ids that every model learns from.
        picked: arm → its image ids.
    """

    reference: list[str]
    picked: dict[str, list[str]]


@dataclass(frozen=True)
class Sides:
    """One repeat's split of all arms at once: a sequence is held out for all of them or for none.

    Attributes:
        learnt: arm → image ids to train on.
        held: arm → image ids to measure on; never empty.
        sequences: those held out; the reference set does without them too.
    """

    learnt: dict[str, list[str]]
    held: dict[str, list[str]]
    sequences: frozenset[str]

    @property
    def union(self) -> list[str]:
        """All images to measure on, by id."""
        return sorted({image_id for ids in self.held.values() for image_id in ids})


def read_arms(files: Mapping[str, Path], pool: pa.Table) -> dict[str, list[str]]:
    """Arm → the image ids it picked, each once, by id.

    Args:
        files: arm → a list of image ids, or an earlier selection.
        pool: image_id.

    Raises:
        DataError: fewer than two arms, an unreadable file, images that the pool lacks, or none.
    """
    if len(files) < 2:
        raise DataError(
            "an A/B test compares two arms or more", got=f"{len(files)}: {some(files)}",
            expected="--arm NAME=FILE twice, e.g. --arm manual=list.csv --arm al=selection.parquet",
        )  # fmt: skip
    return {name: known_ids(file, pool, f"arm {name}") for name, file in files.items()}


def known_ids(file: Path, pool: pa.Table, whose: str) -> list[str]:
    """The image ids in a file, each once, by id.

    Args:
        file: a list of image ids, or an earlier selection.
        pool: image_id.
        whose: for the message.

    Raises:
        DataError: an unreadable file, images that the pool lacks, or none.
    """
    ids = read_image_ids(file).unique()
    unknown = ids.filter(pc.invert(pc.is_in(ids, value_set=pool["image_id"])))
    if len(unknown) or not len(ids):
        raise DataError(
            f"{whose}: {len(unknown)} of {len(ids)} images are not in the pool", got=some(unknown.to_pylist()),
            expected="image ids of pool.source", fix=f"check {file}",
        )  # fmt: skip
    return sorted(ids.to_pylist())


def check_new(arms: Arms, say: Callable[[str], object]) -> None:
    """Say how many images of an arm every model learns from anyway.

    Raises:
        DataError: all of them: such an arm can gain nothing.
    """
    for name, ids in arms.picked.items():
        known = sorted(set(ids) & set(arms.reference))
        told = f"{len(known)} of {len(ids)} images of arm {name} are in the reference set already"
        if len(known) == len(ids):
            raise DataError(
                f"{told}: it can gain nothing", got=some(known), expected="images that are not labelled yet",
                fix="give another reference set, or another arm",
            )  # fmt: skip
        if known:
            say(told)


def split_arms(pool: pa.Table, arms: Mapping[str, Sequence[str]], seed: int, share: float = 0.1) -> Sides:
    """Hold out whole sequences so that about this share of each arm's images is measured on.

    Sequences are looked at in random order; one is held out as long as no arm's part grows by more than half of it
    beyond the share, and at least one image of every arm is held out.

    Args:
        pool: image_id and sequence.
        arms: arm → its image ids.
        seed: of the order.
        share: 0 … 1.

    Raises:
        DataError: images of unknown sequence, or an arm whose images all lie in one sequence.
    """
    ids = pa.array(sorted({image_id for picked in arms.values() for image_id in picked}), pa.string())
    rows = pool.filter(pc.is_in(pool["image_id"], value_set=ids))
    sequence_of = dict(zip(rows["image_id"].to_pylist(), rows["sequence"].to_pylist(), strict=True))
    unknown = [image_id for image_id, sequence in sequence_of.items() if sequence is None]
    if unknown:
        raise DataError(
            f"{len(unknown)} picked images belong to no known sequence, so they cannot be split without leaking",
            got=some(unknown), expected="a sequence for every image",
            fix="set pool.sequence to the column that names the recording",
        )  # fmt: skip
    counts = {name: _counts(sequence_of[image_id] for image_id in picked) for name, picked in arms.items()}
    short = [name for name, by_sequence in counts.items() if len(by_sequence) < 2]
    if short:
        raise DataError(
            f"arm {short[0]} lies in a single sequence: nothing can be held out of it", got=some(counts[short[0]]),
            expected="picks from two sequences or more", fix="pick from more recordings",
        )  # fmt: skip
    held = _held_sequences(counts, share, seed)
    sides = {name: [[i for i in picked if (sequence_of[i] in held) is side] for side in (False, True)]
             for name, picked in arms.items()}  # fmt: skip
    empty = [name for name, both in sides.items() if not both[0]]
    if empty:
        raise DataError(
            f"arm {empty[0]}: every one of its images would be held out", got=some(counts[empty[0]]),
            expected="picks from several sequences, most of them short", fix="pick from more recordings",
        )  # fmt: skip
    return Sides({name: both[0] for name, both in sides.items()}, {n: both[1] for n, both in sides.items()}, held)


def _counts(sequences: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for sequence in sequences:
        found[sequence] = found.get(sequence, 0) + 1
    return found


def _held_sequences(counts: Mapping[str, Mapping[str, int]], share: float, seed: int) -> frozenset[str]:
    names = sorted({sequence for by_sequence in counts.values() for sequence in by_sequence})
    wanted = {arm: share * sum(by_sequence.values()) for arm, by_sequence in counts.items()}
    taken, n = list[str](), dict.fromkeys(counts, 0)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]

    def take(sequence: str) -> None:
        taken.append(sequence)
        for arm, by_sequence in counts.items():
            n[arm] += by_sequence.get(sequence, 0)

    for sequence in order:
        sizes = {arm: by_sequence.get(sequence, 0) for arm, by_sequence in counts.items()}
        if all(n[arm] + size / 2 <= wanted[arm] for arm, size in sizes.items() if size):
            take(sequence)
    for arm, by_sequence in counts.items():
        if not n[arm]:  # all of its sequences are long: the shortest
            take(min((sequence for sequence in order if by_sequence.get(sequence)), key=lambda s: by_sequence[s]))
    return frozenset(taken)
