"""What holds for every file: what is written is read back, and damage ends in a poolscout error only."""

import copy
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.errors import AnnotationError, DataError, PoolscoutError
from poolscout.formats.coco import read_coco, write_coco
from poolscout.formats.content import AnnotatedImage
from poolscout.tables.declared import BOXES
from tests.formats.coco_files import document, saved

SIZE_PX = 4096
names = st.text(st.characters(exclude_categories=["C"], exclude_characters="/\\:."), min_size=1, max_size=8).filter(
    str.strip
)
corner = st.floats(0, SIZE_PX - 2, width=32)
side = st.floats(1, SIZE_PX, width=32)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5).filter(lambda t: t.isprintable())


@st.composite
def coco_contents(draw):
    classes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ids = draw(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=4, unique=True))
    metadata = st.dictionaries(names.map("m_{}".format), scalars, max_size=2)
    images = [
        AnnotatedImage(i, *draw(st.sampled_from([(SIZE_PX, SIZE_PX), (None, None)])), draw(metadata)) for i in ids
    ]
    rows = draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(classes), corner, corner, side, side)))
    return images, classes, rows


def table(rows):
    ends = [(i, c, x, y, min(x + w, SIZE_PX), min(y + h, SIZE_PX)) for i, c, x, y, w, h in rows]
    columns = zip(*ends, strict=True) if ends else [[] for _ in BOXES.columns]
    return pa.table([pa.array(list(v), c.type) for v, c in zip(columns, BOXES.columns, strict=True)],
                    names=[c.name for c in BOXES.columns])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(coco_contents())
def test_what_is_written_is_read_back(content):
    images, classes, rows = content
    boxes = table(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        write_coco(path, images, boxes, classes)
        back = read_coco(path)
        first = path.read_bytes()
        write_coco(path, back.images, back.boxes, back.classes)
        assert path.read_bytes() == first
    assert back.images == images
    assert back.classes == tuple(classes)
    assert back.boxes.to_pylist() == boxes.to_pylist()
    assert back.n_clipped == 0


def test_written_file_follows_the_convention(tmp_path):
    boxes = table([("b.jpg", "person", 1, 2, 10, 20)])
    path = tmp_path / "x.json"
    write_coco(
        path, [AnnotatedImage("a.jpg", 50, 60), AnnotatedImage("b.jpg", 50, 60)], boxes, ["car", "person"], scores=[0.5]
    )
    content = json.loads(path.read_text())
    assert content["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]
    assert content["annotations"] == [
        {"id": 1, "image_id": 2, "category_id": 2, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0, "score": 0.5}
    ]
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 50, "height": 60}


def test_writing_refuses_what_does_not_belong_together(tmp_path):
    boxes, images = table([("b.jpg", "person", 1, 2, 10, 20)]), [AnnotatedImage("b.jpg")]
    with pytest.raises(AnnotationError, match="unknown image"):
        write_coco(tmp_path / "x.json", [AnnotatedImage("c.jpg")], boxes, ["person"])
    with pytest.raises(AnnotationError, match=r"unknown class(.|\n)*did you mean 'persons'"):
        write_coco(tmp_path / "x.json", images, boxes, ["persons"])
    with pytest.raises(AnnotationError, match="scores and boxes differ"):
        write_coco(tmp_path / "x.json", images, boxes, ["person"], scores=[])
    with pytest.raises(DataError, match="NaN or infinity"):
        write_coco(tmp_path / "x.json", images, boxes, ["person"], scores=[float("nan")])
    assert list(tmp_path.iterdir()) == []


odd_values = st.sampled_from([
    None, True, -1, 0, 1, 10, 2**70, 10**400, 1e308, float("nan"), float("inf"), "", "a.jpg", "\ud800", "\0", [], [[]],
    {}, [1, 2, 3, 4], [0, 0, 1e39, 1], [1e300, 0, 1e300, 1], {"id": 1},
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_values_end_in_a_poolscout_error_only(data):
    content: object = copy.deepcopy(document())
    for _ in range(data.draw(st.integers(1, 3))):
        place = content
        while True:  # walk down to somewhere, then put something odd there
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys)) if keys else None
            if key is None:
                break
            if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                place[key] = copy.deepcopy(data.draw(odd_values))
                break
            place = place[key]
    _only_poolscout_errors(json.dumps(content))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_end_in_a_poolscout_error_only(data):
    raw = bytearray(json.dumps(document()).encode())
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 40)) | st.just(len(raw)))
    raw[start:end] = data.draw(st.binary(max_size=6))
    _only_poolscout_errors(bytes(raw))


def _only_poolscout_errors(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for bad_boxes in ("error", "drop"):
            try:
                coco = read_coco(path, bad_boxes=bad_boxes)
            except PoolscoutError:
                continue
            ids = {image.image_id for image in coco.images}
            assert set(coco.boxes["image_id"].to_pylist()) <= ids
            for row in coco.boxes.to_pylist():
                assert 0 <= row["x1_px"] < row["x2_px"]
                assert 0 <= row["y1_px"] < row["y2_px"]


def test_undamaged_document_is_fine(tmp_path):
    assert read_coco(saved(tmp_path, document())).boxes.num_rows == 2
