from __future__ import annotations

import copy
import doctest
import json

import pytest

from poolscout.errors import AnnotationError, ConfigError, DataError, NonFiniteError
from poolscout.evaluation import DEFINITION, coco_results, wmap
from tests.oracles.size_weighted import wmap as slow_wmap

from .scenes import random_scene

BOUNDS = [32.0**2, 96.0**2]


def by_hand() -> tuple[dict, list[dict]]:
    """Two classes; small < 1024 px² < medium < 9216 px² < large; every match is exact, so AP is the same at all IoU."""
    boxes = [
        (1, "car", [0, 0, 10, 10]), (1, "car", [100, 0, 10, 10]),  # small cars: one found, one missed
        (2, "car", [0, 0, 50, 50]),  # a medium car, found
        (2, "bike", [100, 100, 60, 60]),  # a medium bike, found behind a false alarm
    ]  # fmt: skip
    category = {"car": 7, "bike": 3}
    truth = {
        "images": [{"id": i, "width": 640, "height": 480} for i in (1, 2, 3)],
        "categories": [{"id": i, "name": name} for name, i in category.items()],
        "annotations": [
            {"id": k, "image_id": image, "category_id": category[name], "bbox": box}
            for k, (image, name, box) in enumerate(boxes, start=1)
        ],
    }
    found = [
        {"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10], "score": 0.9},
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 50, 50], "score": 0.8},
        {"image_id": 3, "category_id": 3, "bbox": [9, 9, 60, 60], "score": 0.7},
        {"image_id": 2, "category_id": 3, "bbox": [100, 100, 60, 60], "score": 0.6},
    ]
    return truth, found


def test_the_value_computed_by_hand() -> None:
    # small: car finds 1 of 2 at precision 1: recall points 0 … 0.50 count, 51 of 101. No small bike: left out.
    # medium: car 1; bike's only hit comes second: precision 1/2 everywhere. Nothing large: left out.
    small, medium = 51 / 101, (1 + 1 / 2) / 2
    result = wmap(*by_hand())
    assert result.value == pytest.approx((small + medium) / 2, abs=1e-12)
    assert result.by_count == pytest.approx((2 * small + 2 * medium) / 4, abs=1e-12)
    assert [bucket.n_boxes for bucket in result.per_bucket] == [2, 2, 0]
    assert [set(bucket.per_class) for bucket in result.per_bucket] == [{"car"}, {"car", "bike"}, set()]
    assert result.per_bucket[2].ap is None
    assert result.definition == DEFINITION
    assert "wMAP v1" in DEFINITION
    assert float(result) == result.value


def test_the_two_weightings_differ_as_the_counts_do() -> None:
    truth, found = by_hand()
    small_only = [a for a in truth["annotations"] if a["id"] != 4]
    result = wmap({**truth, "annotations": small_only}, found)  # small 51/101 with two boxes, medium 1 with one
    assert result.value == pytest.approx((51 / 101 + 1) / 2, abs=1e-12)
    assert result.by_count == pytest.approx((2 * 51 / 101 + 1) / 3, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_brute_force(seed: int) -> None:
    truth, found = random_scene(seed)
    expected = slow_wmap(truth, found, BOUNDS)
    result = wmap(copy.deepcopy(truth), copy.deepcopy(found))
    assert (result.value, result.by_count) == pytest.approx(expected, abs=1e-9)
    assert 0.05 < result.value < 0.95


def test_default_buckets_scale_with_the_image_area() -> None:
    truth, found = random_scene(1)
    big = copy.deepcopy(truth)
    for image in big["images"]:
        image |= {"width": 1280, "height": 960}
    for row in big["annotations"]:
        row["bbox"] = [2 * v for v in row["bbox"]]
    big_found = [{**row, "bbox": [2 * v for v in row["bbox"]]} for row in found]
    doubled, original = wmap(big, big_found), wmap(truth, found)
    assert doubled.value == pytest.approx(original.value, abs=1e-12)
    assert [b.low_px2 for b in doubled.per_bucket] == [0.0, 4 * 32.0**2, 4 * 96.0**2]


def test_a_scene_is_left_as_it_was_and_files_give_the_same(tmp_path) -> None:
    truth, found = random_scene(2)
    before = copy.deepcopy((truth, found))
    value = wmap(truth, found).value
    assert (truth, found) == before
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(found))
    assert wmap(tmp_path / "truth.json", tmp_path / "found.json").value == value


