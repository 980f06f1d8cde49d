import math
import re
from pathlib import Path

import pytest

from poolscout.errors import AnnotationError, DataError, PoolscoutError
from poolscout.formats.coco import read_coco, read_coco_images
from tests.formats.coco_files import document, saved


def boxes_of(path, **options):
    return read_coco(path, **options).boxes.to_pylist()


def box(**changes):
    return {"id": 99, "image_id": 10, "category_id": 7, "bbox": [10, 20, 30, 5], **changes}


def test_boxes_are_corners_and_classes_are_names(tmp_path):
    coco = read_coco(saved(tmp_path, document()))
    assert coco.classes == ("car", "person")
    assert [(i.image_id, i.width, i.height) for i in coco.images] == [("a.jpg", 100, 50), ("b/c.jpg", 100, 50)]
    assert coco.images[0].metadata == {"town": "Ulm", "frame": 3}
    keys = ("image_id", "class", "x1_px", "y1_px", "x2_px", "y2_px")
    assert coco.boxes.to_pylist() == [
        dict(zip(keys, ("a.jpg", "car", 10, 20, 40, 25), strict=True)),
        dict(zip(keys, ("b/c.jpg", "person", 0, 0, 100, 50), strict=True)),
    ]
    assert (coco.dropped, coco.n_clipped, coco.n_crowd, coco.notes) == ([], 0, 0, ())


@pytest.mark.parametrize("ids", [(0, 1), (1, 2), (3, 90), ("x", "y"), (0.0, 1.0)])
def test_category_ids_may_start_anywhere(tmp_path, ids):
    content = document()
    for category, annotation, number in zip(content["categories"], content["annotations"], ids, strict=True):
        category["id"] = annotation["category_id"] = number
    assert [row["class"] for row in boxes_of(saved(tmp_path, content))] == ["car", "person"]


@pytest.mark.parametrize("ids", [(0, 1), ("a", "b"), (1.0, 2.0), (10**30, -1)])
def test_image_ids_may_be_anything_that_tells_images_apart(tmp_path, ids):
    content = document()
    for image, annotation, identity in zip(content["images"], content["annotations"], ids, strict=True):
        image["id"] = annotation["image_id"] = identity
    assert [row["image_id"] for row in boxes_of(saved(tmp_path, content))] == ["a.jpg", "b/c.jpg"]


BAD_BOXES = {
    "nan": (box(bbox=[math.nan, 1, 2, 3]), "NaN or infinity"),
    "infinite": (box(bbox=[1, 1, math.inf, 3]), "NaN or infinity"),
    "huge int": (box(bbox=[10**400, 1, 2, 3]), "NaN or infinity"),
    "negative": (box(bbox=[10, 10, -2, 3]), "zero or negative size"),
    "zero": (box(bbox=[10, 10, 0, 3]), "zero or negative size"),
    "vanishing": (box(bbox=[10, 10, 1e-12, 3]), "zero or negative size"),
    "right of the image": (box(bbox=[100, 10, 5, 5]), "wholly outside"),
    "above the image": (box(bbox=[10, -9, 5, 9]), "wholly outside"),
    "no bbox": (box(bbox=None, segmentation=[[1, 1, 2, 2, 3, 3]]), "segmentation alone"),
    "empty bbox": (box(bbox=[]), "segmentation alone"),
    "three numbers": (box(bbox=[1, 2, 3]), "not four numbers"),
    "texts": (box(bbox=["1", "2", "3", "4"]), "not four numbers"),
    "truth value": (box(bbox=[True, 1, 2, 3]), "not four numbers"),
    "no such image": (box(image_id=11), "image_id that no image has"),
    "image id a list": (box(image_id=[10]), "image_id that no image has"),
    "no such category": (box(category_id=1), "category_id that no category has"),
}


