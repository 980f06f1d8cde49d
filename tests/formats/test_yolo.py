import os
from pathlib import Path

import pytest

from poolscout.errors import AnnotationError, DataError
from poolscout.formats.yolo import read_yolo, yolo_hash
from tests.formats.annotation_sets import save_image, write_files, yolo_set

A_CAR = ("train/a.jpg", "car", 10.0, 20.0, 40.0, 25.0)


def boxes_of(path, **options):
    return [tuple(row.values()) for row in read_yolo(path, **options).boxes.to_pylist()]


def ids_of(path):
    return [image.image_id for image in read_yolo(path).images]


def rows(folder, text):
    return write_files(yolo_set(folder), {"labels/train/a.txt": text})


def test_a_data_set_as_the_convention_has_it(tmp_path):
    found = read_yolo(yolo_set(tmp_path))
    assert found.classes == ("car", "person")
    assert [(i.image_id, i.width, i.height) for i in found.images] == [
        ("train/a.jpg", 100, 50),
        ("train/b.jpg", 100, 50),
    ]
    assert [tuple(row.values()) for row in found.boxes.to_pylist()] == [pytest.approx(A_CAR)]
    assert found.notes == ()


def test_sizes_that_are_known_spare_the_images(tmp_path):
    yolo_set(tmp_path)
    (tmp_path / "images/train/a.jpg").write_bytes(b"")
    with pytest.raises(AnnotationError, match=r"size of its image is not known \(a.jpg cannot be read\).*a.txt:1"):
        read_yolo(tmp_path)
    assert boxes_of(tmp_path, sizes={"train/a.jpg": (200, 100)}) == [("train/a.jpg", "car", 20, 40, 80, 50)]


def test_boxes_are_shares_of_the_upright_image(tmp_path):
    yolo_set(tmp_path)
    save_image(tmp_path / "images/train/a.jpg", (50, 100), orientation=6)  # stored lying: 100 × 50 upright
    found = read_yolo(tmp_path)
    assert (found.images[0].width, found.images[0].height) == (100, 50)
    assert boxes_of(tmp_path) == [pytest.approx(A_CAR)]


