import csv
import json
import shlex

import pytest

from poolscout.errors import AnnotationError, DataError
from poolscout.formats.coco import read_coco
from poolscout.labels import link_name, read_delivery, request_labels
from tests.labels.scenes import CLASSES, IMAGE_IDS, detections, pool

PICKS = ["night/b.jpg", "a.jpg", "day/b.jpg"]
FOUND = detections(
    ("a.jpg", 0, "car", 0.99, 1, 1, 9, 9),
    ("a.jpg", -1, "car", 0.25, 2, 2, 9, 9),
    ("a.jpg", -1, "person", 0.75, -3, 4, 104, 50),
    ("night/b.jpg", -1, "car", 0.5, 5, 5, 9, 9),
    ("day/b.jpg", -1, "car", 0.5, 100, 5, 120, 9),
    ("day/c.jpg", -1, "car", 0.5, 7, 7, 9, 9),
)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for image_id in IMAGE_IDS:
        (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
        (folder / image_id).write_bytes(image_id.encode())
    return folder


@pytest.fixture
def asked(tmp_path, images):
    folder = tmp_path / "my run" / "round-000" / "to_label"
    request_labels(folder, pool(images), PICKS, FOUND, CLASSES, run=tmp_path / "my run")
    return folder


def test_lists_name_the_picks_in_order(asked):
    assert (asked / "list.txt").read_text().splitlines() == PICKS
    rows = list(csv.DictReader((asked / "list.csv").open()))
    assert [row["image_id"] for row in rows] == PICKS
    assert [row["link"] for row in rows] == [link_name(image_id) for image_id in PICKS]
    assert (rows[0]["width"], rows[0]["height"]) == ("100", "50")


def test_links_lead_to_the_images(asked):
    assert {p.name for p in (asked / "images").iterdir()} == {link_name(i) for i in PICKS}
    for image_id in PICKS:
        assert (asked / "images" / link_name(image_id)).read_bytes() == image_id.encode()


def test_link_names_do_not_collide():
    names = ["a/b__c.jpg", "a__b/c.jpg", "a/b/c.jpg", "a__b__c.jpg", "/a/b/c.jpg", "a/b/c", "x.tar/y"]
    links = [link_name(name) for name in names]
    assert len(set(links)) == len(names)
    assert not any("/" in link for link in links)
    assert links[3] == "a__b__c.jpg"
    assert links[2].startswith("a__b__c-")
    assert links[2].endswith(".jpg")


@pytest.mark.parametrize(
    ("image_id", "uri", "start", "end"),
    [
        ("drive.mp4#000120", "/v/drive.mp4#frame=120", "drive.mp4-000120-", ".png"),
        ("town/drive.mp4#000120", "s3://v/town/drive.mp4#frame=120", "town__drive.mp4-000120-", ".png"),
        ("s-00/0012.front.JPG", "/v/s-00.tar#512+9", "s-00__0012.front-", ".JPG"),
        ("s3://b/a?b.webp", "s3://b/a?b.webp", "s3-____b__a-b-", ".webp"),
        ("frame 7", "/v/7.jpeg", "frame 7-", ".jpeg"),
        ("7", "/v/s-00.tar#512+9", "7-", ".png"),
        ("車" * 300 + ".png", "", "車", ".png"),
        ("a#1.png", "/v/a#1.png", "a#1.png", ""),
    ],
)
def test_every_image_has_a_name_that_ends_as_an_images(image_id, uri, start, end):
    name = link_name(image_id, uri)
    assert name.startswith(start)
    assert name.endswith(end)
    assert len(name.encode()) <= 220


def test_what_no_link_can_lead_to_is_fetched(tmp_path, images):
    offered = {}

    def fetch(places):
        offered.update(places)
        places["a.jpg"].write_bytes(b"fetched")
        return ["a.jpg", "day/b.jpg"]

    request_labels(tmp_path / "ask", pool(images), PICKS, None, CLASSES, run=tmp_path, fetch=fetch)
    assert offered == {image_id: tmp_path / "ask" / "images" / link_name(image_id) for image_id in PICKS}
    found = {path.name: path.is_symlink() for path in (tmp_path / "ask" / "images").iterdir()}
    assert found == {"a.jpg": False, link_name("night/b.jpg"): True}


def test_guesses_are_the_ensembles_strongest_first_inside_the_image(asked):
    coco = read_coco(asked / "preannotations.json")
    assert coco.classes == CLASSES
    assert [i.image_id for i in coco.images] == [link_name(i) for i in PICKS]
    night = link_name("night/b.jpg")
    assert [list(row.values()) for row in coco.boxes.to_pylist()] == [
        [night, "car", 5, 5, 9, 9], ["a.jpg", "person", 0, 4, 100, 50], ["a.jpg", "car", 2, 2, 9, 9],
    ]  # fmt: skip
    annotations = json.loads((asked / "preannotations.json").read_text())["annotations"]
    assert [a["score"] for a in annotations] == [0.5, 0.75, 0.25]


def test_guesses_are_no_labels_until_somebody_touched_them(asked, images, tmp_path):
    path = asked / "preannotations.json"
    with pytest.raises(AnnotationError, match="the ensemble's guesses, not labels"):
        read_delivery(path, pool(images), CLASSES)
    content = json.loads(path.read_text())
    del content["annotations"][-1]
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps(content))
    labels = read_delivery(corrected, pool(images), CLASSES)
    assert dict(zip(*labels.labelled.select(["image_id", "n_boxes"]).to_pydict().values(), strict=True)) == {
        "a.jpg": 1, "day/b.jpg": 0, "night/b.jpg": 1,
    }  # fmt: skip


def test_readme_tells_the_exact_command(asked, tmp_path):
    text = (asked / "README.txt").read_text()
    command = next(line for line in text.splitlines() if "labels add" in line)
    assert shlex.split(command) == ["poolscout", "labels", "add", "LABELS.json", "--run", str(tmp_path / "my run")]
    assert "car, person" in text
    assert "These 3 images" in text
    assert "preannotations.json   COCO with the ensemble's boxes" in text
    assert "not labels\n\nClasses" in text


def test_asking_again_gives_the_same_files(asked, images, tmp_path):
    def contents():
        return {p.name: p.read_bytes() for p in asked.rglob("*") if p.is_file()}

    before = contents()
    (asked / "images" / "stale.jpg").symlink_to(images / "a.jpg")
    request_labels(asked, pool(images), PICKS, FOUND, CLASSES, run=tmp_path / "my run")
    assert contents() == before


def test_before_the_first_detector_there_are_no_guesses(tmp_path, images):
    request_labels(tmp_path / "ask", pool(images), PICKS, None, CLASSES, run=tmp_path)
    assert not (tmp_path / "ask" / "preannotations.json").exists()
    assert "preannotations" not in (tmp_path / "ask" / "README.txt").read_text()


def test_picks_that_are_not_in_the_pool(tmp_path, images):
    with pytest.raises(DataError, match=r"picked images are not in the pool\n  got:      gone\.jpg"):
        request_labels(tmp_path / "ask", pool(images), ["a.jpg", "gone.jpg"], None, CLASSES, run=tmp_path)
