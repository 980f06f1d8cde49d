"""One way in for all formats: told apart, listed for a pool, answered from by the oracle, delivered, evaluated."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from poolscout.errors import AnnotationError, DataError
from poolscout.evaluation import wmap
from poolscout.formats.annotations import (
    annotation_images,
    annotations_hash,
    format_of,
    read_annotations,
    tell_format,
)
from poolscout.formats.image_files import upright_size
from poolscout.labels import LabelStore, Oracle, add_delivery, read_delivery
from poolscout.labels.request import link_name
from poolscout.tables.declared import POOL
from poolscout.tables.manifest import file_hash
from tests.formats.annotation_sets import save_image, voc_set, write_files, yolo_set
from tests.formats.coco_files import document, saved


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "coco").mkdir()
    return {
        "coco": saved(tmp_path / "coco", document()),
        "yolo": yolo_set(tmp_path / "yolo"),
        "voc": voc_set(tmp_path / "voc"),
    }


def test_formats_are_told_by_what_is_there(tmp_path, sources):
    for kind, path in sources.items():
        assert tell_format(path) == format_of(path) == kind
    assert tell_format(sources["yolo"] / "data.yaml") == "yolo"
    assert tell_format(sources["voc"] / "ImageSets/Main/train.txt") == "voc"
    split = sources["yolo"] / "images/train"
    assert tell_format(split) is None  # a pool may well be this folder of images
    assert format_of(split) == "yolo"
    (tmp_path / "bare").mkdir()
    write_files(tmp_path, {"list.txt": "a.jpg", "pool.parquet": "", "labels.JSON": "{}", "odd": "{}"})
    assert [tell_format(tmp_path / name) for name in ("bare", "list.txt", "pool.parquet", "nothing")] == [None] * 4
    assert format_of(tmp_path / "labels.JSON") == format_of(tmp_path / "odd") == "coco"


@pytest.mark.parametrize("name", ["bare", "list.txt", "pool.parquet", "nothing", "x" * 5000])
def test_what_is_no_annotation_source(tmp_path, name):
    (tmp_path / "bare").mkdir()
    write_files(tmp_path, {"list.txt": "a.jpg", "pool.parquet": ""})
    for read in (read_annotations, annotation_images, annotations_hash, format_of):
        with pytest.raises(DataError, match="no annotations of a known format"):
            read(tmp_path / name)


def test_every_format_is_read_with_the_same_arguments(sources):
    for kind, path in sources.items():
        found = read_annotations(path, bad_boxes="drop", sizes={})
        assert found.boxes.num_rows == {"coco": 2}.get(kind, 1)
        assert found.path == path


def test_images_for_a_pool(tmp_path, sources):
    (tmp_path / "coco/images").mkdir()
    coco = annotation_images(sources["coco"])
    assert coco[1] == ("b/c.jpg", tmp_path / "coco/images/b/c.jpg", 100, 50, {})
    assert coco[0].metadata == {"town": "Ulm", "frame": 3}
    yolo, voc = annotation_images(sources["yolo"]), annotation_images(sources["voc"])
    assert yolo[0] == ("train/a.jpg", tmp_path / "yolo/images/train/a.jpg", None, None, {})
    assert voc[0] == ("a.jpg", tmp_path / "voc/JPEGImages/a.jpg", 100, 50, {})
    for kind, path in sources.items():
        images = annotation_images(path)
        assert [i.image_id for i in images] == [i.image_id for i in read_annotations(path).images]
        assert kind == "coco" or all(image.path.is_file() for image in images)
        moved = annotation_images(path, tmp_path)
        assert [image.path for image in moved] == [tmp_path / image.image_id for image in images]
        with pytest.raises(DataError, match="is not a folder"):
            annotation_images(path, tmp_path / "nothing")


def test_a_pools_images_tell_nothing_of_labels(sources):
    before = annotation_images(sources["yolo"]), annotation_images(sources["voc"])
    write_files(sources["yolo"], {"labels/train/a.txt": "nonsense"})
    xml = (sources["voc"] / "Annotations/a.xml").read_text()
    write_files(sources["voc"], {"Annotations/a.xml": xml.replace("<xmin>11", "<xmin>nonsense")})
    assert (annotation_images(sources["yolo"]), annotation_images(sources["voc"])) == before
    for kind in ("yolo", "voc"):
        with pytest.raises(AnnotationError):
            read_annotations(sources[kind])


def test_the_hash_of_a_coco_file_is_that_of_its_bytes(sources):
    assert annotations_hash(sources["coco"]) == file_hash(sources["coco"])


@pytest.mark.parametrize(
    ("name", "orientation", "size"),
    [("a.jpg", 6, (50, 100)), ("a.png", 8, (50, 100)), ("a.jpg", 3, (100, 50)), ("a.tiff", 6, (50, 100))],
)
def test_sizes_are_those_of_the_upright_image(tmp_path, name, orientation, size):
    assert upright_size(save_image(tmp_path / name, (100, 50), orientation)) == size


def test_sizes_of_what_is_no_image(tmp_path):
    write_files(tmp_path, {"empty.jpg": b"", "text.jpg": b"hello", "cut.png": b"\x89PNG\r\n\x1a\n\0\0"})
    assert [upright_size(path) for path in sorted(tmp_path.iterdir())] == [None] * 3
    assert upright_size(tmp_path / "nothing.jpg") is None


def pool_of(path):
    images = annotation_images(path)
    ids = [image.image_id for image in images]
    columns = {
        "image_id": ids, "uri": [str(i.path) for i in images], "width": pa.array([100] * len(ids), pa.int32()),
        "height": pa.array([50] * len(ids), pa.int32()), "sequence": ids, "frame": pa.nulls(len(ids), pa.int64()),
    }  # fmt: skip
    return POOL.check(pa.table(columns), "test")


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_the_oracle_answers_from_any_format(sources, kind):
    oracle = Oracle(sources[kind])
    assert oracle.classes == ("car",)
    labels = oracle.reveal(oracle.image_ids)
    assert labels.labelled["n_boxes"].to_pylist() == [1, 0]
    assert [*labels.boxes.to_pylist()[0].values()][2:] == pytest.approx([10, 20, 40, 25])


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_deliveries_in_any_format(tmp_path, sources, kind):
    """Without the images, as a label tool may export them."""
    pool = pool_of(sources[kind])
    if kind == "yolo":
        names = "".join(f"images/{image_id}\n" for image_id in pool["image_id"].to_pylist())
        write_files(sources[kind], {"data.yaml": "train: all.txt\nnames: [car]\n", "all.txt": names})
    shutil.rmtree(sources[kind] / ("images" if kind == "yolo" else "JPEGImages"))
    receipt = add_delivery(LabelStore(tmp_path / "labels"), sources[kind], pool, ["car", "person"])
    assert (receipt.n_images, receipt.n_boxes) == (2, 1)


def test_deliveries_sorted_into_splits_without_their_images(tmp_path):
    """A list names files from the folder above, labels lie where the data set is, and no image comes along."""
    pool = pool_of(yolo_set(tmp_path / "pool")).set_column(0, "image_id", pa.array(["a.jpg", "tour/b.jpg"]))
    files = {
        "data.yaml": "path: .\ntrain: train.txt\nnames: {0: car}\n",
        "train.txt": f"data/images/train/a.jpg\ndata/images/train/{link_name('tour/b.jpg')}\n",
        "labels/train/a.txt": "0 0.25 0.45 0.3 0.1\n",
        f"labels/train/{Path(link_name('tour/b.jpg')).stem}.txt": "",
    }
    labels = read_delivery(write_files(tmp_path / "back", files), pool, ["car"])
    assert labels.labelled["image_id"].to_pylist() == ["a.jpg", "tour/b.jpg"]
    assert [*labels.boxes.to_pylist()[0].values()][:6] == ["a.jpg", "car", *map(pytest.approx, (10, 20, 40, 25))]
    files["train.txt"] = "data/images/train/other.jpg\n"
    files["labels/train/other.txt"] = files["labels/train/a.txt"]
    with pytest.raises(AnnotationError, match="size of its image is not known"):
        read_delivery(write_files(tmp_path / "back", files), pool, ["car"])


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_results_are_measured_against_any_format(tmp_path, sources, kind):
    """Ids as `poolscout convert` would write them: from 1, in order."""
    right = [{"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 5], "score": 0.9}]
    wrong = [{**right[0], "image_id": 2}]
    for found, value in ((right, 1.0), (wrong, 0.0)):
        results = tmp_path / "results.json"
        results.write_text(json.dumps(found))
        assert wmap(sources[kind], found).value == pytest.approx(value)
        assert wmap(read_annotations(sources[kind]), found).value == pytest.approx(value)
        assert wmap(str(sources[kind]), results).value == pytest.approx(value)
