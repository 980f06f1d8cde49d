"""Weights to start from: those of members trained before, on any images and classes, of the same architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from poolscout.config import DetectorConfig
from poolscout.detector.member import Member
from poolscout.errors import ConfigError

SHAPES = ("stem", "widths", "blocks", "neck", "stride")  # keys of the detector that its weights depend on
_OUTPUT = ("output.weight", "output.bias")  # a row a class, then four of the boxes
_BOX_ROWS = 4


def check_start(member: Member, detector: DetectorConfig, where: str) -> None:
    """Refuse a member whose weights do not fit a detector.

    Args:
        member: to start from.
        detector: to be trained.
        where: names the member in the error.

    Raises:
        ConfigError: they differ in what the weights depend on.
    """
    theirs, ours = (one.model_dump(mode="json", include=set(SHAPES)) for one in (member.architecture, detector))
    if differ := [key for key in SHAPES if theirs[key] != ours[key]]:
        raise ConfigError(
            f"training.start_from: {where} is another detector than the config's",
            got=", ".join(f"{key} {theirs[key]}" for key in differ),
            expected=", ".join(f"{key} {ours[key]}" for key in differ),
            fix="set detector." + ", detector.".join(differ) + " as it was trained, or train it again",
        )


def carried(start: Member, classes: Sequence[str], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a detector of `classes` that begins as `start`.

    Maps are carried over by their class's name; those of classes that `start` does not know are left fresh.

    Args:
        start: of the same architecture.
        classes: names in the order of the class indices.
        fresh: the state of a detector of `classes`, initialised.
    """
    known, weights = start.model.state_dict(), dict(fresh)
    weights |= {name: value for name, value in known.items() if name not in _OUTPUT}
    for name in _OUTPUT:
        rows = fresh[name].clone()
        rows[-_BOX_ROWS:] = known[name][-_BOX_ROWS:]
        for i, one in enumerate(classes):
            if one in start.classes:
                rows[i] = known[name][start.classes.index(one)]
        weights[name] = rows
    return weights
