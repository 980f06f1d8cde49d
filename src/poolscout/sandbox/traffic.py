"""Cars and bicycles that follow each other, stop at red and slow down for bends (the intelligent driver model)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poolscout.sandbox.route import Route
from poolscout.sandbox.settings import StreetSettings

STEP_S = 0.4
"""At most: within a clip a step is the time between two frames."""
BEND_M_PER_S = 5.0
"""A comfortable quarter turn of 6 to 9 m radius."""
ACCELERATION, BRAKING, HEADWAY_S, STANDSTILL_M = 1.6, 2.2, 1.2, 2.0
HARDEST_BRAKING = 4.0
FAR_M = 1e6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lane:
    """Vehicles on one path, the first one ahead."""

    route: Route
    right_m: float
    along_m: Floats
    cruise_m_per_s: Floats
    length_m: float
    signals: bool


def simulate(
    lanes: list[Lane], settings: StreetSettings, phase_s: float, start_s: float, times_s: Floats
) -> list[tuple[Floats, Floats]]:
    """Metres along its path and speed of every vehicle, [times, vehicles] per lane.

    Starts at `start_s`, before the first of `times_s`, so that queues have formed when the clip begins.
    Model: Treiber, Hennecke, Helbing 2000, "Congested traffic states in empirical observations".
    """
    fleet = _Fleet(lanes, settings, phase_s)
    along = np.concatenate([lane.along_m for lane in lanes])
    speed = fleet.cruise.copy()
    seen_along, seen_speed = [], []
    now = start_s
    for time_s in times_s:
        while now < time_s - 1e-9:
            step = min(STEP_S, time_s - now)
            speed = np.maximum(speed + fleet.acceleration(along, speed, now) * step, 0.0)
            along = along + speed * step
            now += step
        seen_along.append(along)
        seen_speed.append(speed)
    ends = np.cumsum([len(lane.along_m) for lane in lanes])[:-1]
    return list(
        zip(np.split(np.array(seen_along), ends, axis=1), np.split(np.array(seen_speed), ends, axis=1), strict=True)
    )


class _Fleet:
    """The vehicles of all lanes in one array, so that a step is a handful of array operations."""

    def __init__(self, lanes: list[Lane], settings: StreetSettings, phase_s: float) -> None:
        self.cruise = np.concatenate([lane.cruise_m_per_s for lane in lanes])
        counts = [len(lane.along_m) for lane in lanes]
        self.length = np.repeat([lane.length_m for lane in lanes], counts)
        first = np.cumsum([0, *counts[:-1]])
        self.leads = np.zeros(sum(counts), bool)
        self.leads[[f for f, count in zip(first, counts, strict=True) if count]] = True
        self.settings = settings
        stops = [[c.stop_m for c in lane.route.crossings] if lane.signals else [] for lane in lanes]
        # The phase of the light each stop line belongs to; a street along x is half a cycle behind.
        cycle = settings.signal_green_s + settings.signal_amber_s + settings.signal_red_s
        phases = [
            [phase_s + 7.0 * (c.column + c.row) + (c.heading % 2) * cycle / 2 for c in lane.route.crossings]
            if lane.signals else []
            for lane in lanes
        ]  # fmt: skip
        self.cycle = cycle
        self.stops = np.repeat(_padded(stops, FAR_M), counts, axis=0)
        self.phases = np.repeat(_padded(phases, 0.0), counts, axis=0)
        bends = [lane.route.bends() for lane in lanes]
        self.bend_starts = np.repeat(_padded([[b[0] for b in lane] for lane in bends], FAR_M), counts, axis=0)
        self.bend_ends = np.repeat(_padded([[b[1] for b in lane] for lane in bends], -FAR_M), counts, axis=0)

    def acceleration(self, along: Floats, speed: Floats, now_s: float) -> Floats:
        ahead = np.where(self.leads, FAR_M, np.roll(along, 1) - along - self.length)
        lead_speed = np.where(self.leads, speed, np.roll(speed, 1))
        pull = _interaction(np.maximum(ahead, 0.1), speed, speed - lead_speed)
        to_stop = self.stops - along[:, None]
        shut = (now_s + self.phases) % self.cycle >= self.settings.signal_green_s
        can_stop = to_stop > (speed**2 / (2 * HARDEST_BRAKING))[:, None] * 0.999
        to_stop = np.where(shut & can_stop & (to_stop > 0.2), to_stop, FAR_M).min(axis=1)
        pull = np.maximum(pull, _interaction(to_stop, speed, speed))
        to_bend = np.maximum(self.bend_starts - along[:, None], 0.0)
        before_end = along[:, None] < self.bend_ends
        limit = np.where(before_end, np.sqrt(BEND_M_PER_S**2 + 2 * BRAKING * to_bend), FAR_M).min(axis=1)
        wanted = np.minimum(self.cruise, limit)
        free = 1.0 - (speed / wanted) ** 4
        return np.clip(ACCELERATION * (free - pull), -HARDEST_BRAKING * 1.5, ACCELERATION)


def _interaction(gap: Floats, speed: Floats, closing: Floats) -> Floats:
    wanted = STANDSTILL_M + np.maximum(speed * HEADWAY_S + speed * closing / (2 * np.sqrt(ACCELERATION * BRAKING)), 0.0)
    return (wanted / gap) ** 2


def _padded(rows: list[list[float]], value: float) -> Floats:
    width = max((len(row) for row in rows), default=0) or 1
    return np.array([[*row, *[value] * (width - len(row))] for row in rows], dtype=np.float64).reshape(-1, width)