@pytest.mark.parametrize(("annotation", "told"), BAD_BOXES.values(), ids=BAD_BOXES.keys())
def test_bad_box_is_refused_by_id_or_dropped_and_listed(tmp_path, annotation, told):
    content = document()
    content["annotations"].append(annotation)
    path = saved(tmp_path, content)
    with pytest.raises(AnnotationError) as caught:
        read_coco(path)
    message = str(caught.value)
    assert told in message
    assert "99" in message
    assert "1 of 3 annotations are unusable" in message
    assert "bad_boxes: drop" in message
    dropped = read_coco(path, bad_boxes="drop")
    assert dropped.boxes.num_rows == 2
    assert len(dropped.dropped) == 1
    assert "annotation 99" in dropped.dropped[0]
    assert told in dropped.dropped[0]
    assert "annotation 99" in dropped.notes[0]


def test_all_faults_come_in_one_error_with_the_first_few_ids(tmp_path):
    content = document()
    content["annotations"] += [box(id=number, bbox=[1, 1, 0, 0]) for number in range(100, 108)]
    content["annotations"].append(box(id=200, image_id=5))
    with pytest.raises(AnnotationError) as caught:
        read_coco(saved(tmp_path, content))
    message = str(caught.value)
    assert "9 of 11" in message
    assert "(8): 100, 101, 102, 103, 104 … and 3 more" in message
    assert "no image has (1): 200" in message


def test_boxes_over_the_border_are_cut_and_counted(tmp_path):
    content = document()
    content["annotations"] = [box(bbox=[-5, 40, 20, 20]), box(bbox=[90, 0, 10.0000001, 5]), box()]
    coco = read_coco(saved(tmp_path, content))
    assert [tuple(row.values())[2:] for row in coco.boxes.to_pylist()] == [
        (0, 40, 15, 50), (90, 0, 100, 5), (10, 20, 40, 25),
    ]  # fmt: skip
    assert coco.n_clipped == 1
    assert "1 boxes reached over the image's border" in coco.notes[0]


def test_crowds_are_left_out_and_counted(tmp_path):
    content = document()
    content["annotations"].append(box(iscrowd=1, bbox=None))
    coco = read_coco(saved(tmp_path, content))
    assert (coco.boxes.num_rows, coco.n_crowd) == (2, 1)
    assert "1 boxes marked iscrowd" in coco.notes[0]


def test_sizes_may_be_missing_and_come_from_elsewhere(tmp_path):
    content = document()
    for image in content["images"]:
        del image["width"], image["height"]
    content["annotations"] = [box(bbox=[90, 40, 50, 50])]
    path = saved(tmp_path, content)
    assert read_coco(path).images[0].width is None
    assert [row["x2_px"] for row in boxes_of(path)] == [140]
    assert [row["x2_px"] for row in boxes_of(path, sizes={"a.jpg": (100, 50)})] == [100]


BAD_IMAGES = {
    "twice": ({"id": 5, "file_name": "a.jpg"}, "listed twice (1): a.jpg"),
    "twice, other spelling": ({"id": 5, "file_name": "./b//c.jpg"}, "listed twice (1): b/c.jpg"),
    "same id": ({"id": 4, "file_name": "d.jpg"}, "id used twice (1): 4"),
    "no id": ({"file_name": "d.jpg"}, "no id"),
    "nan id": ({"id": math.nan, "file_name": "d.jpg"}, "no id"),
    "no name": ({"id": 5}, "images[2] None"),
    "parent folder": ({"id": 5, "file_name": "../d.jpg"}, "leaving the folder"),
    "parent folder inside": ({"id": 5, "file_name": "b/../../d.jpg"}, "leaving the folder"),
    "windows parent folder": ({"id": 5, "file_name": "..\\d.jpg"}, "leaving the folder"),
    "absolute": ({"id": 5, "file_name": "/etc/passwd"}, "absolute"),
    "windows drive": ({"id": 5, "file_name": "C:\\d.jpg"}, "absolute"),
    "null byte": ({"id": 5, "file_name": "d\0.jpg"}, "control characters"),
    "half a character": ({"id": 5, "file_name": "\ud800.jpg"}, "control characters"),
    "the folder itself": ({"id": 5, "file_name": "."}, "file_name missing"),
    "zero wide": ({"id": 5, "file_name": "d.jpg", "width": 0, "height": 5}, "not a positive whole number"),
    "broken px": ({"id": 5, "file_name": "d.jpg", "width": 5.5, "height": 5}, "not a positive whole number"),
    "endless": ({"id": 5, "file_name": "d.jpg", "width": math.inf, "height": 5}, "not a positive whole number"),
    "text size": ({"id": 5, "file_name": "d.jpg", "width": "5", "height": 5}, "not a positive whole number"),
}


