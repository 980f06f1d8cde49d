"""Where the labels of the chart of figures against boxes lie."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolscout.experiments.charts import LABEL_PLACES, LABEL_PX, PLOT_PX, _columns, _place_labels


def placed(*points: tuple[float, float], name: str = "mi max") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"strategy": name, "boxes": x, "mean": y} for x, y in points]
    _place_labels(rows)
    return rows


def test_alone_or_far_apart_labels_stand_above_their_points() -> None:
    assert [row["place"] for row in placed((1000, 0.2))] == [0]
    assert [row["place"] for row in placed((1000, 0.2), (2000, 0.3))] == [0, 0]
    assert placed() == []


def test_points_beside_each_other_have_labels_at_different_heights() -> None:
    near = placed((1000, 0.2), (1010, 0.2), (2000, 0.3))
    assert near[0]["place"] != near[1]["place"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=4, unique=True))
def test_few_labels_never_hide_one_another(cells: list[tuple[int, int]]) -> None:
    """Points on a grid of 41 × 17 px, a label of 3 letters is 18 × 11 px: six places are enough for four."""
    grid = [(0, 0), (9, 9), *(cell for cell in cells if cell not in ((0, 0), (9, 9)))]
    rows = placed(*((float(x), float(y)) for x, y in grid), name="abc")
    half, centres = 0.28 * LABEL_PX * 3, []
    for row in rows:
        align, dx, dy = LABEL_PLACES[row["place"]]
        x = row["boxes"] * PLOT_PX["boxes"] / 9 + dx + {"left": half, "right": -half}.get(align, 0.0)
        centres.append((x, dy - row["mean"] * PLOT_PX["mean"] / 9))
    for (x, y), (u, v) in combinations(centres, 2):
        assert abs(x - u) >= 2 * half or abs(y - v) >= LABEL_PX


def test_a_legend_has_as_many_columns_as_there_is_room_for() -> None:
    assert _columns(["random", "top-n", "coreset", "kmeans++", "omp"]) == 4
    long = ["top-n of X_u, X_l", "top-n of X_u", "X_u, 5 of a block", "X_u, X_l, 5 of a block", "random"]
    assert _columns([*long, "random per sequence", "whole pool"]) == 3
    assert _columns(["x" * 80, "y"]) == 1
