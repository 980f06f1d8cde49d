"""People on foot: along the pavement, and over the crossing while the cars wait."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.actors import Actor, Track
from poolscout.sandbox.figures import Dress, Walker
from poolscout.sandbox.roadside import Placed, Street
from poolscout.sandbox.route import Route, signal_state
from poolscout.sandbox.settings import PERSON, District, StreetSettings
from poolscout.sandbox.textures import half_road_m

WALK_M_PER_S = 1.35
STANDING = 0.2
TOGETHER = 0.35
"""Share of walkers who have somebody beside them."""


def walkers(
    streets: list[Street],
    district: District,
    settings: StreetSettings,
    crowd: float,
    times_s: NDArray[np.float64],
    rng: np.random.Generator,
) -> Placed:
    """People on the pavements of the given blocks; `crowd` scales their number."""
    half = half_road_m(district, settings)
    people: Placed = []
    for street in streets:
        for side in (-1.0, 1.0):
            for _ in range(rng.poisson(district.people * crowd)):
                walks = bool(rng.random() > STANDING)
                back = float(rng.integers(2)) * math.pi
                lateral = half + float(rng.uniform(0.7, max(district.pavement_m - 0.4, 0.8)))
                start = street.place(float(rng.uniform(0, settings.block_m)), side * lateral, back, settings)
                speed = WALK_M_PER_S * float(rng.uniform(0.8, 1.2)) if walks else 0.0
                for beside in range(1 + int(rng.random() < TOGETHER)):
                    people.append(_walk(start, 0.65 * beside, speed, times_s, rng))
    return people


def _walk(
    start: Track, beside_m: float, speed: float, times_s: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Actor, Track]:
    heading = float(start.heading[0, 0])
    gone = times_s * speed
    x = start.x[0, 0] + gone * math.sin(heading) + beside_m * math.cos(heading)
    z = start.z[0, 0] + gone * math.cos(heading) - beside_m * math.sin(heading)
    facing = heading if speed else heading + float(rng.uniform(-math.pi, math.pi))
    actor = Actor(
        Walker(Dress.drawn(rng), -math.inf, math.inf if speed else -math.inf, float(rng.uniform(0, 1))),
        PERSON,
        shadow_m=0.25,
    )
    columns = (v[:, None] for v in (x, z, np.full_like(x, facing), np.full_like(x, speed)))
    return actor, Track(*columns)


def crossers(
    route: Route,
    district: District,
    settings: StreetSettings,
    phase_s: float,
    crowd: float,
    times_s: NDArray[np.float64],
    rng: np.random.Generator,
) -> Placed:
    """People who walk over the zebra crossing before the camera car while its light is red."""
    if not district.signals:
        return []
    half = half_road_m(district, settings)
    width = 2 * half + 1.6
    people: Placed = []
    for column, row, heading, _, _ in route.crossings:
        reds = [
            t
            for t in np.arange(-12.0, times_s[-1], 1.0)
            if signal_state(t, column, row, heading % 2 == 0, phase_s, settings) == "red"
            and signal_state(t - 1.0, column, row, heading % 2 == 0, phase_s, settings) != "red"
        ]
        for red_since in reds:
            for _ in range(rng.poisson(0.8 * crowd)):
                side = float(rng.choice((-1.0, 1.0)))
                along = -(half + float(rng.uniform(1.2, 3.4)))
                start = Street(column, row, heading).place(along, side * width / 2, -side * math.pi / 2, settings)
                people.append(_crossing(start, float(red_since + rng.uniform(0.5, 5.0)), width, times_s, rng))
    return people


def _crossing(
    start: Track, leaves_s: float, width_m: float, times_s: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Actor, Track]:
    """Waits at the kerb, walks over, stays on the other side."""
    heading = float(start.heading[0, 0])
    gone = np.clip((times_s - leaves_s) * WALK_M_PER_S, 0.0, width_m)
    x, z = start.x[0, 0] + gone * math.sin(heading), start.z[0, 0] + gone * math.cos(heading)
    speed = np.where((gone > 0) & (gone < width_m), WALK_M_PER_S, 0.0)
    actor = Actor(
        Walker(Dress.drawn(rng), leaves_s, leaves_s + width_m / WALK_M_PER_S, float(rng.uniform(0, 1))),
        PERSON,
        shadow_m=0.25,
    )
    return actor, Track(*(v[:, None] for v in (x, z, np.full_like(x, heading), speed)))