@pytest.mark.parametrize(("image", "told"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
@pytest.mark.parametrize("read", [read_coco, read_coco_images])
def test_bad_image_entry(tmp_path, image, told, read):
    content = document()
    content["images"].append(image)
    with pytest.raises(AnnotationError, match=re.escape(told)):
        read(saved(tmp_path, content))


BAD_CATEGORIES = {
    "one name": ({"id": 5, "name": "car"}, "two categories of one name (1): car"),
    "same id": ({"id": 7, "name": "bus"}, "id used twice (1): 7"),
    "no name": ({"id": 5}, "no name (1): id 5"),
    "blank name": ({"id": 5, "name": " "}, "no name"),
    "no id": ({"name": "bus"}, "no id"),
}


@pytest.mark.parametrize(("category", "told"), BAD_CATEGORIES.values(), ids=BAD_CATEGORIES.keys())
def test_bad_category(tmp_path, category, told):
    content = document()
    content["categories"].append(category)
    with pytest.raises(AnnotationError, match=re.escape(told)):
        read_coco(saved(tmp_path, content))


BAD_STRUCTURES = {
    "results": ([{"image_id": 1, "score": 0.5}], "a json list"),
    "no images": ({"annotations": [], "categories": []}, "no 'images'"),
    "no annotations": ({"images": [], "categories": []}, "no 'annotations'"),
    "no categories": ({"images": [], "annotations": []}, "no 'categories'"),
    "misspelt": ({"imagess": [], "annotations": [], "categories": []}, "did you mean 'imagess'?"),
    "object for list": ({"images": {}, "annotations": [], "categories": []}, "'images' is not a list"),
    "text for entry": ({"images": ["a.jpg"], "annotations": [], "categories": []}, "images[0] is not an object"),
}


@pytest.mark.parametrize(("content", "told"), BAD_STRUCTURES.values(), ids=BAD_STRUCTURES.keys())
def test_wrong_structure(tmp_path, content, told):
    with pytest.raises(AnnotationError, match=re.escape(told)):
        read_coco(saved(tmp_path, content))


@pytest.mark.parametrize("text", ["", "{", '{"images": [', "not json", "[" * 100_000, "1" * 5000])
def test_broken_json_names_the_file(tmp_path, text):
    with pytest.raises(DataError, match="not valid json") as caught:
        read_coco(saved(tmp_path, text))
    assert "annotations.json" in str(caught.value)
    assert "expected:" in str(caught.value)
    assert "fix:" in str(caught.value)


def test_a_key_twice_is_refused(tmp_path):
    text = '{"images": [], "annotations": [], "categories": [], "images": [{"id": 1, "file_name": "a.jpg"}]}'
    with pytest.raises(DataError, match="key 'images' twice in one object"):
        read_coco(saved(tmp_path, text))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.json: no such annotation file"):
        read_coco(tmp_path / "nothing.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path)


def test_other_encodings(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="not valid json"):
        read_coco(path)
    path.write_bytes(b'\xef\xbb\xbf{"images": [], "annotations": [], "categories": []}')
    assert read_coco(path).images == []


def test_the_pool_view_ignores_annotations(tmp_path):
    content = document()
    content["annotations"] = "unreadable"
    content["images"][0]["boxes"] = [[1, 2, 3, 4]]
    path = saved(tmp_path, content)
    assert [image.metadata for image in read_coco_images(path)] == [{"town": "Ulm", "frame": 3}, {}]
    with pytest.raises(PoolscoutError):
        read_coco(path)


def test_a_real_file():
    path = Path(__file__).parents[2].parent / "shared/data/carla_driving/annotations_test.json"
    if not path.exists():
        pytest.skip("the data set is not here")
    coco = read_coco(path)
    counts = coco.boxes["class"].value_counts().to_pylist()
    assert {row["values"]: row["counts"] for row in counts} == {
        "vehicle": 379, "bike": 48, "motobike": 25, "traffic_light": 713, "traffic_sign": 29,
    }  # fmt: skip
    assert len(coco.images) == 278
