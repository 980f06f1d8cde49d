from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from poolscout.errors import AnnotationError, DataError
from poolscout.evaluation import evaluate, wmap
from poolscout.tables.declared import BOXES, DETECTIONS

from .scenes import as_table, random_scene


def tables(truth: dict, *members: list[dict]) -> dict:
    """The arguments of `evaluate` for these COCO boxes."""
    parts = [as_table(rows, truth, member) for member, rows in enumerate(members)]
    found = {key: [value for part in parts for value in part[key]] for key in parts[0]}
    boxes = as_table(truth["annotations"], truth)
    return {
        "ground_truth": BOXES.check(pa.table(typed(boxes, BOXES)), "boxes"),
        "detections": DETECTIONS.check(pa.table(typed(found, DETECTIONS)), "detections"),
        "image_sizes": {image["file_name"]: (image["width"], image["height"]) for image in truth["images"]},
        "classes": [category["name"] for category in truth["categories"]],
        "members": len(members),
    }


def typed(columns: dict, spec) -> dict:
    return {name: pa.array(values, spec.column_for(name).type) for name, values in columns.items()}


def whole_pixels(truth: dict, *results: list[dict]) -> None:
    """Tables hold float32: whole pixels are the same numbers in both worlds."""
    for row in [*truth["annotations"], *(r for rows in results for r in rows)]:
        row["bbox"] = [float(round(v)) + (k >= 2) for k, v in enumerate(row["bbox"])]
        row["area"] = row["bbox"][2] * row["bbox"][3]
        if "score" in row:
            row["score"] = float(np.float32(row["score"]))


