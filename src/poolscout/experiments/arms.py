"""The arms of an A/B test, and how each repeat splits them (Haussmann et al. 2020, section V)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

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


def split_arms(
    pool: pa.Table, arms: Mapping[str, Sequence[str]], seed: int, share: float = 0.1,
    family: Mapping[str, str] = MappingProxyType({}),
) -> Sides:  # fmt: skip
    """Hold out whole sequences so that about this share of each arm's images is measured on.

    Sequences, those of a family together, are looked at in random order; one is held out as long as no arm's part grows
    by more than half of it beyond the share, and at least one image of every arm is held out.

    Args:
        pool: image_id and sequence.
        arms: arm → its image ids.
        seed: of the order.
        share: 0 … 1.
        family: sequence → the name of those it must not be parted from; one that is missing stands alone.

    Raises:
        DataError: images of unknown sequence, or an arm whose images all lie in one sequence or family.
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
    family_of = {image_id: family.get(name, name) for image_id, name in sequence_of.items()}
    counts = {name: _counts(family_of[image_id] for image_id in picked) for name, picked in arms.items()}
    for name, by_family in counts.items():
        _check_parts(name, len({sequence_of[image_id] for image_id in arms[name]}), by_family)
    taken = _held_families(counts, share, seed)
    sides = {name: [[i for i in picked if (family_of[i] in taken) is side] for side in (False, True)]
             for name, picked in arms.items()}  # fmt: skip
    empty = [name for name, both in sides.items() if not both[0]]
    if empty:
        raise DataError(
            f"arm {empty[0]}: every one of its images would be held out", got=some(counts[empty[0]]),
            expected="picks from several sequences, most of them short", fix="pick from more recordings",
        )  # fmt: skip
    held = frozenset(name for name in {*sequence_of.values(), *family} if family.get(name, name) in taken)
    return Sides({name: both[0] for name, both in sides.items()}, {n: both[1] for n, both in sides.items()}, held)


def _check_parts(arm: str, n_sequences: int, by_family: Mapping[str, int]) -> None:
    if len(by_family) > 1:
        return
    where, fix = "a single sequence", "pick from more recordings"
    if n_sequences > 1:
        where = f"{n_sequences} sequences that all look alike"
        fix += "; or, where they are different places after all, lower experiment.near_duplicates (below 0: no check)"
    raise DataError(
        f"arm {arm} lies in {where}: nothing can be held out of it", got=some(by_family),
        expected="picks from two sequences or more", fix=fix,
    )  # fmt: skip


def _counts(families: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in families:
        found[name] = found.get(name, 0) + 1
    return found


def _held_families(counts: Mapping[str, Mapping[str, int]], share: float, seed: int) -> frozenset[str]:
    names = sorted({name for by_family in counts.values() for name in by_family})
    wanted = {arm: share * sum(by_family.values()) for arm, by_family in counts.items()}
    taken, n = list[str](), dict.fromkeys(counts, 0)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]

    def take(name: str) -> None:
        taken.append(name)
        for arm, by_family in counts.items():
            n[arm] += by_family.get(name, 0)

    for name in order:
        sizes = {arm: by_family.get(name, 0) for arm, by_family in counts.items()}
        if all(n[arm] + size / 2 <= wanted[arm] for arm, size in sizes.items() if size):
            take(name)
    for arm, by_family in counts.items():
        if not n[arm]:  # all of its families are large: the shortest
            take(min((name for name in order if by_family.get(name)), key=lambda f: by_family[f]))
    return frozenset(taken)
