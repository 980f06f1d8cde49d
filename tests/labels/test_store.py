import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.errors import CorruptPartError, DataError, RunError, TableError
from poolscout.labels import Labels, LabelStore, sizes_of
from tests.labels.scenes import CLASSES, boxes

FIRST = Labels.build(
    ["b", "a"], boxes(("b", "car", 0, 0, 5, 5), ("a", "car", 1, 1, 2, 2), ("b", "person", 3, 3, 9, 9)), "x"
)
CORRECTED = Labels.build(["b", "c"], boxes(("b", "person", 7, 7, 9, 9)), "y")


def test_labels_are_counted_and_sorted_and_foreign_boxes_left_out():
    labels = Labels.build(["b", "a"], boxes(("z", "car", 0, 0, 1, 1), ("b", "car", 0, 0, 5, 5)), "x")
    assert labels.labelled.select(["image_id", "n_boxes"]).to_pylist() == [
        {"image_id": "a", "n_boxes": 0}, {"image_id": "b", "n_boxes": 1},
    ]  # fmt: skip
    assert labels.boxes["image_id"].to_pylist() == ["b"]
    with pytest.raises(DataError, match=r"labelled twice\n  got:      a"):
        Labels.build(["a", "b", "a"], boxes(), "x")


def test_a_new_store_is_empty(tmp_path):
    store = LabelStore(tmp_path / "labels")
    assert store.version == 0
    assert store.current().labelled.num_rows == 0
    assert store.current().boxes.num_rows == 0


def test_later_deliveries_replace_image_by_image_and_say_where_from(tmp_path):
    store = LabelStore(tmp_path / "labels")
    assert store.add(FIRST, "oracle") == 0
    assert store.add(CORRECTED, "mended.json") == 1
    assert store.version == 2
    current = store.current()
    assert current.labelled.to_pylist() == [
        {"image_id": "a", "n_boxes": 1, "delivery": 0, "source": "oracle"},
        {"image_id": "b", "n_boxes": 1, "delivery": 1, "source": "mended.json"},
        {"image_id": "c", "n_boxes": 0, "delivery": 1, "source": "mended.json"},
    ]
    assert current.boxes.select(["image_id", "class", "x1_px"]).to_pylist() == [
        {"image_id": "a", "class": "car", "x1_px": 1.0}, {"image_id": "b", "class": "person", "x1_px": 7.0},
    ]  # fmt: skip


def test_an_earlier_version_stays_what_it_was(tmp_path):
    store = LabelStore(tmp_path)
    store.add(FIRST, "oracle")
    before, digest = store.current(1), store.digest()
    store.add(CORRECTED, "mended.json")
    assert store.current(1).boxes.equals(before.boxes)
    assert store.current(1).labelled.equals(before.labelled)
    assert store.digest(1) == digest != store.digest()
    assert store.current(0).labelled.num_rows == 0


def test_deliveries_never_change(tmp_path):
    store = LabelStore(tmp_path)
    assert store.add(FIRST, "oracle", delivery=0) == 0
    bytes_before = [path.read_bytes() for path in store.paths(0)]
    assert store.add(FIRST, "oracle", delivery=0) == 0  # a repeated stage
    with pytest.raises(RunError, match="delivery 0 is there already"):
        store.add(CORRECTED, "oracle", delivery=0)
    with pytest.raises(RunError, match="delivery 0 is there already"):
        store.add(FIRST, "somebody else", delivery=0)
    assert [path.read_bytes() for path in store.paths(0)] == bytes_before


def test_half_a_delivery_does_not_count(tmp_path):
    store = LabelStore(tmp_path)
    store.add(FIRST, "oracle")
    store.add(CORRECTED, "mended.json")
    store.paths(1)[1].unlink()  # killed between the two files
    assert store.version == 1
    assert store.current().labelled.num_rows == 2
    assert store.add(CORRECTED, "mended.json") == 1
    assert store.current().labelled.num_rows == 3


def test_lost_and_damaged_deliveries_are_noticed(tmp_path):
    store = LabelStore(tmp_path)
    store.add(FIRST, "oracle")
    store.add(CORRECTED, "mended.json")
    kept = store.paths(0)[1].read_bytes()
    store.paths(0)[1].unlink()
    with pytest.raises(CorruptPartError, match=r"deliveries are missing(.|\n)*bring back delivery 0"):
        _ = store.version
    with pytest.raises(TableError, match="labelled-00000"):
        store.current(2)
    store.paths(0)[1].write_bytes(kept[:100])
    with pytest.raises(CorruptPartError, match="labelled-00000"):
        store.current()


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.tuples(st.integers(1, 99), st.integers(1, 99)), max_size=20), st.data())
def test_sizes_are_looked_up_in_the_table(sizes, data):
    kinds = [pa.string(), pa.int32(), pa.int32()]
    columns = [list(sizes), *([size[side] for size in sizes.values()] for side in range(2))]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
    table = pa.table(arrays, names=["image_id", "width", "height"])
    at = data.draw(st.integers(0, len(sizes)))
    found = sizes_of(pa.concat_tables([table.slice(0, at), table.slice(at)]))
    assert dict(found) == sizes
    for name in data.draw(st.lists(st.sampled_from([*sizes, "not there"]), max_size=20)):
        assert found.get(name) == sizes.get(name)


def test_by_image_gives_arrays_for_every_labelled_image():
    labels = Labels(pa.concat_tables([FIRST.labelled, CORRECTED.labelled.slice(1)]), FIRST.boxes, ())
    arrays = labels.by_image(CLASSES)
    assert list(arrays) == ["a", "b", "c"]
    assert arrays["b"][0].tolist() == [[0, 0, 5, 5], [3, 3, 9, 9]]
    assert arrays["b"][1].tolist() == [0, 1]
    assert arrays["c"][0].shape == (0, 4)
    assert arrays["c"][0].dtype == np.float32
    assert arrays["c"][1].dtype == np.int64
    assert labels.by_image(["person"])["b"][1].tolist() == [0]
    assert labels.by_image(["person"])["a"][0].shape == (0, 4)
