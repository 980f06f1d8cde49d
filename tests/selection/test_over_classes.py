"""Which class decides: by hand, and that no class can take a normalised batch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolscout.config import SelectionConfig
from poolscout.errors import ConfigError, NonFiniteError, TableError
from poolscout.selection import select_images
from poolscout.selection.over_classes import rank_over_classes, share_below

CLASSES = ("car", "person", "bicycle")
PER_CLASS = np.array([[0.6, 0.1, 0.0], [0.5, 0.3, 0.2], [0.2, 0.0, 0.4]])


def ranked(**settings) -> tuple[list[float], list[str]]:
    scores, best = rank_over_classes(PER_CLASS, SelectionConfig(**settings), CLASSES)
    return scores.tolist(), [CLASSES[c] for c in best]


def test_by_hand() -> None:
    assert ranked() == ([0.6, 0.5, 0.4], ["car", "car", "bicycle"])
    scores, best = ranked(over_classes="mean")
    assert scores == pytest.approx([0.7 / 3, 1.0 / 3, 0.6 / 3])
    assert best == ["car", "car", "bicycle"]
    scores, best = ranked(over_classes="weighted", class_weights={"car": 0.0, "bicycle": 2.0})
    assert scores == pytest.approx([0.1, 0.3 + 0.4, 0.8])
    assert best == ["person", "bicycle", "bicycle"]


def test_share_below_by_hand() -> None:
    assert share_below(np.array([[0.2], [0.0], [0.2], [0.9], [0.0]])).T.tolist() == [[0.4, 0.0, 0.4, 0.8, 0.0]]
    assert share_below(np.empty((0, 2))).shape == (0, 2)


@given(st.integers(0, 10**6), st.integers(1, 20))
def test_a_wider_class_does_not_take_a_normalised_batch(seed: int, per_class: int) -> None:
    """Ranges of 1 : 100 : 10,000; the n highest of three classes without ties come from all of them alike."""
    rng = np.random.default_rng(seed)
    figures = rng.random((400, 3)) * np.array([1e-4, 1e-2, 1.0])
    plain, by_class = rank_over_classes(figures, SelectionConfig(), CLASSES)
    assert set(by_class[np.argsort(-plain)[: 3 * per_class]]) == {2}
    fair, by_class = rank_over_classes(figures, SelectionConfig(normalise_classes=True), CLASSES)
    # an image that leads in several classes counts for the first of them only
    top = np.argsort(-fair, kind="stable")[: 3 * per_class]
    leaders = [set(np.argsort(-figures[:, c])[:per_class]) for c in range(3)]
    assert all(leaders[c] <= {*top, *np.flatnonzero(fair >= fair[top[-1]])} for c in range(3))
    assert set(by_class[top]) == {0, 1, 2} or per_class < 3


def candidates(**changes) -> pa.Table:
    columns = {
        "image_id": ["a", "b", "c"],
        "mi_max": pa.array(PER_CLASS.max(1), pa.float32()),
        "mi_max_per_class": pa.array(PER_CLASS.tolist(), pa.list_(pa.float32())),
    }
    return pa.table({**columns, **changes})


def choose(table: pa.Table, classes=CLASSES, **settings) -> list[dict]:
    config = SelectionConfig(n=2, **settings)
    return select_images(table, None, config, 2, 0, labelled=set(), rank_by="mi_max", classes=classes).to_pylist()


def test_the_selection_says_how_it_ranked() -> None:
    rows = choose(candidates(), over_classes="weighted", class_weights={"car": 0.0}, normalise_classes=True)
    assert [row["image_id"] for row in rows] == ["b", "c"]
    # b leads in person (2 of 3 below) and has 1 of 3 below it in bicycle
    assert rows[0]["score"] == pytest.approx(2 / 3 + 1 / 3)
    assert rows[0]["class"] == "person"
    assert rows[0]["reason"] == "top-n by mi_max, weighted over classes, classes normalised"
    assert choose(candidates())[0]["reason"] == "top-n by mi_max"


def test_what_cannot_be_ranked_is_said() -> None:
    with pytest.raises(ConfigError, match=r"no class 'bicicle'[\s\S]*did you mean 'bicycle'"):
        choose(candidates(), over_classes="weighted", class_weights={"bicicle": 2.0})
    with pytest.raises(TableError, match=r"mean over classes[\s\S]*do not say which classes"):
        choose(candidates(), classes=(), over_classes="mean")
    with pytest.raises(TableError, match=r"classes normalised[\s\S]*no column 'mi_max_per_class'"):
        choose(candidates().drop_columns("mi_max_per_class"), normalise_classes=True)
    sick = [[0.1, np.nan, 0.0], [0.1] * 3, [0.2] * 3]
    with pytest.raises(NonFiniteError, match=r"mi_max_per_class[\s\S]*a"):
        choose(candidates(mi_max_per_class=pa.array(sick, pa.list_(pa.float32()))))
    with pytest.raises(ValueError, match="class_weights and over_classes: weighted, or neither"):
        SelectionConfig(class_weights={"car": 1.0})
