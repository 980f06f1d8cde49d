"""Where the real data sets are: $POOLSCOUT_DATA, data/ in the repository, or shared/data beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def find(name: str) -> Path:
    """The folder of a data set, or a skip that says where it was looked for."""
    places = [ROOT / "data", ROOT.parent / "shared" / "data"]
    if os.environ.get("POOLSCOUT_DATA"):
        places.insert(0, Path(os.environ["POOLSCOUT_DATA"]))
    for place in places:
        if (place / name / "annotations_pool.json").exists():
            return place / name
    return pytest.skip(f"{name} is in none of {', '.join(map(str, places))}; set POOLSCOUT_DATA")
