"""Where the camera car drives: straight streets and quarter turns on a grid of blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.settings import District, StreetSettings
from poolscout.sandbox.textures import half_road_m

TURN_REACH_M = 3.0
"""A turn begins this far before the edge of the crossing road."""

STOP_BEFORE_M = 5.5
"""The middle of a waiting car is drawn up to this far before the edge of the crossing road."""


class Crossing(NamedTuple):
    """A crossing on the route: its column and row on the grid, and the route's metres at its stop line."""

    column: int
    row: int
    heading: int
    """Quarter turns clockwise from north on arrival."""
    turn: int
    """−1 left, 0 straight on, 1 right."""
    stop_m: float


class Piece(NamedTuple):
    start_m: float
    x: float
    z: float
    heading: float
    curvature: float


@dataclass(frozen=True)
class Route:
    """A path by metres driven, with the crossings it meets."""

    pieces: tuple[Piece, ...]
    crossings: tuple[Crossing, ...]
    length_m: float = 0.0
    """How much of it is needed."""

    def pose(
        self, along_m: NDArray[np.float64], right_m: float | NDArray[np.float64] = 0.0
    ) -> tuple[NDArray, NDArray, NDArray]:
        """x, z and heading at `along_m`, shifted `right_m` to the right of the path."""
        starts = np.array([piece.start_m for piece in self.pieces])
        which = np.clip(np.searchsorted(starts, along_m, side="right") - 1, 0, len(starts) - 1)
        piece = np.array([tuple(p) for p in self.pieces])[which]
        start, x, z, heading, curvature = np.moveaxis(piece, -1, 0)
        ahead = along_m - start
        bend = np.where(curvature == 0.0, 1.0, curvature)
        turned = heading + curvature * ahead
        x = x + np.where(curvature == 0.0, ahead * np.sin(heading), (np.cos(heading) - np.cos(turned)) / bend)
        z = z + np.where(curvature == 0.0, ahead * np.cos(heading), (np.sin(turned) - np.sin(heading)) / bend)
        return x + right_m * np.cos(turned), z - right_m * np.sin(turned), turned

    def bends(self) -> list[tuple[float, float]]:
        """(start, end) of every turn in metres of the route."""
        ends = [*(p.start_m for p in self.pieces[1:]), math.inf]
        return [(p.start_m, end) for p, end in zip(self.pieces, ends, strict=True) if p.curvature]


def drawn_route(district: District, settings: StreetSettings, length_m: float, rng: np.random.Generator) -> Route:
    """A route northwards from the middle of a block that turns at one crossing in three."""
    lane, half = settings.lane_m / 2, half_road_m(district, settings)
    column, row, heading = 0, 0, 0
    x, z = lane, -float(rng.uniform(half + 8.0, settings.block_m - half - 4.0))
    along = 0.0
    pieces: list[Piece] = []
    crossings: list[Crossing] = []
    if not district.crossings:
        return Route((Piece(0.0, lane, z, 0.0, 0.0),), (), length_m)
    while along < length_m:
        turn = int(rng.choice((-1, 0, 1), p=(0.15, 0.67, 0.18)))
        dx, dz = round(math.sin(heading * math.pi / 2)), round(math.cos(heading * math.pi / 2))
        centre_x, centre_z = column * settings.block_m, row * settings.block_m
        to_centre = (centre_x - x) * dx + (centre_z - z) * dz
        pieces.append(Piece(along, x, z, heading * math.pi / 2, 0.0))
        crossings.append(Crossing(column, row, heading % 4, turn, along + to_centre - half - STOP_BEFORE_M))
        if turn:
            reach = half + TURN_REACH_M
            radius = reach - turn * lane
            x, z, along = x + (to_centre - reach) * dx, z + (to_centre - reach) * dz, along + to_centre - reach
            bend = Piece(along, x, z, heading * math.pi / 2, turn / radius)
            pieces.append(bend)
            quarter = radius * math.pi / 2
            end_x, end_z, _ = Route((bend,), ()).pose(np.array([along + quarter]))
            x, z, along = float(end_x[0]), float(end_z[0]), along + quarter
            heading += turn  # not taken modulo 4: a heading that jumps would be a spin
        else:
            x, z, along = x + to_centre * dx, z + to_centre * dz, along + to_centre
        dx, dz = round(math.sin(heading * math.pi / 2)), round(math.cos(heading * math.pi / 2))
        column, row = column + dx, row + dz
    pieces.append(Piece(along, x, z, heading * math.pi / 2, 0.0))
    return Route(tuple(pieces), tuple(crossings), length_m)


def signal_state(
    time_s: float, column: int, row: int, north_south: bool, phase_s: float, settings: StreetSettings
) -> str:
    """The lamp that is lit at a crossing for one of its two streets.

    The streets take turns: one is green, then amber, while the other is red; both are red for a moment between.
    """
    green, amber, red = settings.signal_green_s, settings.signal_amber_s, settings.signal_red_s
    cycle = green + amber + red
    offset = phase_s + 7.0 * (column + row) + (0.0 if north_south else cycle / 2)
    at = (time_s + offset) % cycle
    return "green" if at < green else "amber" if at < green + amber else "red"
