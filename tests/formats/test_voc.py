import re

import pytest

from poolscout.errors import AnnotationError, DataError
from poolscout.formats.voc import read_voc, voc_hash, voc_images
from poolscout.formats.xml import XmlError, parse_xml
from tests.formats.annotation_sets import save_image, voc_object, voc_set, voc_xml, write_files

A_CAR = ("a.jpg", "car", 10.0, 20.0, 40.0, 25.0)


def boxes_of(path, **options):
    return [tuple(row.values()) for row in read_voc(path, **options).boxes.to_pylist()]


def ids_of(path):
    return [image.image_id for image in read_voc(path).images]


def one(folder, xml):
    """A data set whose a.xml is this."""
    return write_files(voc_set(folder), {"Annotations/a.xml": xml})


def test_a_data_set_as_the_convention_has_it(tmp_path):
    found = read_voc(voc_set(tmp_path))
    assert found.classes == ("car",)
    assert [(i.image_id, i.width, i.height) for i in found.images] == [("a.jpg", 100, 50), ("b.jpg", 100, 50)]
    assert [tuple(row.values()) for row in found.boxes.to_pylist()] == [A_CAR]
    assert found.notes == ()


def test_pixels_count_from_1_and_corners_belong_to_the_box(tmp_path):
    """The whole image is (1, 1) to (width, height), the first pixel alone (1, 1) to (1, 1)."""
    one(tmp_path, voc_xml("a.jpg", voc_object("car", (1, 1, 100, 50)), voc_object("dot", (1, 1, 1, 1))))
    assert boxes_of(tmp_path) == [("a.jpg", "car", 0, 0, 100, 50), ("a.jpg", "dot", 0, 0, 1, 1)]


OBJECTS = {
    "fractions": voc_object("car", ("11.0", " 21.0 ", "4e1", "25")),
    "difficult and truncated": voc_object(more="<pose>Left</pose><truncated>1</truncated><difficult>1</difficult>"),
    "indented name": voc_object("\n\t\tcar\n"),
    "with parts": voc_object(more="<part><name>wheel</name><bndbox><xmin>1</xmin></bndbox></part>"),
    "entities": voc_object("&#99;ar"),
    "cdata": voc_object("<![CDATA[car]]>"),
}


@pytest.mark.parametrize("element", OBJECTS.values(), ids=OBJECTS.keys())
def test_objects(tmp_path, element):
    assert boxes_of(one(tmp_path, voc_xml("a.jpg", element))) == [A_CAR]


def test_other_encodings(tmp_path):
    text = '<?xml version="1.0" encoding="latin-1"?>' + voc_xml("a.jpg", voc_object("f\xfc\xdfe"))
    assert boxes_of(one(tmp_path, text.encode("latin-1")))[0][1] == "f\xfc\xdfe"
    assert boxes_of(one(tmp_path, voc_xml("a.jpg", voc_object("\u8f66")).encode("utf-16")))[0][1] == "\u8f66"


BAD_OBJECTS = {
    "no box": ("<object><name>car</name></object>", "no bbox"),
    "no corner": ("<object><name>car</name><bndbox><xmin>1</xmin></bndbox></object>", "not four numbers"),
    "text": (voc_object("car", ("a", 2, 3, 4)), "not four numbers"),
    "empty": (voc_object("car", ("", 2, 3, 4)), "not four numbers"),
    "nan": (voc_object("car", ("nan", 2, 3, 4)), "NaN or infinity"),
    "infinite": (voc_object("car", (1, 2, "1e999", 4)), "NaN or infinity"),
    "swapped": (voc_object("car", (40, 21, 11, 25)), "zero or negative size"),
    "outside": (voc_object("car", (102, 2, 110, 4)), "wholly outside"),
    "no name": (voc_object(""), "no class name"),
    "no name element": ("<object><bndbox/></object>", "no class name"),
    "odd name": (voc_object("c&#9;ar"), "no class name"),
}


@pytest.mark.parametrize(("element", "told"), BAD_OBJECTS.values(), ids=BAD_OBJECTS.keys())
def test_bad_object_is_refused_by_file_or_dropped_and_listed(tmp_path, element, told):
    one(tmp_path, voc_xml("a.jpg", voc_object(), element))
    with pytest.raises(AnnotationError) as caught:
        read_voc(tmp_path)
    assert told in str(caught.value)
    assert "Annotations/a.xml object 2" in str(caught.value)
    assert "1 of 2 objects" in str(caught.value)
    found = read_voc(tmp_path, bad_boxes="drop")
    assert found.boxes.num_rows == 1
    assert found.classes == ("car",)
    assert len(found.dropped) == 1
    assert found.dropped[0].startswith("Annotations/a.xml object 2: ")


