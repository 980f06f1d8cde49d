"""The script of a clip: who is where, how rare they are, and that traffic behaves."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from poolscout.sandbox.route import Crossing, Piece, Route, drawn_route, signal_state
from poolscout.sandbox.settings import BICYCLE, CAR, PERSON, SETTINGS, StreetSettings
from poolscout.sandbox.traffic import Lane, simulate
from poolscout.sandbox.world import World, drawn_world


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [drawn_world(np.random.default_rng([3, i]), 20) for i in range(24)]


def _count(worlds: list[World], label: int) -> int:
    return sum(actor.label == label for world in worlds for actor in world.actors)


def test_people_are_rarer_than_cars_and_bicycles_rarer_still(worlds: list[World]) -> None:
    cars, people, bicycles = (_count(worlds, label) for label in (CAR, PERSON, BICYCLE))
    assert bicycles > 3
    assert people < cars / 3
    assert bicycles < people


def _downtown(**changes: object) -> StreetSettings:
    """Always downtown in clear weather, so that two settings that differ in the hour draw the same numbers."""
    downtown = {"downtown": SETTINGS.districts["downtown"]}
    return dataclasses.replace(SETTINGS, districts=downtown, weathers=(("clear", 1.0),), **changes)  # type: ignore[arg-type]


def test_people_and_bicycles_are_rarer_at_night() -> None:
    found = {}
    for hour in ("day", "night"):
        settings = _downtown(times_of_day=((hour, 1.0),))
        clips = [drawn_world(np.random.default_rng([5, i]), 2, settings) for i in range(6)]
        assert {world.time_of_day for world in clips} == {hour}
        found[hour] = _count(clips, PERSON)
    assert found["day"] > 50
    assert found["night"] < 0.7 * found["day"]


def test_the_camera_drives_at_the_speed_it_says(worlds: list[World]) -> None:
    for world in worlds:
        steps = np.hypot(np.diff(world.camera_x), np.diff(world.camera_z)) * SETTINGS.frame_rate_hz
        assert steps == pytest.approx(world.speed_m_per_s[1:], abs=0.4)


def test_some_cars_wait_and_most_drive(worlds: list[World]) -> None:
    waits = np.mean([world.speed_m_per_s < 0.3 for world in worlds])
    assert 0.03 < waits < 0.3


def _lane(along: list[float], stops: tuple[Crossing, ...] = (), cruise: float = 12.0) -> Lane:
    route = Route((Piece(0.0, 0.0, 0.0, 0.0, 0.0),), stops)
    return Lane(route, 0.0, np.array(along), np.full(len(along), cruise), 4.7, bool(stops))


TIMES = np.arange(0.0, 30.0, 0.2)


def test_cars_keep_a_gap_behind_a_slower_one() -> None:
    lane = _lane([60.0, 30.0, 0.0])
    lane.cruise_m_per_s[0] = 4.0
    (along, speed), *_ = simulate([lane], SETTINGS, 0.0, 0.0, TIMES)
    assert (along[:, :-1] - along[:, 1:] - 4.7).min() > 1.5
    assert speed[-1] == pytest.approx(4.0, abs=0.2)


def test_a_car_stops_at_red_and_goes_at_green() -> None:
    crossing = Crossing(0, 0, 0, 0, 100.0)
    phase = SETTINGS.signal_green_s  # amber at 0 s, red from 2 s to 18 s
    states = [signal_state(t, 0, 0, True, phase, SETTINGS) for t in TIMES]
    (along, speed), *_ = simulate([_lane([0.0], (crossing,))], SETTINGS, phase, 0.0, TIMES)
    red = np.array(states) == "red"
    assert along[red].max() <= 100.0
    assert along[red].max() > 95.0
    assert speed[red].min() < 0.1
    assert along[-1, 0] > 110.0


def test_two_streets_are_never_green_together() -> None:
    for time_s in np.arange(0.0, 60.0, 0.25):
        states = [signal_state(time_s, 3, -2, axis, 4.0, SETTINGS) for axis in (True, False)]
        assert "red" in states


def test_a_quarter_turn_to_the_right_ends_facing_east() -> None:
    radius = 6.0
    route = Route((Piece(0.0, 2.0, 5.0, 0.0, 1 / radius),), ())
    x, z, heading = route.pose(np.array([radius * math.pi / 2]))
    assert x[0] == pytest.approx(8.0)
    assert z[0] == pytest.approx(11.0)
    assert heading[0] == pytest.approx(math.pi / 2)


def test_routes_are_unbroken_and_turn_both_ways() -> None:
    turns = set()
    for seed in range(12):
        route = drawn_route(SETTINGS.districts["downtown"], SETTINGS, 400.0, np.random.default_rng(seed))
        x, z, heading = route.pose(np.arange(0.0, 400.0))
        assert np.hypot(np.diff(x), np.diff(z)) == pytest.approx(1.0, abs=0.01)
        assert np.abs(np.diff(heading)).max() < 0.25
        turns |= {crossing.turn for crossing in route.crossings}
    assert turns == {-1, 0, 1}
