"""What the streets are like. Every figure has its reason beside it; docs/sandbox.md tells the whole story.

Lengths are metres, times seconds, speeds m/s, headings radians clockwise from north (+z); x points east.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

CLASSES: tuple[str, ...] = ("car", "person", "bicycle", "road sign", "traffic light")
CAR, PERSON, BICYCLE, ROAD_SIGN, TRAFFIC_LIGHT = range(5)
CLUTTER = -1

TimeOfDay = Literal["day", "dusk", "night"]
Weather = Literal["clear", "rain", "fog"]


@dataclass(frozen=True)
class District:
    """One kind of neighbourhood. Rates are per street side and 80 m block unless said otherwise."""

    share: float
    """Share of clips recorded here."""
    parking_m: float
    """Width of the parking lane on each side; 0 = none."""
    pavement_m: float
    """Width of the pavement."""
    setback_m: float
    """From the pavement to the fronts of the buildings."""
    crossings: bool
    """Cross streets every block; without them the road only goes straight."""
    signals: bool
    """Traffic lights at the crossings, and so queues, cross traffic and people on zebra crossings."""
    lamps: bool
    """Street lamps every 20 m; without them the night is lit by headlights only."""
    cruise_m_per_s: float
    """The speed drivers want to keep."""
    traffic_per_100m: float
    """Moving cars in a lane."""
    parked: float
    """Share of parking places taken, on average; varies from side to side."""
    people: float
    """Walkers by day."""
    cyclists_per_100m: float
    """Riders in a lane by day."""
    parked_bicycles: float
    """Bicycles leaning on the pavement."""
    signs: float
    """Road signs that face the driver."""
    trees: float
    furniture: float
    """Bins, bollards, cabinets, hydrants, posters, containers: what looks like an object and is none."""


@dataclass(frozen=True)
class StreetSettings:
    """The fixed parameters of the world and of the camera."""

    districts: dict[str, District] = field(
        default_factory=lambda: {
            "downtown": District(
                share=0.25, parking_m=2.2, pavement_m=3.2, setback_m=0.0, crossings=True, signals=True, lamps=True,
                cruise_m_per_s=11.0, traffic_per_100m=1.8, parked=0.5, people=0.5, cyclists_per_100m=0.12,
                parked_bicycles=0.2, signs=0.8, trees=3.0, furniture=5.0,
            ),
            "avenue": District(
                share=0.2, parking_m=0.0, pavement_m=3.0, setback_m=3.0, crossings=True, signals=True, lamps=True,
                cruise_m_per_s=14.0, traffic_per_100m=1.5, parked=0.0, people=0.12, cyclists_per_100m=0.12,
                parked_bicycles=0.04, signs=0.5, trees=5.0, furniture=2.0,
            ),
            "residential": District(
                share=0.25, parking_m=2.2, pavement_m=2.2, setback_m=5.0, crossings=True, signals=False, lamps=True,
                cruise_m_per_s=9.0, traffic_per_100m=0.4, parked=0.2, people=0.14, cyclists_per_100m=0.06,
                parked_bicycles=0.1, signs=0.4, trees=4.0, furniture=1.6,
            ),
            "outskirts": District(
                share=0.3, parking_m=0.0, pavement_m=1.2, setback_m=14.0, crossings=False, signals=False, lamps=False,
                cruise_m_per_s=18.0, traffic_per_100m=0.22, parked=0.0, people=0.01, cyclists_per_100m=0.03,
                parked_bicycles=0.0, signs=0.3, trees=3.0, furniture=0.8,
            ),
        }
    )  # fmt: skip
    """Half of what is recorded is not where most objects are: that is why pools are full of empty frames."""
    times_of_day: tuple[tuple[TimeOfDay, float], ...] = (("day", 0.60), ("dusk", 0.15), ("night", 0.25))
    """About a quarter of all kilometres are driven in the dark."""
    weathers: tuple[tuple[Weather, float], ...] = (("clear", 0.72), ("rain", 0.20), ("fog", 0.08))
    """Rain as in a temperate climate; fog more often than there, so that a few dozen clips hold some."""
    night_people: float = 0.4
    """Walkers and riders at night, against the day."""
    night_traffic: float = 0.5
    """Moving cars at night, against the day."""
    dusk_people: float = 0.8
    frame_rate_hz: float = 5.0
    """Fast enough that consecutive frames of a moving car overlap, slow enough that 40 frames tell a story of 8 s."""
    block_m: float = 80.0
    """Short side of a city block."""
    lane_m: float = 3.5
    camera_height_m: float = 1.4
    """Behind the windscreen of a passenger car."""
    horizontal_fov_deg: float = 70.0
    """A usual front camera: a car fills 6 px of 320 at 68 m."""
    signal_green_s: float = 12.0
    signal_amber_s: float = 2.0
    signal_red_s: float = 16.0
    """A 30 s cycle: half of all cars have to wait, for 8 s on average."""
    visibility_m: dict[Weather, float] = field(default_factory=lambda: {"clear": 1500.0, "rain": 350.0, "fog": 70.0})
    """Meteorological visibility: where contrast has fallen to 5 %."""
    min_longer_side_px: int = 6
    min_shorter_side_px: int = 3
    """Smaller objects get no box: a labeller could not draw it."""
    min_visibility: float = 0.2
    min_picture_share: float = 0.01
    """Less visible than this gets no box, unless what is left still covers this share of the picture."""
    min_contrast: float = 0.05
    """Objects behind so much fog that less than this share of their contrast is left get no box."""


SETTINGS = StreetSettings()
