"""A simulated expert who picks images by hand, for the A/B test (Haussmann et al. 2020, section V).

There, experts short-list by metadata, e.g. night drives, and then choose by eye what looks most helpful; what they end
up with is mostly sub-sequences of many frames of one video. So this one browses the short-listed clips in random order
and, where one shows a wanted class, takes the whole stretch from its first to its last appearance.

He is a competent opponent on purpose: he overlooks nothing that is labelled, never picks a clip that shows nothing
wanted, cuts the empty beginning and end off, and serves the wanted classes in turn. What he cannot see is what the
model has trouble with, nor that frames of a stretch are alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from poolscout.errors import DataError


@dataclass(frozen=True)
class Stretch:
    """Neighbouring frames of a clip.

    Attributes:
        wanted: the class that they were taken for.
        image_ids: in order of the frames.
    """

    wanted: str
    sequence: str
    image_ids: tuple[str, ...]


def browse(shortlist: pa.Table, shows: Mapping[str, Collection[str]], n: int, seed: int) -> list[Stretch]:
    """Pick n images, clip by clip; the last stretch is cut to fit.

    Args:
        shortlist: image_id, sequence and frame (null: in order of image_id) of what may be picked.
        shows: wanted class → ids of the images that show it; their order is that of the turns.
        n: images.
        seed: of the order in which clips are looked at.

    Returns:
        stretches in the order in which they were found; an image is in one of them at most.

    Raises:
        DataError: all stretches together have fewer images.
    """
    clips = _clips(shortlist)
    order = [sorted(clips)[i] for i in np.random.default_rng(seed).permutation(len(clips))]
    turns = {name: _found_in(order, clips, set(shows[name]), name) for name in shows}
    taken, picked = set[str](), list[Stretch]()
    while turns and len(taken) < n:
        for name in list(turns):
            found = _next_new(turns[name], taken, n - len(taken))
            if found is None:
                del turns[name]
            else:
                taken.update(found.image_ids)
                picked.append(found)
            if len(taken) == n:
                break
    if len(taken) < n:
        raise DataError(
            f"the manual expert finds too few images that show {' or '.join(shows)}", got=f"{len(taken):,}",
            expected=f"selection.n = {n:,} of the short-list",
            fix="lower selection.n, or loosen experiment.ab.where",
        )  # fmt: skip
    return picked


def _clips(shortlist: pa.Table) -> dict[str, list[str]]:
    """Sequence → its image ids in order of the frames."""
    rows = zip(*(shortlist[name].to_pylist() for name in ("sequence", "frame", "image_id")), strict=True)
    clips: dict[str, list[str]] = {}
    for sequence, _, image_id in sorted(rows, key=lambda row: (row[0], row[1] is None, row[1] or 0, row[2])):
        clips.setdefault(sequence, []).append(image_id)
    return clips


def _found_in(order: list[str], clips: Mapping[str, list[str]], shown: set[str], name: str) -> Iterator[Stretch]:
    for sequence in order:
        frames = clips[sequence]
        seen = [position for position, image_id in enumerate(frames) if image_id in shown]
        if seen:
            yield Stretch(name, sequence, tuple(frames[seen[0] : seen[-1] + 1]))


def _next_new(stretches: Iterator[Stretch], taken: set[str], most: int) -> Stretch | None:
    """The next stretch with images that are not taken yet, and these images, at most so many."""
    for stretch in stretches:
        new = tuple(image_id for image_id in stretch.image_ids if image_id not in taken)[:most]
        if new:
            return Stretch(stretch.wanted, stretch.sequence, new)
    return None
