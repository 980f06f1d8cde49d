"""Predictions of any detector: what ids mean, what is cut or left out, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.errors import AnnotationError, ConfigError, DataError, NonFiniteError, PoolscoutError, TableError
from poolscout.formats.predictions import Predictions, names_of, read_predictions
from poolscout.tables.declared import DETECTIONS
from poolscout.tables.parquet import part_path, write_table
from tests.formats.coco_files import document, saved

IDS = ("a.jpg", "b/c.jpg")
POOL = pa.table({
    "image_id": pa.array(IDS),
    "width": pa.array([100, 100], pa.int32()),
    "height": pa.array([50, 50], pa.int32()),
})  # fmt: skip


def box(image: Any = "a.jpg", category: Any = "car", p: float = 0.5, bbox: Any = (10, 20, 30, 5), **more: Any) -> dict:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": p, **more}


def row(image: str = "a.jpg", name: str = "car", p: float = 0.5, xyxy: Any = (10, 20, 40, 25), **more: Any) -> dict:
    corners = dict(zip(("x1_px", "y1_px", "x2_px", "y2_px"), map(float, xyxy), strict=True))
    return {"image_id": image, "class": name, "probability": p, **corners, **more}


def as_json(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def as_parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(*paths: Path, coco: Path | None = None, classes: Sequence[str] | None = None, pool: pa.Table = POOL):
    return read_predictions(paths, pool, names_of(pa.chunked_array([IDS]), coco, classes))


def told(found: Predictions) -> list[tuple]:
    """(image, member, class, p, box) of each box."""
    return [
        (IDS[image], found.members[member], found.classes[cls], round(float(p), 6), tuple(map(float, corners)))
        for image, member, cls, p, corners in zip(
            found.images, found.member, found.class_index, found.probabilities, found.boxes_xyxy_px, strict=True
        )
    ]


CAR_IN_A = ("a.jpg", 0, "car", 0.5, (10.0, 20.0, 40.0, 25.0))
PERSON_IN_C = ("b/c.jpg", 0, "person", 0.75, (0.0, 0.0, 100.0, 50.0))


def test_coco_results_go_by_the_ids_of_the_coco_source_or_by_file_name(tmp_path: Path) -> None:
    coco = saved(tmp_path, document())  # images 10 and 4; categories 7: car, 0: person
    by_id = as_json(tmp_path / "id.json", [box(10, 7), box(4, 0, 0.75, (0, 0, 100, 50))])
    by_name = as_json(tmp_path / "name.json", [box("a.jpg", 7), box("b/c.jpg", 0, 0.75, (0, 0, 100, 50))])
    floats = as_parquet(tmp_path / "float.parquet", [box(10.0, 7.0), box(4.0, 0.0, 0.75, (0, 0, 100, 50))])
    for path in (by_id, by_name, floats):
        found = read(path, coco=coco)
        assert told(found) == [CAR_IN_A, PERSON_IN_C]
        assert found.classes == ("car", "person"), "in the source's order"
        assert found.class_probabilities is None
        assert found.notes == ()
    both = as_json(tmp_path / "both.json", [box("a.jpg", 7, category_name="Auto"), box("./b/c.jpg", 7, 0.25)])
    crooked = document()
    crooked["images"][1]["file_name"] = "./b/c.jpg"
    found = read(both, coco=saved(tmp_path, crooked))
    assert [(one[0], one[2]) for one in told(found)] == [("a.jpg", "car"), ("b/c.jpg", "car")]


def test_without_a_coco_source_a_class_is_named_or_its_id_is_its_name(tmp_path: Path) -> None:
    for number, (rows, name) in enumerate([
        ([box(category=3)], "3"), ([box(category=3.0)], "3"), ([box(category="car")], "car"),
        ([box(category=3, category_name="car")], "car"), ([box(category=3, **{"class": "car"})], "car"),
        ([row()], "car"),
    ]):  # fmt: skip
        expected = [(*CAR_IN_A[:2], name, *CAR_IN_A[3:])]
        assert told(read(as_json(tmp_path / f"{number}.json", rows))) == expected, rows
        assert told(read(as_parquet(tmp_path / f"{number}.parquet", rows))) == expected, rows
    assert read(as_json(tmp_path / "c.json", [box(category="b"), box(category="a")])).classes == ("a", "b")


def test_parquet_types_of_other_writers_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([box(), box("b/c.jpg", "person", 0.75, (0, 0, 100, 50))])
    odd = pa.table({
        "image_id": table["image_id"].cast(pa.large_string()),
        "category_id": table["category_id"].dictionary_encode(),
        "bbox": table["bbox"].cast(pa.list_(pa.float32(), 4)),
        "score": table["score"].cast(pa.float16()),
        "an_unknown_column": pa.array([{"x": 1}, {"x": 2}]),
    })  # fmt: skip
    pq.write_table(odd, tmp_path / "odd.parquet", row_group_size=1)
    assert told(read(tmp_path / "odd.parquet")) == [CAR_IN_A, PERSON_IN_C]


def test_a_detection_table_of_our_own_in_parts_is_read_back(tmp_path: Path) -> None:
    for number, image in enumerate(IDS):
        rows = DETECTIONS.from_rows([row(image, p=0.1 + number, member=-1)] if number == 0 else [])
        write_table(part_path(tmp_path / "detections", number), DETECTIONS, rows)
    found = read(tmp_path / "detections")
    assert found.members == (-1,)
    assert found.probabilities.tolist() == [np.float32(0.1)], "to the last bit"


def test_the_order_of_rows_is_not_seen_and_members_come_from_files_or_from_a_column(tmp_path: Path) -> None:
    first = [box(p=0.5), box(p=0.25), box("b/c.jpg", "person", 0.75, (0, 0, 100, 50))]
    second = [box(p=0.125)]
    files = read(as_json(tmp_path / "0.json", first), as_json(tmp_path / "1.json", second))
    assert files.members == (0, 1)
    assert [(image, member, p) for image, member, _, p, _ in told(files)] == [
        ("a.jpg", 0, 0.5), ("a.jpg", 0, 0.25), ("a.jpg", 1, 0.125), ("b/c.jpg", 0, 0.75),
    ]  # fmt: skip
    column = [one | {"member": number} for number, rows in enumerate([first, second]) for one in rows]
    assert told(read(as_json(tmp_path / "m.json", column[::-1]))) == told(files)
    assert told(read(as_parquet(tmp_path / "m.parquet", column[1:] + column[:1]))) == told(files)
    swapped = read(tmp_path / "1.json", tmp_path / "0.json")
    assert {(*one[:1], 1 - one[1], *one[2:]) for one in told(swapped)} == set(told(files))


def test_a_member_that_found_nothing_is_one_all_the_same(tmp_path: Path) -> None:
    found = read(as_json(tmp_path / "0.json", [box()]), as_json(tmp_path / "1.json", []))
    assert found.members == (0, 1)
    assert told(found) == [CAR_IN_A]


def test_boxes_are_cut_at_the_border_and_those_without_area_are_counted(tmp_path: Path) -> None:
    rows = [box(bbox=(-10, 40, 30, 100)), box(bbox=(100, 0, 5, 5)), box(bbox=(5, 5, 0, 9)), box("b/c.jpg")]
    found = read(as_json(tmp_path / "f.json", rows), pool=POOL.slice(0, 1))  # b/c.jpg is known, but set aside
    assert told(found) == [("a.jpg", 0, "car", 0.5, (0.0, 40.0, 20.0, 50.0))]
    assert found.notes == (
        "the detections in f.json: 1 boxes of images in the quarantine were left out",
        "the detections in f.json: 2 boxes that lie outside their image, or have no area, were left out",
    )


def test_class_probabilities_follow_their_box_in_the_order_of_the_classes(tmp_path: Path) -> None:
    coco = saved(tmp_path, document())
    rows = [row(p=0.25, class_probabilities=[0.25, 0.125]), row(p=0.5, class_probabilities=[0.5, 0.0])]
    path = as_parquet(tmp_path / "f.parquet", rows)
    for found in (read(path, coco=coco), read(path, classes=["car", "person"])):
        assert found.class_probabilities is not None
        assert found.class_probabilities.tolist() == [[0.5, 0.0], [0.25, 0.125]]
    plain = as_json(tmp_path / "plain.json", [row()])
    assert read(path, plain, coco=coco).class_probabilities is None, "not every file has them"
    empty = as_json(tmp_path / "empty.json", [])
    assert read(path, empty, coco=coco).class_probabilities is not None, "every box has them"


LISTS = {"class_probabilities": [0.5, 0.1]}
BAD: list[tuple[str, Any, type[PoolscoutError], str]] = [
    ("an object", {"images": [], "annotations": []}, DataError, "not COCO results"),
    ("no objects", [1, 2], DataError, "not COCO results"),
    ("no boxes", [], DataError, "no boxes"),
    ("neither layout", [{"image": "a.jpg", "bbox": [1, 2, 3, 4], "score": 1}], DataError, "image, bbox, score"),
    ("no class", [{"image_id": "a.jpg", "bbox": [1, 2, 3, 4], "score": 1}], DataError, "category_id"),
    ("unknown image", [box(), box("z.jpg"), box("y.jpg")], AnnotationError, "2 images .*\n.*'z.jpg', 'y.jpg'"),
    ("a number for a name", [box(10)], AnnotationError, "got: +10\n"),
    ("mixed ids", [box(1), box("a.jpg")], DataError, "'image_id' is of different types"),
    ("a logit", [box(p=0.5), box("b/c.jpg", p=3.2)], DataError, "1 scores .*\n.*images b/c.jpg(.|\n)*sigmoid"),
    ("below 0", [box(p=-0.1)], DataError, "no probabilities"),
    ("NaN score", [box(), box("b/c.jpg", p=float("nan"))], NonFiniteError, "NaN .* 1 boxes\n.*images b/c.jpg"),
    ("infinite box", [box(bbox=(0, 0, float("inf"), 1))], NonFiniteError, "images a.jpg"),
    ("null in a box", [box(bbox=(0, 0, None, 1))], NonFiniteError, "images a.jpg"),
    ("negative width", [box(), box("b/c.jpg", bbox=(9, 9, -3, 3))], AnnotationError, "1 boxes .*\n.*b/c.jpg"),
    ("turned corners", [row(xyxy=(9, 9, 3, 12))], AnnotationError, "negative side"),
    ("three numbers", [box(), box(bbox=(1, 2, 3))], AnnotationError, "1 bbox are not 4 numbers\n.*3 numbers in row 1"),
    ("words", [box(bbox=["a", "b", "c", "d"])], DataError, "'bbox' is of the wrong type"),
    ("a box that is no list", [box() | {"bbox": 3}], DataError, "'bbox' is of the wrong type"),
    ("score in words", [box() | {"score": "0.9"}], DataError, "'score' is of the wrong type"),
    ("no score", [box(), box() | {"score": None}], AnnotationError, "'score' is missing in 1 of 2 .*\n.*rows 1"),
    ("no name", [row(name="")], AnnotationError, "unknown classes"),
    ("lists without order", [row(**LISTS)], ConfigError, "labelling.classes"),
    ("half a member", [row(member=0.5)], DataError, "'member' is of the wrong type"),
    ("ensemble and members", [row(member=-1), row(member=0)], AnnotationError, "members below 0"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "kind", "message"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_files_are_refused_with_what_is_wrong(
    tmp_path: Path, rows: Any, kind: type[PoolscoutError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        read(as_json(tmp_path / "f.json", rows))
    assert caught.type is kind
    assert "f.json" in str(caught.value)
    assert caught.value.expected is not None


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([box(10, 8)], AnnotationError, "unknown category ids\n.*8\n.*7 \\(car\\)"),
        ([row(name="cat")], AnnotationError, "unknown classes\n.*'cat'\n.*car, person"),
        ([row(class_probabilities=[0.5])], AnnotationError, "not 2 numbers\n.*1 numbers in row 0"),
        ([row(class_probabilities=[0.5, 7.0])], AnnotationError, "no probabilities\n.*0.5 to 7; images a.jpg"),
        ([row(class_probabilities=[0.5, float("nan")])], NonFiniteError, "images a.jpg"),
        ([row(**LISTS), row()], AnnotationError, "'class_probabilities' is missing in 1 of 2"),
    ],
)
def test_what_does_not_fit_the_coco_source_is_refused(
    tmp_path: Path, rows: Any, kind: type[PoolscoutError], message: str
) -> None:
    coco = saved(tmp_path, document())
    for path in (as_json(tmp_path / "f.json", rows), as_parquet(tmp_path / "f.parquet", rows)):
        with pytest.raises(kind, match=message):
            read(path, coco=coco)


@pytest.mark.parametrize("content", [b"", b"[{", b"PAR1 and no more", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"f.json: the detections cannot be read"):
        read(path)


def test_files_that_are_not_there_or_not_one_for_each_member_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not there"):
        read(tmp_path / "none.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="no parts"):
        read(tmp_path / "empty")
    one = as_json(tmp_path / "one.json", [row()])
    with pytest.raises(ConfigError, match="given twice"):
        read(one, tmp_path / "empty" / ".." / "one.json")
    two = as_json(tmp_path / "two.json", [row(member=0), row(member=1)])
    with pytest.raises(ConfigError, match=r"at once\n.*2 files, and members 0, 1 in .*two.json"):
        read(one, two)
    same = as_json(tmp_path / "same.json", [row("b/c.jpg", member=7)])
    assert [one[:2] for one in told(read(one, same))] == [("a.jpg", 0), ("b/c.jpg", 1)], "a file is one member"