def test_one_bucket_is_plain_ap() -> None:
    truth, found = random_scene(3)
    one = wmap(truth, found, size_buckets=[])
    assert one.value == one.by_count == one.per_bucket[0].ap
    assert one.per_bucket[0].high_px2 is None


def test_no_detections_score_zero() -> None:
    truth, _ = by_hand()
    assert (wmap(truth, []).value, wmap(truth, []).by_count) == (0.0, 0.0)


def test_a_crowd_box_is_ignored_by_cocos_rule() -> None:
    truth, found = by_hand()
    plain = wmap(truth, found)
    crowd = {"id": 9, "image_id": 3, "category_id": 3, "bbox": [9, 9, 60, 60], "iscrowd": 1}
    forgiven = wmap({**truth, "annotations": [*truth["annotations"], crowd]}, found)
    assert plain.per_bucket[1].per_class["bike"] == pytest.approx(0.5)
    assert forgiven.per_bucket[1].per_class["bike"] == pytest.approx(1.0)
    assert forgiven.per_bucket[1].n_boxes == plain.per_bucket[1].n_boxes


def broken(change: str) -> tuple[dict, list[dict]]:
    truth, found = by_hand()
    match change:
        case "image":
            found[0]["image_id"] = 99
        case "category":
            found[0]["category_id"] = 1
        case "nan":
            found[0]["score"] = float("nan")
        case "negative":
            found[0]["bbox"] = [0, 0, -5, 5]
        case "bbox":
            del found[0]["bbox"]
        case "empty":
            truth["annotations"] = []
        case "no images":
            truth["images"], truth["annotations"], found = [], [], []
        case "size":
            del truth["images"][0]["width"]
        case "key":
            truth["annotation"] = truth.pop("annotations")
        case "twice":
            truth["images"].append(truth["images"][0])
    return truth, found


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("image", AnnotationError, "the detections, entry 0: its image_id is not in the ground truth"),
        ("category", AnnotationError, "its category_id is not in the ground truth"),
        ("nan", NonFiniteError, "the detections, entry 0: NaN"),
        ("negative", AnnotationError, "sides not negative"),
        ("bbox", AnnotationError, "image_id, category_id, bbox, score"),
        ("empty", DataError, "no ground-truth boxes"),
        ("no images", DataError, "the test set has no images"),
        ("size", DataError, "without width and height"),
        ("key", DataError, "did you mean 'annotation'"),
        ("twice", AnnotationError, "image ids that occur twice"),
    ],
)
def test_bad_input_is_named(change: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        wmap(*broken(change))


@pytest.mark.parametrize("buckets", [[9216, 1024], [0, 10], [10, 10], [float("nan")], [1e11]])
def test_buckets_must_rise(buckets: list[float]) -> None:
    with pytest.raises(ConfigError, match="size_buckets"):
        wmap(*by_hand(), size_buckets=buckets)


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(coco_results) == (0, 3)


def test_unreadable_files_are_named(tmp_path) -> None:
    truth, _ = by_hand()
    with pytest.raises(DataError, match=r"nowhere\.json: the detections cannot be read"):
        wmap(truth, tmp_path / "nowhere.json")
    (tmp_path / "object.json").write_text('{"image_id": 1}')
    with pytest.raises(DataError, match="a list of COCO results"):
        wmap(truth, tmp_path / "object.json")
