"""What is written is read back, in every format and from one to the next; damage ends in a poolscout error only."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.errors import AnnotationError, ConfigError, DataError, PoolscoutError
from poolscout.formats.annotations import read_annotations
from poolscout.formats.coco import write_coco
from poolscout.formats.content import AnnotatedImage
from poolscout.formats.convert import convert
from poolscout.formats.write_voc import write_voc
from poolscout.formats.write_yolo import write_yolo
from tests import real_data
from tests.formats.annotation_sets import save_image, voc_object, voc_set, voc_xml, write_files, yolo_set
from tests.formats.coco_files import document, saved
from tests.formats.test_coco_properties import names, table

SIDE_PX = st.integers(1, 4096)
edges = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\:."), min_size=1, max_size=8)


@st.composite
def contents(draw):
    """Images of any size in folders, classes of any name (also unused ones), boxes anywhere inside."""
    classes = draw(st.lists(edges, min_size=1, max_size=4, unique=True))
    stems = draw(st.lists(st.lists(edges, min_size=1, max_size=3).map("/".join), min_size=1, max_size=4, unique=True))
    suffixes = st.sampled_from([".jpg", ".PNG", ".jpeg"])
    images = [AnnotatedImage(f"{stem}{draw(suffixes)}", draw(SIDE_PX), draw(SIDE_PX)) for stem in stems]
    rows = []
    for image in draw(st.lists(st.sampled_from(images), max_size=6)):
        x, y = draw(st.floats(0, image.width - 0.5, width=32)), draw(st.floats(0, image.height - 0.5, width=32))
        width, height = draw(st.floats(0.25, 4096, width=32)), draw(st.floats(0.25, 4096, width=32))
        ends = min(x + width, image.width), min(y + height, image.height)
        rows.append((image.image_id, draw(st.sampled_from(classes)), x, y, ends[0] - x, ends[1] - y))
    order = {image.image_id: number for number, image in enumerate(images)}
    return images, table(sorted(rows, key=lambda row: order[row[0]])), classes


def corners(boxes):
    return np.stack([boxes[name].to_numpy() for name in ("x1_px", "y1_px", "x2_px", "y2_px")], axis=1)


def assert_same(found, images, boxes, classes, within_px):
    assert found.images == images
    assert found.classes == tuple(classes)
    assert found.boxes.select(["image_id", "class"]) == boxes.select(["image_id", "class"])
    np.testing.assert_allclose(corners(found.boxes), corners(boxes), rtol=0, atol=within_px)
    assert found.n_clipped == 0


@settings(max_examples=60, deadline=None)
@given(contents())
def test_coco_is_read_back_exactly(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        write_coco(path, *content)
        assert_same(read_annotations(path), *content, within_px=0)


@settings(max_examples=60, deadline=None)
@given(contents())
def test_yolo_is_read_back_to_a_thousandth_of_a_pixel(content):
    with tempfile.TemporaryDirectory() as folder:
        write_yolo(Path(folder), *content)
        sizes = {image.image_id: (image.width, image.height) for image in content[0]}
        assert_same(read_annotations(Path(folder), sizes=sizes), *content, within_px=1e-3)


@settings(max_examples=60, deadline=None)
@given(contents())
def test_voc_is_read_back_to_a_thousandth_of_a_pixel(content):
    with tempfile.TemporaryDirectory() as folder:
        write_voc(Path(folder), *content)
        assert_same(read_annotations(Path(folder) / "ImageSets/Main/train.txt"), *content, within_px=1e-3)
        assert {i.image_id for i in read_annotations(Path(folder)).images} == {i.image_id for i in content[0]}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(["", " ", ".jpg", " .jpg", ".jpg ", "\\x.jpg", "/../x.jpg"]),
)
def test_names_that_a_format_cannot_hold_are_refused_and_never_changed(parts, end):
    image = AnnotatedImage("/".join(parts) + end, 10, 10)
    for write in (write_yolo, write_voc):
        with tempfile.TemporaryDirectory() as folder:
            try:
                write(Path(folder), [image], table([]), parts[:1])
            except AnnotationError:
                assert list(Path(folder).iterdir()) == []
            else:
                found = read_annotations(Path(folder), sizes={image.image_id: (10, 10)})
                assert (found.images, found.classes) == ([image], tuple(parts[:1]))


def test_whole_pixels_stay_whole_numbers(tmp_path):
    content = [AnnotatedImage("tour/a.jpg", 640, 480)], table([("tour/a.jpg", "car", 10, 20, 30, 5)]), ["bus", "car"]
    write_voc(tmp_path / "voc", *content)
    text = (tmp_path / "voc/Annotations/tour/a.xml").read_text()
    assert [text.split(f"<{tag}>")[1].split("<")[0] for tag in ("xmin", "ymin", "xmax", "ymax")] == [
        "11",
        "21",
        "40",
        "25",
    ]
    assert (tmp_path / "voc/ImageSets/Main/train.txt").read_text() == "tour/a\n"
    write_yolo(tmp_path / "yolo", *content)
    assert (tmp_path / "yolo/labels/tour/a.txt").read_text() == "1 0.0390625 0.046875 0.046875 0.0104166666667\n"
    assert (tmp_path / "yolo/train.txt").read_text() == "./images/tour/a.jpg\n"
    assert (tmp_path / "yolo/data.yaml").read_text() == "train: train.txt\nnames:\n  0: bus\n  1: car\n"


def test_writing_refuses_what_would_be_lost(tmp_path):
    a_box = table([("a.jpg", "car", 1, 2, 3, 4)])
    pair = [AnnotatedImage("a.jpg", 10, 10), AnnotatedImage("a.png", 10, 10)]
    for write, shared in ((write_yolo, "two images of one label file"), (write_voc, "two images of one XML file")):
        with pytest.raises(AnnotationError, match=rf"{shared}.*a.jpg and a.png"):
            write(tmp_path / "x", pair, a_box, ["car"])
        with pytest.raises(AnnotationError, match="unknown class"):
            write(tmp_path / "x", pair[:1], a_box, ["bus"])
        with pytest.raises(AnnotationError, match="unknown image"):
            write(tmp_path / "x", pair[1:], a_box, ["car"])
    with pytest.raises(AnnotationError, match=r"size not known.*a.jpg"):
        write_yolo(tmp_path / "x", [AnnotatedImage("a.jpg")], a_box, ["car"])
    for name in (" car", "c\nr", "c\uffffr", ""):
        with pytest.raises(AnnotationError, match="a class name that XML or a list cannot hold"):
            write_voc(tmp_path / "x", pair[:1], table([]), [name])
    assert list(tmp_path.iterdir()) == []


def by_image(found):
    rows = sorted(tuple(row.values()) for row in found.boxes.to_pylist())
    sizes = sorted((i.image_id, i.width, i.height) for i in found.images)
    return sizes, [row[:2] for row in rows], np.array([row[2:] for row in rows])


@pytest.mark.parametrize("name", ["carla_driving", "blood_cells"])
def test_real_data_goes_round_all_formats(tmp_path, name):
    source = real_data.find(name) / "annotations_test.json"
    first = read_annotations(source)
    path, order = source, ("yolo", "voc", "yolo", "coco")
    for number, to in enumerate(order):
        path = convert(path, tmp_path / str(number), to).path
    last = read_annotations(path)
    assert last.classes == first.classes
    (sizes, classes, boxes), (sizes_, classes_, boxes_) = by_image(first), by_image(last)
    assert (sizes, classes) == (sizes_, classes_)
    np.testing.assert_allclose(boxes, boxes_, rtol=0, atol=1e-3)
    names = {image.image_id for image in first.images}
    for folder in ("0/images", "1/JPEGImages", "2/images", "3/images"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == names
        assert all(path.exists() for path in (tmp_path / folder).iterdir())


@pytest.mark.parametrize(
    ("start", "to", "placing"), list(itertools.product(["yolo", "voc"], ["coco", "yolo", "voc"], ["link", "copy"]))
)
def test_any_format_into_any_other(tmp_path, start, to, placing):
    source = {"yolo": yolo_set, "voc": voc_set}[start](tmp_path / "source")
    before = read_annotations(source)
    done = convert(source, tmp_path / "out", to, placing=placing)
    assert (done.n_images, done.n_boxes, done.classes, done.notes) == (2, 1, before.classes, ())
    after = read_annotations(done.path)
    assert (after.images, after.boxes.to_pylist(), after.classes) == (
        before.images,
        before.boxes.to_pylist(),
        before.classes,
    )
    placed = list((tmp_path / "out").rglob("*.jpg"))
    assert [path.is_symlink() for path in placed] == [placing == "link"] * 2


def test_converting_says_what_has_no_place_and_refuses_what_does_not_fit(tmp_path):
    source = saved(tmp_path, document())
    assert convert(source, tmp_path / "out", "voc", placing="none").notes == (
        "voc has no place for the images' town, frame: left out",
    )
    assert convert(source, tmp_path / "coco", "coco", placing="none").notes == ()
    with pytest.raises(ConfigError, match="not a new or empty folder"):
        convert(source, tmp_path / "out", "yolo", placing="none")
    with pytest.raises(ConfigError, match="not a new or empty folder"):
        convert(source, source, "yolo", placing="none")
    with pytest.raises(DataError, match=r"2 of 2 images are not there(.|\n)*--images none"):
        convert(source, tmp_path / "new", "yolo")
    save_image(tmp_path / "a.jpg", (100, 50), orientation=6)
    with pytest.raises(AnnotationError, match="a.jpg is 50×100, annotated as 100×50"):
        convert(source, tmp_path / "new", "yolo", placing="none")
    assert not (tmp_path / "new").exists()


pieces = st.sampled_from([
    b"", b"\0", b"\xff\xfe", b"\xf0\x9f", b"\r\n", b"nan", b"-1", b"1e999", b"9" * 5000, b"../x.jpg", b"/etc/passwd",
    b"'", b'"', b"[", b"{", b": ", b"- ", b"&a ", b"*a", b"!!int x", b"!!binary x", b"? ", b"<<: ",
    b"<", b">", b"<!DOCTYPE a>", b"&lol;", b"<object>", b"]]>",
])  # fmt: skip
FILES = {
    "data.yaml": (yolo_set, "train: [images/train, all.txt]\nnc: 2\nnames: {0: car, 5: person}\n"),
    "all.txt": (yolo_set, "images/train/a.jpg\n./images/train/b.jpg\n"),
    "labels/train/a.txt": (yolo_set, "0 0.25 0.45 0.3 0.1\n1 0.1 0.1 0.2 0.2 0.3 0.1\n"),
    "Annotations/a.xml": (voc_set, voc_xml("a.jpg", voc_object(), voc_object("bus", (1, 2, 3, 4)))),
    "ImageSets/Main/train.txt": (voc_set, "a\nb 1\n"),
    "labelmap.txt": (voc_set, "# label:color_rgb:parts:actions\ncar:1,2,3::\nbus:::\n"),
}


@pytest.mark.parametrize("name", FILES.keys())
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_end_in_a_poolscout_error_only(name, data):
    make, text = FILES[name]
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(start, min(len(raw), start + 20)) | st.just(len(raw)))
        raw[start:end] = data.draw(pieces | st.binary(max_size=6))
    with tempfile.TemporaryDirectory() as folder:
        at = make(Path(folder))
        if make is yolo_set:
            write_files(at, {"all.txt": FILES["all.txt"][1], "data.yaml": FILES["data.yaml"][1]})
        write_files(at, {name: bytes(raw)})
        for path in (at, at / "ImageSets/Main/train.txt" if make is voc_set else at / "all.txt"):
            for bad_boxes in ("error", "drop"):
                try:
                    found = read_annotations(path, bad_boxes=bad_boxes)
                except PoolscoutError:
                    continue
                assert set(found.boxes["image_id"].to_pylist()) <= {image.image_id for image in found.images}
                assert set(found.boxes["class"].to_pylist()) <= set(found.classes)
                boxes = corners(found.boxes)
                assert np.isfinite(boxes).all()
                assert (boxes[:, :2] >= 0).all()
                assert (boxes[:, :2] < boxes[:, 2:]).all()
                assert (boxes[:, 2:] <= [100, 50]).all() or make is voc_set