def pycocotools_figures(truth: dict, found: list[dict], bounds: list[float]) -> np.ndarray:
    """[thresholds, classes, ranges]; −1 without ground truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(copy.deepcopy(found)), "bbox")
        edges = [0.0, *bounds, 1e10]
        run.params.areaRng = [[0, 1e10], *([a, b] for a, b in itertools.pairwise(edges))]
        run.params.areaRngLbl = list("abcd")
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., -1].mean(axis=1)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_pycocotools(seed: int) -> None:
    truth, found = random_scene(seed, n_images=25)
    whole_pixels(truth, found)
    truth["categories"].append({"id": 5, "name": "never there"})
    reference = pycocotools_figures(truth, found, [32.0**2, 96.0**2])
    mean = evaluate(**tables(truth, found)).mean
    assert mean.ap == pytest.approx(reference[:, :4, 0].mean(), abs=1e-9)
    assert mean.ap50 == pytest.approx(reference[0, :4, 0].mean(), abs=1e-9)
    for c in range(4):
        figures = mean.per_class[f"class {c + 1}"]
        assert figures["AP"] == pytest.approx(reference[:, c, 0].mean(), abs=1e-9)
        assert figures["AP50"] == pytest.approx(reference[0, c, 0], abs=1e-9)
        sized = [reference[:, c, b].mean() for b in (1, 2, 3) if reference[0, c, b] >= 0]
        assert figures["wMAP"] == pytest.approx(np.mean(sized), abs=1e-9)
    assert mean.per_class["never there"] == {"AP": None, "AP50": None, "wMAP": None}
    for b, bucket in enumerate(mean.buckets):
        aps = [reference[:, c, b + 1].mean() for c in range(4) if reference[0, c, b + 1] >= 0]
        assert bucket.ap == pytest.approx(np.mean(aps), abs=1e-9)


def test_agrees_with_wmap_on_the_same_boxes() -> None:
    truth, found = random_scene(3)
    whole_pixels(truth, found)
    result = wmap(truth, found)
    mean = evaluate(**tables(truth, found)).mean
    assert (mean.wmap, mean.wmap_by_count) == pytest.approx((result.value, result.by_count), abs=1e-12)


def test_rare_classes_are_left_out_of_a_range_when_asked() -> None:
    truth, found = random_scene(3, n_images=25)
    whole_pixels(truth, found)
    asked = {**tables(truth, found), "size_buckets": [32.0**2, 96.0**2]}
    whole = evaluate(**asked).mean
    edges = [0.0, 32.0**2, 96.0**2, 1e10]
    names = {category["id"]: category["name"] for category in truth["categories"]}
    counts = [
        Counter(names[row["category_id"]] for row in truth["annotations"] if low <= row["area"] <= high)
        for low, high in itertools.pairwise(edges)
    ]
    least = 1 + min(n for of in counts for n in of.values())
    figures = evaluate(**asked, least_boxes=least)
    kept = [
        [ap for name, ap in bucket.per_class.items() if of[name] >= least]
        for bucket, of in zip(whole.buckets, counts, strict=True)
    ]
    assert sum(map(len, kept)) < sum(len(bucket.per_class) for bucket in whole.buckets)
    assert figures.mean.wmap == pytest.approx(np.mean([np.mean(aps) for aps in kept if aps]))
    assert figures.mean.ap50 == whole.ap50
    assert f"fewer than {least} boxes" in figures.to_json()["wMAP_definition"]
    with pytest.raises(DataError, match="no class has so many"):
        evaluate(**asked, least_boxes=10_000)


def test_members_are_judged_alone_and_then_averaged() -> None:
    truth, good = random_scene(4)
    _, other = random_scene(5)
    whole_pixels(truth, good, other)
    alone = [evaluate(**tables(truth, rows)).mean for rows in (good, other)]
    both = evaluate(**tables(truth, good, other))
    assert [m.to_json() for m in both.members] == [m.to_json() for m in alone]
    assert both.mean.ap50 == pytest.approx((alone[0].ap50 + alone[1].ap50) / 2, abs=1e-12)
    assert both.mean.per_class["class 1"]["AP"] == pytest.approx(
        (alone[0].per_class["class 1"]["AP"] + alone[1].per_class["class 1"]["AP"]) / 2, abs=1e-12
    )
    assert alone[0].ap50 != pytest.approx(alone[1].ap50, abs=0.05)


def test_a_member_that_found_nothing_scores_zero_and_counts() -> None:
    truth, found = random_scene(6)
    figures = evaluate(**tables(truth, found, []))
    assert figures.members[1].ap == figures.members[1].wmap == 0.0
    assert figures.mean.ap50 == pytest.approx(figures.members[0].ap50 / 2)
    nothing = evaluate(**tables(truth, [], []))
    assert nothing.mean.to_json()["AP50"] == 0.0
    assert nothing.detections == 0


def test_boxes_of_the_ensemble_are_left_out() -> None:
    truth, found = random_scene(7)
    arguments = tables(truth, found)
    plain = evaluate(**arguments)
    ensemble = arguments["detections"].set_column(
        arguments["detections"].column_names.index("member"), "member", pa.array([-1] * len(found), pa.int32())
    )
    arguments["detections"] = pa.concat_tables([arguments["detections"], ensemble])
    assert evaluate(**arguments) == plain


def test_json_holds_null_and_never_nan_or_minus_one() -> None:
    truth, found = random_scene(8)
    truth["categories"].append({"id": 5, "name": "never there"})
    arguments = tables(truth, found)
    text = json.dumps(evaluate(**arguments, size_buckets=[1.0]).to_json(), allow_nan=False)
    assert "-1" not in text
    first = json.loads(text)["mean"]["per_bucket"][0]
    assert first == {"low_px2": 0.0, "high_px2": 1.0, "AP": None, "n_boxes": 0}
    assert json.loads(text)["test"] == {
        "images": 12,
        "boxes": {c["name"]: sum(a["category_id"] == c["id"] for a in truth["annotations"])
                  for c in truth["categories"]},
    }  # fmt: skip


def test_classes_that_were_not_asked_for_are_left_out() -> None:
    truth, found = random_scene(9)
    only_two = [row for row in found if row["category_id"] == 2]
    arguments = tables(truth, only_two)
    whole = evaluate(**arguments)
    arguments["classes"] = ["class 2"]
    part = evaluate(**arguments)
    assert part.mean.ap == pytest.approx(whole.mean.per_class["class 2"]["AP"])
    assert set(part.test_boxes) == {"class 2"}


def test_images_no_detector_was_shown_do_not_count() -> None:
    truth, found = random_scene(12)
    arguments = tables(truth, [row for row in found if row["image_id"] != 1])
    del arguments["image_sizes"]["1.jpg"]
    without = {**truth, "images": truth["images"][1:],
               "annotations": [row for row in truth["annotations"] if row["image_id"] != 1]}  # fmt: skip
    expected = evaluate(**tables(without, [row for row in found if row["image_id"] != 1]))
    assert evaluate(**arguments) == expected
    assert sum(expected.test_boxes.values()) < len(truth["annotations"])


def test_wrong_arguments_are_named() -> None:
    truth, found = random_scene(10)
    arguments = tables(truth, found)
    with pytest.raises(AnnotationError, match="the detections: .*unknown class"):
        evaluate(**{**arguments, "classes": ["class 2"]})
    with pytest.raises(AnnotationError, match="the detections: .*unknown image_id"):
        evaluate(**{**arguments, "image_sizes": {"1.jpg": (640, 480)}})
    with pytest.raises(DataError, match="no ground-truth boxes"):
        evaluate(**{**arguments, "image_sizes": {"elsewhere/1.jpg": (640, 480)}})
    with pytest.raises(DataError, match="no ground-truth boxes"):
        evaluate(**{**arguments, "classes": ["boat"]})
    with pytest.raises(DataError, match="the test set has no images"):
        evaluate(**{**arguments, "image_sizes": {}})
    with pytest.raises(DataError, match="do not belong together"):
        evaluate(**{**arguments, "members": 0})


def test_the_libraries_keep_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    truth, found = random_scene(11)
    evaluate(**tables(truth, found))
    assert capfd.readouterr() == ("", "")
