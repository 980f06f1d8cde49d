import json

import pyarrow.parquet as pq
import pytest

from poolscout.config import build_config
from poolscout.errors import AnnotationError, ConfigError, DataError
from poolscout.labels import LabelStore, Oracle
from tests.labels.scenes import coco

# Every number and class occurs in one image only, so that a leak can be told.
TRUTH = {
    "a.jpg": [("car", [11, 12, 13, 14])],
    "day/b.jpg": [("person", [21, 22, 23, 24])],
    "day/c.jpg": [],
    "night/b.jpg": [("car", [31, 32, 33, 17]), ("person", [41.5, 2, 3, 4])],
}


@pytest.fixture
def oracle(tmp_path):
    return Oracle(coco(tmp_path, TRUTH))


def test_reveals_exactly_what_is_asked(oracle):
    labels = oracle.reveal(["night/b.jpg", "day/c.jpg"])
    assert labels.labelled.select(["image_id", "n_boxes", "source"]).to_pylist() == [
        {"image_id": "day/c.jpg", "n_boxes": 0, "source": "oracle"},
        {"image_id": "night/b.jpg", "n_boxes": 2, "source": "oracle"},
    ]
    assert [list(row.values()) for row in labels.boxes.to_pylist()] == [
        ["night/b.jpg", "car", 31, 32, 64, 49], ["night/b.jpg", "person", 41.5, 2, 44.5, 6],
    ]  # fmt: skip
    assert oracle.reveal([]).labelled.num_rows == 0
    assert oracle.classes == ("car", "person")
    assert oracle.image_ids == tuple(TRUTH)


def test_no_label_of_an_unrevealed_image_reaches_the_store_or_the_disk(oracle, tmp_path):
    store = LabelStore(tmp_path / "run" / "labels")
    store.add(oracle.reveal(["a.jpg"]), "oracle")
    assert store.current().labelled["image_id"].to_pylist() == ["a.jpg"]
    assert set(store.current().boxes["image_id"].to_pylist()) == {"a.jpg"}
    for path in (tmp_path / "run").rglob("*.*"):
        told = json.dumps(pq.read_table(path).to_pylist()) + str(pq.read_schema(path).metadata)
        raw = path.read_bytes()
        for secret in ("day/b.jpg", "day/c.jpg", "night/b.jpg", "person"):
            assert secret not in told
            assert secret.encode() not in raw
        for number in (21.0, 44.0, 31.0, 41.5):
            assert str(number) not in told


def test_the_oracle_has_no_public_way_around_reveal(oracle):
    public = {name: getattr(oracle, name) for name in dir(oracle) if not name.startswith("_")}
    assert set(public) == {"classes", "image_ids", "notes", "reveal"}
    assert "21" not in str({name: value for name, value in public.items() if name != "reveal"})


def test_unknown_or_repeated_images(oracle):
    with pytest.raises(DataError, match=r"does not know 1 of 2 images(.|\n)*did you mean 'day/b\.jpg'"):
        oracle.reveal(["a.jpg", "dai/b.jpg"])
    with pytest.raises(DataError, match="labelled twice"):
        oracle.reveal(["a.jpg", "a.jpg"])


def test_classes_can_be_chosen(tmp_path):
    oracle = Oracle(coco(tmp_path, TRUTH), ["person"])
    assert oracle.classes == ("person",)
    assert oracle.reveal(["a.jpg", "night/b.jpg"]).boxes["class"].to_pylist() == ["person"]


def test_unknown_class_and_class_without_examples(tmp_path):
    with pytest.raises(ConfigError, match=r"no class 'persn'(.|\n)*did you mean 'person'"):
        Oracle(coco(tmp_path, TRUTH), ["car", "persn"])
    only_cars = coco(tmp_path, {"a.jpg": [("car", [1, 2, 3, 4])]})
    with pytest.raises(ConfigError, match=r"no example of 'person'\n  got:      0 boxes"):
        Oracle(only_cars, ["car", "person"])
    assert Oracle(only_cars).classes == ("car",)


def test_no_boxes_at_all(tmp_path):
    with pytest.raises(AnnotationError, match=r"nothing to learn\n  got:      1 images without any box"):
        Oracle(coco(tmp_path, {"a.jpg": []}))


def test_bad_boxes_and_missing_sizes(tmp_path):
    path = coco(tmp_path, {"a.jpg": [("car", [90, 5, 20, 5]), ("car", [5, 5, 0, 1])]}, width=None, height=None)
    with pytest.raises(AnnotationError, match="1 of 2 annotations"):
        Oracle(path)
    oracle = Oracle(path, bad_boxes="drop", sizes={"a.jpg": (100, 50)})
    assert oracle.reveal(["a.jpg"]).boxes["x2_px"].to_pylist() == [100]
    assert len(oracle.notes) == 2


@pytest.mark.parametrize("classes", [[], ["car", "car"], [""]])
def test_configured_classes_are_names_each_once(tmp_path, classes):
    values = {"pool": {"source": "x.json"}, "labelling": {"classes": classes}}
    with pytest.raises(ConfigError, match=r"labelling\.classes(.|\n)*each once"):
        build_config(values, base=tmp_path)
