"""Everything beside the road that does not move."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.actors import Actor, Track
from poolscout.sandbox.cars import Car
from poolscout.sandbox.figures import FRAMES, Bicycle
from poolscout.sandbox.furniture import (
    FURNITURE_KINDS,
    SIGN_KINDS,
    furniture,
    lamp_post,
    mast,
    post,
    sign,
    traffic_light,
    tree,
)
from poolscout.sandbox.route import Route, signal_state
from poolscout.sandbox.settings import BICYCLE, CAR, ROAD_SIGN, TRAFFIC_LIGHT, District, StreetSettings
from poolscout.sandbox.textures import half_road_m, lamp_places

Placed = list[tuple[Actor, Track]]
REACH_M = 110.0
"""Nothing farther off is large enough to be seen as anything."""


class Street(NamedTuple):
    """One block of a street, from the crossing (column, row) eastwards (heading 1) or northwards (0)."""

    column: int
    row: int
    heading: int

    def place(self, along_m: float, right_m: float, turn: float, settings: StreetSettings) -> Track:
        """A pose given from the crossing: metres along, metres to the right, heading relative to the street."""
        angle = self.heading * math.pi / 2
        x = self.column * settings.block_m + along_m * math.sin(angle) + right_m * math.cos(angle)
        z = self.row * settings.block_m + along_m * math.cos(angle) - right_m * math.sin(angle)
        return Track.still(x, z, angle + turn)


def streets_near(
    route: Route, along_m: NDArray[np.float64], district: District, settings: StreetSettings
) -> list[Street]:
    """The blocks that can be seen from the drive, in a fixed order."""
    block = settings.block_m
    xs, zs, headings = route.pose(np.arange(along_m.min(), along_m.max() + block, block / 4))
    streets = set()
    for x, z, heading in zip(xs, zs, headings, strict=True):
        ahead_x, ahead_z = x + 0.6 * block * math.sin(heading), z + 0.6 * block * math.cos(heading)
        column, row = round(ahead_x / block), round(ahead_z / block)
        for i in range(-1, 2):
            for j in range(-1, 2):
                for turned in (0, 1) if district.crossings else (0,):
                    street = Street(column + i, row + j, turned)
                    middle = street.place(block / 2, 0.0, 0.0, settings)
                    on_main_road = district.crossings or street.column == 0
                    if on_main_road and math.hypot(middle.x[0, 0] - ahead_x, middle.z[0, 0] - ahead_z) < REACH_M:
                        streets.add(street)
    return sorted(streets)


def placed(
    route: Route,
    along_m: NDArray[np.float64],
    district: District,
    name: str,
    settings: StreetSettings,
    phase_s: float,
    rng: np.random.Generator,
) -> Placed:
    """All that stands still near the drive."""
    placed: Placed = []
    streets = streets_near(route, along_m, district, settings)
    for street in streets:
        for side in (-1.0, 1.0):
            placed += _parked(street, side, district, settings, rng)
            placed += _pavement(street, side, district, settings, rng)
        if district.lamps:
            placed += _lamps(street, district, settings)
    for column, row in sorted({(street.column, street.row) for street in streets}):
        if district.signals:
            for heading in range(4):
                placed += _signals(column, row, heading, district, settings, phase_s)
        elif district.crossings:
            placed += _priority_signs(column, row, district, settings)
    return placed


def _parked(
    street: Street, side: float, district: District, settings: StreetSettings, rng: np.random.Generator
) -> Placed:
    if not district.parking_m:
        return []
    taken = float(np.clip(district.parked * rng.gamma(3.0, 1 / 3.0), 0.0, 0.95))
    lateral = settings.lane_m + district.parking_m / 2
    clear = half_road_m(district, settings) + 8.0
    placed: Placed = []
    for along in np.arange(clear + 2.5, settings.block_m - clear - 2.5, 6.2):
        if rng.random() >= taken:
            continue
        turn = (0.0 if side > 0 else math.pi) + (math.pi if rng.random() < 0.1 else 0.0)
        track = street.place(
            along + rng.uniform(-0.5, 0.5), side * (lateral + rng.uniform(-0.15, 0.15)), turn, settings
        )
        if rng.random() < 0.03:
            placed.append((Actor(furniture("container", int(rng.integers(8))), shadow_m=0.8), track))
        else:
            placed.append((Actor(Car.drawn(rng), CAR, shadow_m=1.0), track))
    return placed


def _pavement(
    street: Street, side: float, district: District, settings: StreetSettings, rng: np.random.Generator
) -> Placed:
    """Trees, signs, bicycles and clutter on one side of a block."""
    half = half_road_m(district, settings)
    clear = half + 6.0 if district.crossings else 0.0
    kerb, back = half + 0.6, half + district.pavement_m - 0.4
    placed: Placed = []

    def somewhere(right_m: float, turn: float) -> Track:
        return street.place(rng.uniform(clear, settings.block_m - clear), side * right_m, turn, settings)

    for _ in range(rng.poisson(district.trees)):
        lateral = kerb + 0.3 if district.setback_m == 0 else back + rng.uniform(0.8, max(district.setback_m - 1.0, 1.0))
        placed.append((Actor(tree(int(rng.integers(12))), shadow_m=0.4), somewhere(lateral, 0.0)))
    for _ in range(rng.poisson(district.signs)):
        # A sign faces those who drive on its side of the road.
        facing = math.pi if side > 0 else 0.0
        kind = SIGN_KINDS[int(rng.integers(len(SIGN_KINDS)))]
        placed += _sign_on_post(
            kind, somewhere(kerb - 0.1, facing + rng.normal(0.0, 0.08)), float(rng.uniform(2.0, 2.6))
        )
    for _ in range(rng.poisson(district.parked_bicycles)):
        turn = rng.choice((0.0, math.pi)) + rng.normal(0.0, 0.3)
        frame = FRAMES[int(rng.integers(len(FRAMES)))]
        lateral = kerb if rng.random() < 0.5 else back
        placed.append((Actor(Bicycle(frame), BICYCLE, shadow_m=0.4), somewhere(lateral, turn)))
    for _ in range(rng.poisson(district.furniture)):
        kind = FURNITURE_KINDS[int(rng.integers(len(FURNITURE_KINDS)))]
        if kind == "container":
            continue
        lateral = rng.uniform(kerb, max(back, kerb + 0.1))
        placed.append((Actor(furniture(kind, int(rng.integers(8))), shadow_m=0.2), somewhere(lateral, 0.0)))
    return placed


def _sign_on_post(kind: str, track: Track, up_m: float) -> Placed:
    return [
        (Actor(post(round(up_m + 0.7, 1))), track),
        (Actor(sign(kind), ROAD_SIGN, up_m=up_m, nearer_m=0.08), track),
    ]


def _lamps(street: Street, district: District, settings: StreetSettings) -> Placed:
    lateral = half_road_m(district, settings) + 0.5
    return [
        (Actor(lamp_post(side < 0), lights="lamp"), street.place(along, side * lateral, 0.0, settings))
        for along, side in lamp_places(settings)
    ]


def _signals(
    column: int, row: int, heading: int, district: District, settings: StreetSettings, phase_s: float
) -> Placed:
    """The lights for those who come along `heading`: one at the stop line, one over the lane beyond."""
    half = half_road_m(district, settings)
    arm = Street(column, row, heading)

    def state(time_s: float) -> str:
        return signal_state(time_s, column, row, heading % 2 == 0, phase_s, settings)

    near = arm.place(-(half + 4.4), half + 0.5, math.pi, settings)
    far = arm.place(half + 1.0, half + 0.5, math.pi, settings)
    over = arm.place(half + 1.0, settings.lane_m / 2, math.pi, settings)
    light = traffic_light(state)
    return [
        (Actor(post(2.4, 0.12)), near),
        (Actor(light, TRAFFIC_LIGHT, up_m=2.3, nearer_m=0.1, signal=state), near),
        (Actor(mast(round(half + 0.5 - settings.lane_m / 2, 1))), far),
        (Actor(light, TRAFFIC_LIGHT, up_m=5.15, nearer_m=0.1, signal=state), over),
    ]


def _priority_signs(column: int, row: int, district: District, settings: StreetSettings) -> Placed:
    """Without lights, the north-south street goes first and the other one gives way."""
    half = half_road_m(district, settings)
    placed: Placed = []
    for heading in range(4):
        kind = "priority" if heading % 2 == 0 else "yield"
        track = Street(column, row, heading).place(-(half + 3.0), half + 0.5, math.pi, settings)
        placed += _sign_on_post(kind, track, 2.1)
    return placed