NAMES = {
    "list": "names: [car, person]",
    "block": "names:\n- car\n- person",
    "mapping": "names: {0: car, 1: person}",
    "mapping out of order": "names:\n  1: person\n  0: car",
    "with count": "nc: 2\nnames: [car, person]",
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_names_may_be_a_list_or_a_mapping(tmp_path, names):
    assert read_yolo(yolo_set(tmp_path, f"train: images/train\n{names}\n")).classes == ("car", "person")


def test_class_numbers_may_have_gaps_and_names_stay_text(tmp_path):
    yolo_set(tmp_path, "train: images\nnames: {3: no, 7: 12}\n")
    write_files(tmp_path, {"labels/train/a.txt": "7 .5 .5 .2 .2\n3.0 .5 .5 .2 .2\n"})
    assert read_yolo(tmp_path).classes == ("no", "12")
    assert [row[1] for row in boxes_of(tmp_path)] == ["12", "no"]


ROWS = {
    "with confidence": "0 0.25 0.45 0.3 0.1 0.9",
    "windows line ends": "0 0.25 0.45 0.3 0.1\r\n\r\n",
    "blank lines and tabs": "\n\n  0\t0.25 0.45  0.3 0.1  \n\n",
    "byte order mark": "\ufeff0 0.25 0.45 0.3 0.1",
    "polygon": "0 0.1 0.4 0.4 0.4 0.25 0.5",
    "turned box": "0 0.1 0.4 0.4 0.4 0.4 0.5 0.1 0.5",
}


@pytest.mark.parametrize("text", ROWS.values(), ids=ROWS.keys())
def test_rows(tmp_path, text):
    assert boxes_of(rows(tmp_path, text)) == [pytest.approx(A_CAR)]


def test_rows_with_keypoints_are_boxes(tmp_path):
    rows(tmp_path, "0 0.25 0.45 0.3 0.1 0.9 0.9 2 0.95 0.95 2")
    write_files(tmp_path, {"data.yaml": "train: images/train\nkpt_shape: [2, 3]\nnames: [car]\n"})
    assert boxes_of(tmp_path) == [pytest.approx(A_CAR)]


def test_boxes_over_the_border_are_cut_and_counted(tmp_path):
    found = read_yolo(rows(tmp_path, "0 0 0.5 0.5 1\n1 0.5 0.5 1 1\n"))
    assert [tuple(row.values())[2:] for row in found.boxes.to_pylist()] == [(0, 0, 25, 50), (0, 0, 100, 50)]
    assert found.n_clipped == 1


BAD_ROWS = {
    "class beyond names": ("2 .5 .5 .1 .1", "class index that names does not list"),
    "negative class": ("-1 .5 .5 .1 .1", "class index that names does not list"),
    "half a class": ("0.5 .5 .5 .1 .1", "class index that names does not list"),
    "a name": ("car .5 .5 .1 .1", "not numbers"),
    "nan": ("0 nan .5 .1 .1", "NaN or infinity"),
    "nan class": ("nan .5 .5 .1 .1", "NaN or infinity"),
    "infinite": ("0 .5 .5 1e999 .1", "NaN or infinity"),
    "pixels": ("0 25 23 30 5", "not in shares of the image"),
    "zero": ("0 .5 .5 0 .1", "zero or negative size"),
    "negative": ("0 .5 .5 -.1 .1", "zero or negative size"),
    "outside": ("0 1.5 .5 .1 .1", "wholly outside"),
    "three numbers": ("0 .5 .5", "neither a box"),
    "odd polygon": ("0 .1 .1 .2 .2 .3 .3 .4", "neither a box"),
    "one line polygon": ("0 .1 .1 .2 .1 .3 .1", "zero or negative size"),
    "binary": (b"\xff\xfe\x00", "no text file"),
}


@pytest.mark.parametrize(("text", "told"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_row_is_refused_by_line_or_dropped_and_listed(tmp_path, text, told):
    good = b"0 0.25 0.45 0.3 0.1\n"
    rows(tmp_path, text if isinstance(text, bytes) else good + text.encode())
    with pytest.raises(AnnotationError) as caught:
        read_yolo(tmp_path)
    where = "labels/train/a.txt" if isinstance(text, bytes) else "labels/train/a.txt:2"
    assert told in str(caught.value)
    assert where in str(caught.value)
    assert "bad_boxes: drop" in str(caught.value)
    found = read_yolo(tmp_path, bad_boxes="drop")
    assert found.boxes.num_rows == (0 if isinstance(text, bytes) else 1)
    assert len(found.dropped) == 1
    assert found.dropped[0].startswith(f"{where}: ")


def layout(folder, description, *files):
    for name in files:
        save_image(folder / name)
    write_files(
        folder, {"data.yaml": description, "train/labels/x.txt": "0 0.5 0.5 1 1\n", "flat/x.txt": "0 0.5 0.5 1 1\n"}
    )
    return folder


def test_splits_each_with_its_images_and_labels(tmp_path):
    """As label tools on the web export it: data.yaml says ../, and means its own folder."""
    description = "train: ../train/images\nval: ../valid/images\ntest:\nnames: [car]\n"
    layout(tmp_path, description, "train/images/x.jpg", "valid/images/y.jpg")
    assert ids_of(tmp_path / "data.yaml") == ["train/images/x.jpg", "valid/images/y.jpg"]
    assert [row[0] for row in boxes_of(tmp_path)] == ["train/images/x.jpg"]


def test_labels_beside_images_where_no_folder_is_called_images(tmp_path):
    assert [row[0] for row in boxes_of(layout(tmp_path, "train: flat\nnames: [car]\n", "flat/x.jpg"))] == ["flat/x.jpg"]


def test_the_last_folder_called_images_counts(tmp_path):
    save_image(tmp_path / "images/tour/images/x.jpg")
    write_files(tmp_path, {"data.yaml": "train: images\nnames: [car]\n", "images/tour/labels/x.txt": "0 .5 .5 1 1\n"})
    assert [row[0] for row in boxes_of(tmp_path)] == ["tour/images/x.jpg"]


def test_path_may_be_absolute_relative_or_of_another_machine(tmp_path):
    for path in (tmp_path / "data", "../data", ".", "/nowhere/data", "~"):
        folder = yolo_set(tmp_path / "data", f"path: {path}\ntrain: images/train\nnames: [car, person]\n")
        assert boxes_of(folder) == [pytest.approx(A_CAR)]


def test_path_may_be_elsewhere(tmp_path):
    yolo_set(tmp_path / "data")
    write_files(tmp_path, {"lists/cars.yaml": "path: ..\\data\ntrain: images\\train\nnames: [car, person]\n"})
    assert boxes_of(tmp_path / "lists/cars.yaml") == [pytest.approx(A_CAR)]


LISTS = {
    "dotted": "./images/train/b.jpg\n./images/train/a.jpg\n",
    "plain": "images/train/b.jpg\nimages/train/a.jpg",
    "windows": "images\\train\\b.jpg\r\n.\\images\\train\\a.jpg\r\n\r\n",
    "absolute": "{root}/images/train/b.jpg\n{root}/images/train/a.jpg\n",
    "up and down": "images/../images/train/b.jpg\n  images/train/a.jpg  \n",
    "twice": "images/train/b.jpg\nimages/train/a.jpg\n./images/train/b.jpg\n",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_lists_of_files(tmp_path, text):
    yolo_set(tmp_path, "train: train.txt\nnames: [car, person]\n")
    write_files(tmp_path, {"train.txt": text.format(root=tmp_path)})
    assert ids_of(tmp_path) == ["train/b.jpg", "train/a.jpg"]
    assert boxes_of(tmp_path / "train.txt") == [pytest.approx(A_CAR)]


def test_lists_relative_to_their_own_folder_or_the_data_set(tmp_path):
    yolo_set(tmp_path, "train: [lists/one.txt, lists/two.txt]\nnames: [car, person]\n")
    write_files(
        tmp_path, {"lists/one.txt": "../images/train/a.jpg\n", "lists/two.txt": "images/train/b.jpg\nimages/none.jpg"}
    )
    assert ids_of(tmp_path) == ["train/a.jpg", "train/b.jpg", "lists/images/none.jpg"]


def test_a_list_by_way_of_a_link_to_the_data_set(tmp_path):
    yolo_set(tmp_path / "real", "train: train.txt\nnames: [car, person]\n")
    write_files(tmp_path / "real", {"train.txt": f"{tmp_path}/real/images/train/a.jpg\n"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert boxes_of(tmp_path / "link") == [pytest.approx(A_CAR)]


@pytest.mark.parametrize(
    "line", ["../out.jpg", "/etc/passwd", "images/../../out.jpg", "C:\\out.jpg", "..\\out.jpg", "a\0b", "."]
)
def test_paths_that_leave_the_data_set_are_refused(tmp_path, line):
    yolo_set(tmp_path / "data", "train: train.txt\nnames: [car, person]\n")
    save_image(tmp_path / "out.jpg")
    write_files(tmp_path / "data", {"train.txt": f"images/train/a.jpg\n{line}\n"})
    with pytest.raises(AnnotationError, match=r"outside the data set.*\(1\): line 2: "):
        read_yolo(tmp_path / "data")
    with pytest.raises(AnnotationError, match="outside the data set"):
        read_yolo(write_files(tmp_path / "data", {"data.yaml": "train: ../..\nnames: [car]\n"}))


def test_one_split_by_its_folder_or_list(tmp_path):
    yolo_set(tmp_path, "train: images/train\nval: images/val\nnames: [car, person]\n")
    save_image(tmp_path / "images/val/c.jpg")
    write_files(tmp_path, {"val.txt": "images/val/c.jpg\n"})
    assert ids_of(tmp_path / "images/val") == ids_of(tmp_path / "val.txt") == ["val/c.jpg"]
    assert ids_of(tmp_path) == ["train/a.jpg", "train/b.jpg", "val/c.jpg"]


def test_a_relative_path(tmp_path, monkeypatch):
    yolo_set(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert boxes_of(Path("data")) == boxes_of(Path("data/data.yaml")) == boxes_of(Path("data/images/train"))


def test_an_image_in_two_splits_counts_once(tmp_path):
    assert ids_of(yolo_set(tmp_path, "train: images\nval: images/train\nnames: [car, person]")) == [
        "train/a.jpg",
        "train/b.jpg",
    ]


def test_images_that_cannot_be_told_apart(tmp_path):
    yolo_set(tmp_path)
    save_image(tmp_path / "images/train/a.png")
    with pytest.raises(AnnotationError, match=r"two images of one label file.*train/a.jpg and train/a.png"):
        read_yolo(tmp_path)
    save_image(tmp_path / "images/c.jpg")
    save_image(tmp_path / "c.jpg")
    write_files(tmp_path, {"data.yaml": "train: all.txt\nnames: [car]\n", "all.txt": "images/c.jpg\nc.jpg\n"})
    with pytest.raises(AnnotationError, match="two images of one name"):
        read_yolo(tmp_path)


BAD_DESCRIPTIONS = {
    "no names": ("train: images/train", "no 'names'"),
    "list": ("- a", "no 'names'"),
    "empty": ("", "no 'names'"),
    "no split": ("names: [car]", "no split"),
    "empty names": ("train: images\nnames:", "neither a list nor a mapping"),
    "names a number": ("train: images\nnames: 5", "neither a list nor a mapping"),
    "name twice": ("train: images\nnames: [car, car]", "two classes of one name"),
    "no name": ("train: images\nnames: [car, '']", "no name (1): index 1"),
    "nested name": ("train: images\nnames: [car, [a]]", "no name (1): index 1"),
    "index text": ("train: images\nnames: {a: car}", "no class index"),
    "index negative": ("train: images\nnames: {-1: car}", "no class index"),
    "index twice": ("train: images\nnames: {1: car, 01: bus}", "no class index, or one used twice"),
    "too few": ("nc: 1\ntrain: images\nnames: [car, bus]", "nc is less than"),
    "odd count": ("nc: [1]\ntrain: images\nnames: [car, bus]", "nc is less than"),
    "split a mapping": ("train: {a: b}\nnames: [car]", "'train' is wrong"),
    "split null byte": ('train: "a\\0b"\nnames: [car]', "'train' is wrong"),
    "split missing": ("train: imagez\nnames: [car]", "a split that is not there"),
    "split too long": (f"train: {'x' * 5000}\nnames: [car]", "a split that is not there"),
    "split not a list": ("train: data.yaml\nnames: [car]", "a split that is not there"),
    "key twice": ("train: images\ntrain: labels\nnames: [car]", "a key twice"),
    "name key twice": ("train: images\nnames: {0: car, 0: bus}", "a key twice"),
    "aliases": ("a: &a [x]\nb: [*a, *a]\nnames: [car]", "aliases"),
    "broken": ("names: [car", "not valid YAML"),
    "binary": (b"\xff\x00", "cannot be read"),
    "control": ("names: \x07", "not valid YAML"),
    "deep": ("[" * 2000, "not valid YAML"),
    "tag": ("!!python/object/apply:os.system [ls]", "no 'names'"),
}


@pytest.mark.parametrize(("text", "told"), BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS.keys())
def test_wrong_description(tmp_path, text, told):
    write_files(yolo_set(tmp_path), {"data.yaml": text})
    with pytest.raises(DataError) as caught:
        read_yolo(tmp_path)
    assert told in str(caught.value)
    assert "data.yaml" in str(caught.value) or str(tmp_path) in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_yolo(tmp_path / "data.yaml")
    with pytest.raises(DataError, match=r"no data\.yaml"):
        read_yolo(tmp_path)


def test_names_that_no_table_can_hold(tmp_path):
    yolo_set(tmp_path)
    odd = os.fsencode(tmp_path / "images/train") + b"/\xff.jpg"
    with open(odd, "wb"):  # noqa: PTH123  (not UTF-8)
        pass
    with pytest.raises(AnnotationError, match="a name that cannot be stored"):
        read_yolo(tmp_path)


def test_the_hash_changes_with_labels_and_lists_and_not_with_pixels(tmp_path):
    yolo_set(tmp_path)
    first = yolo_hash(tmp_path)
    save_image(tmp_path / "images/train/a.jpg", (10, 10))
    assert yolo_hash(tmp_path / "data.yaml") == first
    write_files(tmp_path, {"labels/train/b.txt": "0 .5 .5 .1 .1"})
    second = yolo_hash(tmp_path)
    save_image(tmp_path / "images/train/c.jpg")
    assert len({first, second, yolo_hash(tmp_path)}) == 3
