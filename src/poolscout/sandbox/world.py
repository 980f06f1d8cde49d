"""The script of a clip: place, time, weather, the drive, and everything that stands or moves beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox import people, roadside
from poolscout.sandbox.actors import Actor, Track
from poolscout.sandbox.cars import Car
from poolscout.sandbox.figures import FRAMES, Bicycle, Dress, Rider
from poolscout.sandbox.route import STOP_BEFORE_M, Crossing, Piece, Route, drawn_route
from poolscout.sandbox.settings import (
    BICYCLE,
    CAR,
    PERSON,
    SETTINGS,
    District,
    StreetSettings,
    TimeOfDay,
    Weather,
)
from poolscout.sandbox.textures import half_road_m
from poolscout.sandbox.traffic import Lane, simulate

CAR_LENGTH_M = 4.7
BICYCLE_LENGTH_M = 1.9
BICYCLE_M_PER_S = 4.6


@dataclass(frozen=True)
class World:
    """One clip, ready to be looked at. Arrays are [frames] for the camera, [frames, actors] for what moves."""

    district_name: str
    district: District
    time_of_day: TimeOfDay
    weather: Weather
    phase_s: float
    times_s: NDArray[np.float64]
    camera_x: NDArray[np.float64]
    camera_z: NDArray[np.float64]
    camera_heading: NDArray[np.float64]
    speed_m_per_s: NDArray[np.float64]
    actors: list[Actor]
    still: Track
    """Poses of the first actors, which never move: [1, actors]."""
    moving: Track
    """Poses of the rest: [frames, actors]."""


def drawn_world(rng: np.random.Generator, frames: int, settings: StreetSettings = SETTINGS) -> World:
    """Draw the whole script of one clip from `rng`."""
    names = list(settings.districts)
    name = names[_choice(rng, [d.share for d in settings.districts.values()])]
    district = settings.districts[name]
    time_of_day = settings.times_of_day[_choice(rng, [share for _, share in settings.times_of_day])][0]
    weather = settings.weathers[_choice(rng, [share for _, share in settings.weathers])][0]
    phase = float(rng.uniform(0.0, 60.0))
    times = np.arange(frames) / settings.frame_rate_hz
    # Long enough for a queue to form at a light that was red before the clip began.
    warm_up = float(rng.uniform(20.0, 30.0))
    cruise = district.cruise_m_per_s * float(rng.uniform(0.8, 1.15))
    route = drawn_route(district, settings, (warm_up + times[-1]) * cruise + 2 * settings.block_m, rng)
    busy = {"day": 1.0, "dusk": 1.0, "night": settings.night_traffic}[time_of_day]
    busy *= float(rng.gamma(2.0, 0.5))  # some streets, some hours: traffic comes in bursts
    lanes = [_own_lane(route, district, cruise, busy, rng)]
    lanes += _other_lanes(route, district, settings, warm_up, busy, rng)
    crowd = {"day": 1.0, "dusk": settings.dusk_people, "night": settings.night_people}[time_of_day]
    crowd *= {"clear": 1.0, "fog": 0.8, "rain": 0.6}[weather] * float(rng.gamma(1.5, 1 / 1.5))
    lanes += _bicycle_lanes(route, district, settings, warm_up, crowd, rng)
    driven = simulate(lanes, settings, phase, -warm_up, times)
    own_along, own_speed = driven[0]
    wander = 0.2 * np.sin(own_along[:, -1] / 23.0 + phase)  # nobody drives along a ruler
    camera = route.pose(own_along[:, -1], wander)
    drives = [(lane, along, speed) for lane, (along, speed) in zip(lanes, driven, strict=True)]
    drives[0] = (lanes[0], own_along[:, :-1], own_speed[:, :-1])
    still = roadside.placed(route, own_along[:, -1], district, name, settings, phase, rng)
    moving = [actor for lane in drives for actor in _vehicles(*lane, rng)]
    walkways = roadside.streets_near(route, own_along[:, -1], district, settings)
    moving += people.walkers(walkways, district, settings, crowd, times, rng)
    moving += people.crossers(route, district, settings, phase, crowd, times, rng)
    return World(
        name, district, time_of_day, weather, phase, times, *camera, own_speed[:, -1],
        [actor for actor, _ in still] + [actor for actor, _ in moving],
        Track.joined([track for _, track in still], 1), Track.joined([track for _, track in moving], frames),
    )  # fmt: skip


def _choice(rng: np.random.Generator, shares: list[float]) -> int:
    return int(rng.choice(len(shares), p=np.array(shares) / sum(shares)))


def _own_lane(route: Route, district: District, cruise: float, busy: float, rng: np.random.Generator) -> Lane:
    """The camera car is the last of a column: those ahead of it are what it sees."""
    ahead = int(rng.poisson(0.6 * busy * district.traffic_per_100m)) if district.traffic_per_100m else 0
    gaps = rng.uniform(9.0, 45.0, min(ahead, 6))
    along = np.concatenate([np.cumsum(gaps)[::-1], [0.0]])
    speeds = np.concatenate([cruise * rng.uniform(0.85, 1.1, len(gaps)), [cruise]])
    return Lane(route, 0.0, along, speeds, CAR_LENGTH_M, district.signals)


def _straight(place: tuple[int, int, int], blocks: int, district: District, settings: StreetSettings) -> Route:
    """The lane through the crossing (column, row) along a heading: `blocks` before it and as many beyond."""
    column, row, heading = place
    dx, dz = round(math.sin(heading * math.pi / 2)), round(math.cos(heading * math.pi / 2))
    start, right = blocks * settings.block_m, settings.lane_m / 2
    x = column * settings.block_m - start * dx + right * dz
    z = row * settings.block_m - start * dz - right * dx
    stop = start - half_road_m(district, settings) - STOP_BEFORE_M
    crossings = tuple(
        Crossing(column + i * dx, row + i * dz, heading, 0, stop + i * settings.block_m)
        for i in range(-blocks + 1, blocks + 1)
    )
    return Route((Piece(0.0, x, z, heading * math.pi / 2, 0.0),), crossings)


def _lane_ends(route: Route, district: District) -> list[tuple[int, int, int]]:
    """(column, row, heading) of the lanes beside the route: oncoming ones, and cross traffic where lights part it."""
    if not route.crossings:
        return [(0, 0, 2)]
    lanes: dict[tuple[int, int], tuple[int, int, int]] = {}
    taken: set[tuple[int, int]] = set()

    def key(column: int, row: int, heading: int) -> tuple[int, int]:
        return heading % 4, column if heading % 2 == 0 else row

    for column, row, heading, turn, _ in route.crossings:
        lanes.setdefault(key(column, row, heading + 2), (column, row, (heading + 2) % 4))
        taken |= {key(column, row, heading), key(column, row, heading + turn)}
        if turn < 0:  # nobody may come towards a car that turns left in front of him
            taken.add(key(column, row, heading + 2))
        if district.signals:
            for cross in (heading + 1, heading + 3):
                lanes.setdefault(key(column, row, cross), (column, row, cross % 4))
    return [place for lane, place in lanes.items() if lane not in taken]


def _blocks(route: Route, settings: StreetSettings) -> int:
    """Blocks to either side of a crossing that the drive can come to see."""
    return math.ceil(route.length_m / settings.block_m) + 2


def _other_lanes(
    route: Route, district: District, settings: StreetSettings, warm_up_s: float, busy: float, rng: np.random.Generator
) -> list[Lane]:
    blocks = _blocks(route, settings)
    length = 2 * blocks * settings.block_m
    lanes = []
    for place in _lane_ends(route, district):
        count = min(rng.poisson(district.traffic_per_100m * busy * length / 100), int(length / 16))
        places = np.sort(rng.permutation(int(length / 12))[:count] * 12.0)[::-1]
        # Back by what is driven before the clip begins; lights halve the speed.
        speed = district.cruise_m_per_s * (0.5 if district.signals else 1.0)
        along = places + rng.uniform(-2.5, 2.5, count) - warm_up_s * speed
        cruise = district.cruise_m_per_s * rng.uniform(0.85, 1.15, count)
        path = _straight(place, blocks, district, settings)
        lanes.append(Lane(path, 0.0, along, cruise, CAR_LENGTH_M, district.signals))
    return lanes


def _bicycle_lanes(
    route: Route, district: District, settings: StreetSettings, warm_up_s: float, crowd: float, rng: np.random.Generator
) -> list[Lane]:
    """Riders at the right edge of the lane, ahead of the camera car and coming towards it."""
    edge = settings.lane_m / 2 - 0.45
    blocks = _blocks(route, settings)
    ways = [(route, route.length_m)]
    for place in _lane_ends(route, district)[:1]:
        ways.append((_straight(place, blocks, district, settings), 2 * blocks * settings.block_m))
    lanes = []
    for path, length in ways:
        count = rng.poisson(district.cyclists_per_100m * crowd * length / 100)
        along = np.sort(rng.uniform(-warm_up_s * BICYCLE_M_PER_S, length, count))[::-1]
        cruise = BICYCLE_M_PER_S * rng.uniform(0.8, 1.2, count)
        lanes.append(Lane(path, edge, along, cruise, BICYCLE_LENGTH_M, district.signals))
    return lanes


def _vehicles(
    lane: Lane, along: NDArray[np.float64], speed: NDArray[np.float64], rng: np.random.Generator
) -> list[tuple[Actor, Track]]:
    """The actors of a lane: a car each, or a bicycle and the person on it."""
    actors: list[tuple[Actor, Track]] = []
    for i in range(along.shape[1]):
        x, z, heading = lane.route.pose(along[:, i], lane.right_m)
        track = Track(x[:, None], z[:, None], heading[:, None], speed[:, i : i + 1])
        if lane.length_m == CAR_LENGTH_M:
            actors.append((Actor(Car.drawn(rng), CAR, lights="car", shadow_m=1.0), track))
            continue
        frame = FRAMES[int(rng.integers(len(FRAMES)))]
        actors.append((Actor(Bicycle(frame), BICYCLE, shadow_m=0.5), track))
        actors.append((Actor(Rider(Dress.drawn(rng)), PERSON, nearer_m=0.02), track))
    return actors