def test_sizes_may_be_missing_or_0_and_come_from_elsewhere(tmp_path):
    for size in ("", "<width>0</width><height>0</height>", "<width/><height/>"):
        one(tmp_path, voc_xml("a.jpg", voc_object("car", (91, 1, 200, 9)), size=size))
        assert read_voc(tmp_path).images[0].width is None
        assert boxes_of(tmp_path)[0][4] == 200
        assert boxes_of(tmp_path, sizes={"a.jpg": (100, 50)})[0][4] == 100


def test_a_size_that_lies_is_told_as_it_is(tmp_path):
    """As with COCO: whoever lists the images compares it with the file."""
    one(tmp_path, voc_xml("a.jpg", size="<width>640.0</width><height>480</height>"))
    assert [image[2:4] for image in voc_images(tmp_path)] == [(640, 480), (100, 50)]


def test_splits_by_their_lists(tmp_path):
    voc_set(tmp_path)
    assert ids_of(tmp_path / "ImageSets/Main/train.txt") == ["a.jpg"]
    assert ids_of(tmp_path / "ImageSets/Main/val.txt") == ["b.jpg"]
    write_files(tmp_path, {
        "ImageSets/Main/car_trainval.txt": "b  1\r\na -1\r\n\r\n", "ImageSets/Main/both.txt": "b\nb\na\n",
        "Annotations/img 1.xml": voc_xml("img 1.png"), "ImageSets/Main/spaced.txt": "img 1\nb 0\n",
    })  # fmt: skip
    assert ids_of(tmp_path / "ImageSets/Main/car_trainval.txt") == ["b.jpg", "a.jpg"]
    assert ids_of(tmp_path / "ImageSets/Main/both.txt") == ["b.jpg", "a.jpg"]
    assert ids_of(tmp_path / "ImageSets/Main/spaced.txt") == ["img 1.png", "b.jpg"]


def test_folders_below(tmp_path):
    save_image(tmp_path / "JPEGImages/tour/x.png")
    write_files(tmp_path, {"Annotations/tour/x.xml": voc_xml("x.png"), "ImageSets/Main/all.txt": "tour\\x\n"})
    assert ids_of(tmp_path) == ids_of(tmp_path / "ImageSets/Main/all.txt") == ["tour/x.png"]


FILENAMES = {
    "another name": ("z.jpg", "a.jpg"),
    "another suffix": ("a.png", "a.jpg"),
    "none": ("", "a.jpg"),
    "without suffix": ("a", "a.jpg"),
}


@pytest.mark.parametrize(("said", "image_id"), FILENAMES.values(), ids=FILENAMES.keys())
def test_an_image_is_known_by_the_name_of_its_xml_file(tmp_path, said, image_id):
    assert ids_of(one(tmp_path, voc_xml(said)))[0] == image_id


def test_filename_decides_where_there_is_no_image_of_that_name_or_several(tmp_path):
    one(tmp_path, voc_xml("c.png"))
    (tmp_path / "JPEGImages/a.jpg").unlink()
    assert ids_of(tmp_path)[0] == "a.jpg"
    save_image(tmp_path / "JPEGImages/c.png")
    assert ids_of(tmp_path)[0] == "c.png"
    assert ids_of(one(tmp_path / "bare", voc_xml("a.webp")))[0] == "a.jpg"
    (tmp_path / "bare/JPEGImages/a.jpg").unlink()
    assert ids_of(tmp_path / "bare")[0] == "a.webp"

    one(tmp_path / "two", voc_xml("a.png"))
    save_image(tmp_path / "two/JPEGImages/a.png")
    assert ids_of(tmp_path / "two")[0] == "a.png"
    with pytest.raises(AnnotationError, match=r"several images of this name: a.*Annotations/a\.xml"):
        read_voc(one(tmp_path / "two", voc_xml("x.png")))


def test_two_files_about_one_image(tmp_path):
    one(tmp_path, voc_xml("b.jpg"))
    (tmp_path / "JPEGImages/a.jpg").unlink()
    with pytest.raises(AnnotationError, match=r"an image that another file is about too"):
        read_voc(tmp_path)


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1 if n > 1 else str()};" * 10}">' for n in range(1, 10))
    + "]><annotation><filename>&lol9;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'
