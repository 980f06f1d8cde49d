"""What stands or moves in the street, and where it is at each frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.settings import CLUTTER
from poolscout.sandbox.sprites import Thing

Poses = NDArray[np.float64]


@dataclass(eq=False)
class Actor:
    """One thing: how it looks, what it is, and what light it gives."""

    thing: Thing
    label: int = CLUTTER
    up_m: float = 0.0
    """Of its foot above the ground."""
    nearer_m: float = 0.0
    """Drawn this much nearer than it stands: a plate before its post, a rider before the bicycle."""
    lights: Literal["", "car", "lamp"] = ""
    signal: Callable[[float], str] | None = None
    """The lamp that is lit at a time, of a traffic light."""
    shadow_m: float = 0.0
    """Half depth of the dark patch under it; 0 = none."""


class Track(NamedTuple):
    """Poses [frames, actors]."""

    x: Poses
    z: Poses
    heading: Poses
    speed: Poses

    @staticmethod
    def still(x: float, z: float, heading: float) -> Track:
        return Track(*np.array((x, z, heading, 0.0)).reshape(4, 1, 1))

    @staticmethod
    def joined(tracks: list[Track], frames: int) -> Track:
        """All tracks side by side; none gives [frames, 0]."""
        if not tracks:
            return Track(*(np.zeros((frames, 0)) for _ in range(4)))
        return Track(*(np.concatenate(parts, axis=1) for parts in zip(*tracks, strict=True)))
