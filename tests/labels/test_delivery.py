import json

import pyarrow as pa
import pytest

from poolscout.errors import AnnotationError, DataError
from poolscout.labels import LabelStore, add_delivery, link_name, read_delivery
from tests.labels.scenes import CLASSES, coco, pool

CAR, PERSON = ("car", [1, 2, 3, 4]), ("person", [5, 6, 7, 8])


def read(tmp_path, images, **options):
    size = {key: options.pop(key) for key in ("width", "height") if key in options}
    return read_delivery(coco(tmp_path, images, **size), pool(), CLASSES, **options)


def test_every_listed_image_is_labelled(tmp_path):
    labels = read(tmp_path, {"day/b.jpg": [CAR, PERSON], "a.jpg": []})
    assert labels.labelled.select(["image_id", "n_boxes", "source"]).to_pylist() == [
        {"image_id": "a.jpg", "n_boxes": 0, "source": "back.json"},
        {"image_id": "day/b.jpg", "n_boxes": 2, "source": "back.json"},
    ]
    assert [list(row.values()) for row in labels.boxes.to_pylist()] == [
        ["day/b.jpg", "car", 1, 2, 4, 6], ["day/b.jpg", "person", 5, 6, 12, 14],
    ]  # fmt: skip


def test_images_may_be_named_as_in_the_folder_of_links(tmp_path):
    labels = read(tmp_path, {link_name("night/b.jpg"): [CAR], "day/b.jpg": [PERSON]}, width=None, height=None)
    assert labels.boxes.select(["image_id", "class"]).to_pylist() == [
        {"image_id": "day/b.jpg", "class": "person"}, {"image_id": "night/b.jpg", "class": "car"},
    ]  # fmt: skip


def test_images_that_are_no_files_may_be_named_as_in_the_folder(tmp_path):
    places = {"v.mp4#000000": "/v/v.mp4#frame=0", "v.mp4#000120": "/v/v.mp4#frame=120", "s/7": "/s.tar#512+9"}
    frames = (
        pool()
        .slice(0, 3)
        .set_column(0, "image_id", pa.array(list(places)))
        .set_column(1, "uri", pa.array(list(places.values())))
    )
    names = {image_id: link_name(image_id, uri) for image_id, uri in places.items()}
    # A video's frame, one below the folder of a split, and one by its id.
    path = coco(tmp_path, {names["v.mp4#000120"]: [CAR], f"train/images/{names['s/7']}": [], "v.mp4#000000": [PERSON]})
    labels = read_delivery(path, frames, CLASSES)
    assert dict(zip(*labels.labelled.select(["image_id", "n_boxes"]).to_pydict().values(), strict=True)) == {
        "s/7": 0, "v.mp4#000000": 1, "v.mp4#000120": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("images", "options", "told"),
    [
        ({"dai/b.jpg": [CAR]}, {}, r"not in the pool \(1\): dai/b\.jpg(.|\n)*did you mean 'day/b\.jpg'"),
        ({"export/c.jpg": [CAR]}, {}, r"not in the pool(.|\n)*did you mean 'day/c\.jpg'"),
        ({"export/c.jpg": [CAR], "export/a.jpg": []}, {}, r"did you mean 'day/c\.jpg'"),
        ({"dai/b.jpg": [CAR], "a.jpg": [CAR]}, {}, r"did you mean 'day/b\.jpg'"),
        ({"dai/x.jpg": [CAR], "dai/y.jpg": []}, {}, r"\(2\)(.|\n)*fix: +none of its images(.|\n)*another data set"),
        ({"day/b.jpg": [CAR], link_name("day/b.jpg"): [CAR]}, {}, r"listed twice \(1\): day/b\.jpg"),
        ({"a.jpg": [CAR]}, {"width": 50, "height": 25}, r"another size \(1\): a\.jpg is 100×50, delivered as 50×25"),
        ({"a.jpg": [("cat", [1, 2, 3, 4])]}, {}, r"classes that this run does not learn\n  got:      cat \(1 boxes\)"),
        ({"a.jpg": [("cars", [1, 2, 3, 4])]}, {}, r"did you mean 'car'"),
        ({"a.jpg": [CAR, ("car", [100, 2, 3, 4])]}, {}, r"wholly outside its image \(1\): 101"),
        ({"a.jpg": [], "day/b.jpg": []}, {}, r"without any box\n  got:      2 images, 0 boxes(.|\n)*--allow-empty"),
        ({}, {}, "a delivery without images"),
        ({}, {"allow_empty": True}, "a delivery without images"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, images, options, told):
    with pytest.raises(AnnotationError, match=told):
        read(tmp_path, images, **options)


def test_empty_images_and_bad_boxes_can_be_accepted(tmp_path):
    assert read(tmp_path, {"a.jpg": []}, allow_empty=True).labelled["n_boxes"].to_pylist() == [0]
    labels = read(tmp_path, {"a.jpg": [CAR, ("car", [1, 1, 0, 0]), ("car", [95, 1, 9, 9])]}, bad_boxes="drop")
    assert labels.labelled["n_boxes"].to_pylist() == [2]
    assert len(labels.notes) == 2
    assert "annotation 101" in labels.notes[1]


def test_a_class_without_boxes_in_the_file_does_not_matter(tmp_path):
    path = coco(tmp_path, {"a.jpg": [CAR]})
    content = json.loads(path.read_text())
    content["categories"].append({"id": 77, "name": "zebra"})
    path.write_text(json.dumps(content))
    assert read_delivery(path, pool(), CLASSES).boxes.num_rows == 1


def test_partial_then_corrected_deliveries(tmp_path):
    store, asked = LabelStore(tmp_path / "labels"), ["a.jpg", "day/b.jpg", "day/c.jpg"]
    first = add_delivery(store, coco(tmp_path, {"a.jpg": [CAR]}, "one.json"), pool(), CLASSES, asked=asked)
    assert (first.delivery, first.n_images, first.n_boxes, first.n_replaced) == (0, 1, 1, 0)
    assert (first.missing, first.unasked) == (["day/b.jpg", "day/c.jpg"], [])
    images = {"day/c.jpg": [], "a.jpg": [PERSON, PERSON], "night/b.jpg": [CAR]}
    second = add_delivery(store, coco(tmp_path, images, "two.json"), pool(), CLASSES, asked=asked)
    assert (second.delivery, second.n_images, second.n_boxes, second.n_replaced) == (1, 3, 3, 1)
    assert (second.missing, second.unasked) == (["day/b.jpg"], ["night/b.jpg"])
    current = store.current()
    assert current.labelled.select(["image_id", "n_boxes", "source"]).to_pylist() == [
        {"image_id": "a.jpg", "n_boxes": 2, "source": "two.json"},
        {"image_id": "day/c.jpg", "n_boxes": 0, "source": "two.json"},
        {"image_id": "night/b.jpg", "n_boxes": 1, "source": "two.json"},
    ]


def test_a_refused_delivery_stores_nothing(tmp_path):
    store = LabelStore(tmp_path / "labels")
    with pytest.raises(AnnotationError):
        add_delivery(store, coco(tmp_path, {"a.jpg": [CAR], "x.jpg": [CAR]}), pool(), CLASSES)
    with pytest.raises(DataError, match="no such annotation file"):
        add_delivery(store, tmp_path / "nothing.json", pool(), CLASSES)
    assert store.version == 0
    assert not store.folder.exists()