BAD_FILES = {
    "entities that grow": (LAUGHS, "DOCTYPE"),
    "entities from files": (OUTSIDE, "DOCTYPE"),
    "undefined entity": (voc_xml("&x;"), "undefined entity"),
    "cut off": (voc_xml("a.jpg")[:40], "Annotations/a.xml"),
    "empty": ("", "no element found"),
    "binary": (b"\xff\xd8\xff\xe0", "not well-formed"),
    "null bytes": (b"\0" * 50, "not well-formed"),
    "unknown encoding": (b"<?xml version='1.0' encoding='nonsense'?><annotation/>", "encoding"),
    "wide encoding": (b"<?xml version='1.0' encoding='gbk'?><annotation/>", "encoding"),
    "another document": ("<html></html>", "<html> and not <annotation>"),
    "filename up": (voc_xml("../a.jpg"), "leaving the folder (..) or with control characters: '../a.jpg'"),
    "filename up windows": (voc_xml("..\\a.jpg"), "leaving the folder"),
    "filename absolute": (voc_xml("/etc/passwd"), "filename absolute"),
    "filename drive": (voc_xml("C:\\a.jpg"), "filename absolute"),
    "size text": (voc_xml("a.jpg", size="<width>wide</width>"), "not a positive whole number"),
    "size negative": (voc_xml("a.jpg", size="<width>-5</width>"), "not a positive whole number"),
    "size nan": (voc_xml("a.jpg", size="<width>nan</width>"), "not a positive whole number"),
    "size huge": (voc_xml("a.jpg", size="<width>1e300</width>"), "not a positive whole number"),
    "size broken": (voc_xml("a.jpg", size="<width>5.5</width>"), "not a positive whole number"),
}


@pytest.mark.parametrize(("xml", "told"), BAD_FILES.values(), ids=BAD_FILES.keys())
@pytest.mark.parametrize("read", [read_voc, voc_images])
def test_bad_file(tmp_path, xml, told, read):
    with pytest.raises(AnnotationError, match=re.escape(told)) as caught:
        read(one(tmp_path, xml))
    assert "Annotations/a.xml" in str(caught.value)


def test_xml_that_is_deep_or_cut_anywhere():
    assert parse_xml(b"<a>" * 20_000 + b"</a>" * 20_000).tag == "a"
    text = voc_xml("a.jpg", voc_object()).encode()
    for end in range(len(text)):
        with pytest.raises(XmlError):
            parse_xml(text[:end])


@pytest.mark.parametrize("line", ["../a", "/a", "..\\a", "C:\\a", "a\0", "x/../../a"])
def test_lists_that_leave_the_folder_are_refused(tmp_path, line):
    write_files(voc_set(tmp_path), {"ImageSets/Main/odd.txt": f"a\n{line}\n"})
    with pytest.raises(AnnotationError, match=r"odd\.txt: 1 lines(.|\n)*line 2: "):
        read_voc(tmp_path / "ImageSets/Main/odd.txt")


def test_a_listed_image_without_annotations(tmp_path):
    write_files(voc_set(tmp_path), {"ImageSets/Main/test.txt": "a\nz\n"})
    with pytest.raises(AnnotationError, match=r"No such file.*Annotations/z\.xml"):
        read_voc(tmp_path / "ImageSets/Main/test.txt")


def test_classes_in_the_order_of_a_label_map(tmp_path):
    one(tmp_path, voc_xml("a.jpg", voc_object("person"), voc_object("a:b"), voc_object("zebra"), voc_object("bus")))
    assert read_voc(tmp_path).classes == ("a:b", "bus", "person", "zebra")
    labels = "# label:color_rgb:parts:actions\r\nbackground:0,0,0::\r\nperson:1,2,3::\r\ntree:::\r\na:b:::\r\n\r\n"
    write_files(tmp_path, {"labelmap.txt": labels})
    assert read_voc(tmp_path).classes == ("person", "tree", "a:b", "bus", "zebra")
    write_files(tmp_path, {"labelmap.txt": "person\n"})
    with pytest.raises(AnnotationError, match=r"labelmap\.txt(.|\n)*line 1"):
        read_voc(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no VOC data set"):
        read_voc(tmp_path)
    with pytest.raises(DataError, match="no VOC data set"):
        read_voc(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_voc(voc_set(tmp_path) / "ImageSets/Main/nothing.txt")
    (tmp_path / "ImageSets/Main/binary.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        read_voc(tmp_path / "ImageSets/Main/binary.txt")


def test_the_hash_changes_with_files_and_lists_and_not_with_pixels(tmp_path):
    voc_set(tmp_path)
    first = voc_hash(tmp_path)
    save_image(tmp_path / "JPEGImages/a.jpg", (10, 10))
    assert voc_hash(tmp_path) == first
    hashes = {first, voc_hash(tmp_path / "ImageSets/Main/train.txt")}
    hashes.add(voc_hash(one(tmp_path, voc_xml("a.jpg", voc_object("bus")))))
    hashes.add(voc_hash(write_files(tmp_path, {"labelmap.txt": "bus:::\n"})))
    assert len(hashes) == 4
