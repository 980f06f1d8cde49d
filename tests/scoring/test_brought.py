"""Scores of brought detections, by hand, against the pass's own, and fused over members."""

from __future__ import annotations

import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from poolscout.boxes import box_iou
from poolscout.config import ScorerChoice, ScoringConfig
from poolscout.detector.decode import Detections
from poolscout.errors import CapabilityError, ConfigError
from poolscout.formats.predictions import Predictions, names_of, read_predictions
from poolscout.scoring import score_pool
from poolscout.scoring.boxes import fuse_members, match_members
from poolscout.scoring.brought import gives_of_predictions, score_predictions
from poolscout.tables.declared import CLASSES_KEY, DETECTIONS, QUARANTINE, SCORES
from poolscout.tables.parquet import read_table
from tests.scoring.pools import CLASSES, HEIGHT, WIDTH, MadeUpImages, parts_bytes, pool_rows, real_member

IDS = ("a", "b", "c")


def entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q)


def pool(ids=IDS, width: int = 100, height: int = 100) -> pa.Table:
    sides = [pa.array([side] * len(ids), pa.int32()) for side in (width, height)]
    return pa.table({"image_id": pa.array(ids), "width": sides[0], "height": sides[1]})


def settings(*scorers: str, **more) -> ScoringConfig:
    choices = [dict(zip(("scorer", "aggregate"), name.split(" × "), strict=True)) for name in scorers]
    return ScoringConfig(scorers=tuple(ScorerChoice(**choice) for choice in choices), **more)


def box(image: str, p: float, bbox=(0, 0, 10, 10), name: str = "car", **more) -> dict:
    return {"image_id": image, "category_name": name, "bbox": list(bbox), "score": p, **more}


def brought(folder: Path, *members: list[dict], classes=("car", "person")) -> Predictions:
    paths = []
    for number, rows in enumerate(members):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(json.dumps(rows))
    return read_predictions(paths, pool(), names_of(pa.chunked_array([IDS]), classes=classes))


def scored(folder: Path, found: Predictions, config: ScoringConfig) -> dict[str, dict[str, float]]:
    """Image → score column → score."""
    score_predictions(pool(), found, config, folder)
    return {row.pop("image_id"): row for row in read_table(folder / "scores", SCORES).to_pylist()}


def test_scores_of_boxes_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    found = brought(tmp_path, [
        box("a", 0.5), box("a", 0.25), box("a", 0.9, name="person"), box("c", 1.0), box("b", 0.04),
    ])  # fmt: skip
    config = settings("detection_entropy × sum", "least_confidence × average", "detection_entropy × max", shard_size=2)
    rows = scored(tmp_path / "out", found, config)
    total = entropy(0.5) + entropy(0.25)
    assert rows["a"]["detection_entropy_sum_per_class"] == pytest.approx([total, entropy(0.9)], abs=1e-6)
    assert rows["a"]["detection_entropy_sum"] == pytest.approx(total, abs=1e-6)
    assert rows["a"]["detection_entropy_max"] == pytest.approx(entropy(0.5), abs=1e-6)
    assert rows["a"]["least_confidence_average_per_class"] == pytest.approx([(0.5 + 0.75) / 2, 0.1], abs=1e-6)
    for image in ("b", "c"):  # nothing above scoring.min_probability; a certain box
        assert rows[image]["detection_entropy_sum_per_class"] == [0.0, 0.0]
        assert rows[image]["least_confidence_average"] == 0.0
    assert list(rows) == list(IDS), "the pool's order"
    metadata = read_table(tmp_path / "out" / "scores", SCORES).schema.metadata
    assert json.loads(metadata[CLASSES_KEY]) == ["car", "person"], "what the figures per class belong to"
    assert [part.name for part in sorted((tmp_path / "out" / "scores").glob("[!.]*"))] == [
        "part-00000.parquet", "part-00001.parquet",
    ]  # fmt: skip
    assert not (tmp_path / "out" / "embeddings").exists()
    assert read_table(tmp_path / "out" / "quarantine", QUARANTINE).num_rows == 0


def test_margin_goes_by_the_second_class(tmp_path: Path) -> None:
    found = brought(tmp_path, [box("a", 0.6, class_probabilities=[0.6, 0.5])])
    assert scored(tmp_path / "out", found, settings("margin × sum"))["a"]["margin_sum"] == pytest.approx(0.9, abs=1e-6)


def test_weak_and_surplus_boxes_are_left_out_of_each_member_and_image(tmp_path: Path) -> None:
    boxes = [(0.5, 0), (0.4, 20), (0.3, 40), (0.1, 60)]  # apart: no two are one object
    first = [box("a", p, (x, 0, 10, 10)) for p, x in boxes] + [box("b", 0.3), box("b", 0.2)]
    second = [box("a", p, (x, 50, 10, 10)) for p, x in boxes]
    found = brought(tmp_path, first, second)
    rows = scored(tmp_path / "out", found, settings("least_confidence × sum", min_probability=0.2, max_boxes=2))
    kept = read_table(tmp_path / "out" / "detections", DETECTIONS).to_pylist()
    assert [(row["image_id"], row["member"], round(row["probability"], 6)) for row in kept] == [
        ("a", 0, 0.5), ("a", 0, 0.4), ("a", 1, 0.5), ("a", 1, 0.4), ("b", 0, 0.3), ("b", 0, 0.2),
    ]  # fmt: skip
    # Fused, each of the four objects in a has half its one member's p: ¼ and ⅕, of which two may stay; b's two boxes
    # lie on each other, fall to 0.15 and 0.1, and are left out.
    assert rows["a"]["least_confidence_sum"] == pytest.approx(2 * (1 - 0.25))
    assert rows["b"]["least_confidence_sum"] == 0


def test_members_are_fused_an_unseen_object_counting_0(tmp_path: Path) -> None:
    same, apart = (0, 0, 10, 10), (60, 60, 10, 10)
    found = brought(tmp_path, [box("a", 0.9, same), box("b", 0.6, apart)], [box("a", 0.5, same)], [])
    rows = scored(tmp_path / "out", found, settings("detection_entropy × sum", "box_disagreement × sum"))
    assert rows["a"]["detection_entropy_sum"] == pytest.approx(entropy((0.9 + 0.5) / 3), abs=1e-6)
    assert rows["b"]["detection_entropy_sum"] == pytest.approx(entropy(0.6 / 3), abs=1e-6)
    assert rows["a"]["box_disagreement_sum"] == 0
    table = read_table(tmp_path / "out" / "detections", DETECTIONS)
    assert table["member"].to_pylist() == [0, 1, 0], "as read, not fused"


def test_box_disagreement_of_two_members_by_hand(tmp_path: Path) -> None:
    found = brought(tmp_path, [box("a", 0.9, (0, 0, 10, 10))], [box("a", 0.5, (2, 0, 10, 10))])
    got = scored(tmp_path / "out", found, settings("box_disagreement × max"))["a"]["box_disagreement_max"]
    assert got == pytest.approx(1 - 9 / 11, abs=1e-6)  # each overlaps the mean box, moved by 1 of 10, in 9 of 11


def detections(*boxes: tuple[int, tuple, int, float], lists: list | None = None) -> Detections:
    images, corners, classes, p = zip(*boxes, strict=True) if boxes else ([], [], [], [])
    return Detections(
        torch.tensor(images, dtype=torch.long), torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.long), torch.tensor(p, dtype=torch.float32),
        None if lists is None else torch.tensor(lists, dtype=torch.float32).reshape(-1, 2),
    )  # fmt: skip


def test_fused_boxes_by_hand() -> None:
    first = detections((0, (0, 0, 10, 10), 0, 0.5), (1, (0, 0, 10, 10), 1, 0.25), lists=[[0.5, 0.25], [0.0, 0.25]])
    second = detections((0, (2, 0, 12, 10), 0, 0.75), (0, (50, 50, 60, 60), 0, 1.0), lists=[[0.75, 0.0], [1.0, 0.5]])
    fused = fuse_members([first, second])
    assert fused.images.tolist() == [0, 0, 1], "image by image, the most probable first"
    assert fused.probabilities.tolist() == [(0.5 + 0.75) / 2, 1 / 2, 0.25 / 2]
    assert fused.boxes_xyxy_px.tolist() == [[1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 10]]
    assert fused.classes.tolist() == [0, 0, 1]
    assert fused.class_probabilities is not None
    assert fused.class_probabilities.tolist() == [[0.625, 0.125], [0.5, 0.25], [0.0, 0.125]]
    assert fuse_members([first, second._replace(class_probabilities=None)]).class_probabilities is None
    assert fuse_members([detections(), detections()]).images.tolist() == []
    assert fuse_members([first, detections(lists=[])]).probabilities.tolist() == [0.25, 0.125]


def test_only_boxes_of_one_image_and_class_and_of_two_members_are_one_object() -> None:
    same = (0, 0, 10, 10)
    first = detections((0, same, 0, 0.8), (0, same, 0, 0.6))
    second = detections((0, same, 1, 0.4), (1, same, 0, 0.2))
    assert fuse_members([first, second]).probabilities.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert len(match_members([first, second]).values) == 0


def random_detections(seed: int) -> Detections:
    generator = np.random.default_rng(seed)
    n, corner = 40, generator.uniform(0, 20, (40, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(8, 16, (n, 2))], axis=1).tolist()
    images, classes = generator.integers(0, 3, n).tolist(), generator.integers(0, 2, n).tolist()
    return detections(*zip(images, boxes, classes, generator.uniform(0, 1, n).tolist(), strict=True))


def matched_slowly(found: list[Detections]) -> list[list[tuple[int, int]]]:
    """(member, position) of each object's boxes, straight from the words of `match_members`."""
    rows = [(m, i) for m, one in enumerate(found) for i in range(len(one.images))]
    rows.sort(key=lambda row: -float(found[row[0]].probabilities[row[1]]))
    objects, free = [], list(rows)

    def iou(a: tuple[int, int], b: tuple[int, int]) -> float:
        (x1, y1, x2, y2), (u1, v1, u2, v2) = (found[m].boxes_xyxy_px[i].tolist() for m, i in (a, b))
        shared = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
        return shared / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared)

    def same_kind(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return all(int(found[a[0]][part][a[1]]) == int(found[b[0]][part][b[1]]) for part in (0, 2))

    while free:
        first, one = free[0], [free[0]]
        for member in {m for m, _ in free} - {first[0]}:
            rivals = [row for row in free if row[0] == member and same_kind(row, first) and iou(row, first) >= 0.5]
            one += [max(rivals, key=lambda row: iou(row, first))] if rivals else []
        objects.append(one)
        free = [row for row in free if row not in one]
    return objects


@pytest.mark.parametrize("seed", range(5))
def test_matching_is_that_of_its_description_for_both_users(seed: int) -> None:
    found = [random_detections(10 * seed + member) for member in range(3)]
    objects = matched_slowly(found)
    assert any(len(one) == 3 for one in objects)
    mean_p = sorted(sum(float(found[m].probabilities[i]) for m, i in one) / 3 for one in objects)
    fused = fuse_members(found)
    assert sorted(fused.probabilities.tolist()) == pytest.approx(mean_p, abs=1e-6)
    middle = sorted(sum(float(found[m].boxes_xyxy_px[i, 0]) for m, i in one) / len(one) for one in objects)
    assert sorted(fused.boxes_xyxy_px[:, 0].tolist()) == pytest.approx(middle, abs=1e-4)
    spreads = []
    for own in ([found[m].boxes_xyxy_px[i] for m, i in one] for one in objects if len(one) > 1):
        mean = torch.stack(own).mean(0, keepdim=True)
        spreads.append(1 - sum(box_iou(corners[None], mean).item() for corners in own) / len(own))
    assert sorted(match_members(found).values.tolist()) == pytest.approx(sorted(spreads), abs=1e-6)
    for order in permutations(found):
        again = fuse_members(order)
        assert torch.equal(again.probabilities, fused.probabilities)
        assert torch.equal(again.boxes_xyxy_px, fused.boxes_xyxy_px)


def test_a_pass_and_its_own_detections_brought_back_give_the_same_entropies(tmp_path: Path) -> None:
    ids = [f"{number:02}" for number in range(7)]
    config = settings("detection_entropy × sum", "detection_entropy × max", "least_confidence × top_k", shard_size=3)
    config = config.model_copy(update={"scorers": (*config.scorers[:2], config.scorers[2].model_copy(update={"k": 2}))})
    score_pool(
        pool_rows(ids), MadeUpImages(ids), [real_member(0), real_member(1)], config, tmp_path / "pass",
        height=HEIGHT, width=WIDTH,
    )  # fmt: skip
    rows = pool(ids, WIDTH, HEIGHT)
    names = names_of(pa.chunked_array([ids]), classes=CLASSES)
    found = read_predictions([tmp_path / "pass" / "detections"], rows, names)
    score_predictions(rows, found, config, tmp_path / "back")
    first, back = (read_table(tmp_path / name / "scores", SCORES) for name in ("pass", "back"))
    for name in first.column_names:
        if name != "image_id" and not name.endswith("_per_class"):
            assert min(first[name].to_pylist()) > 0
            np.testing.assert_allclose(back[name], first[name], rtol=1e-6)
            per_class = [np.array(table[f"{name}_per_class"].to_pylist()) for table in (back, first)]
            np.testing.assert_allclose(*per_class, rtol=1e-6)
    tables = [read_table(tmp_path / name / "detections", DETECTIONS) for name in ("pass", "back")]
    order = [(name, "ascending") for name in ("image_id", "class", "probability", "x1_px", "y1_px")]
    assert tables[0].sort_by(order).equals(tables[1].sort_by(order)), "also that they are the ensemble's: member -1"


def test_the_same_bytes_whatever_the_order_of_rows_and_finished_parts_are_kept(tmp_path: Path) -> None:
    rows = [box(image, p, (x, x, 30, 30)) for image in "ab" for p, x in ((0.3, 0), (0.7, 10), (0.7, 40))]
    config = settings("detection_entropy × sum", shard_size=1)
    score_predictions(pool(), brought(tmp_path, rows, rows[:2]), config, tmp_path / "one")
    score_predictions(pool(), brought(tmp_path, rows[::-1], rows[1::-1]), config, tmp_path / "two")
    assert parts_bytes(tmp_path / "one") == parts_bytes(tmp_path / "two")

    kept, lost = (tmp_path / "two" / "scores" / f"part-0000{number}.parquet" for number in (0, 1))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    done: list[int] = []
    score_predictions(pool(), brought(tmp_path, rows, rows[:2]), config, tmp_path / "two", done.append)
    assert parts_bytes(tmp_path / "one") == parts_bytes(tmp_path / "two")
    assert kept.stat().st_mtime_ns == before
    assert done == [1, 2, 3]
    other = brought(tmp_path, rows, [*rows[:1], box("b", 0.71, rows[1]["bbox"])])  # another detector: nothing is kept
    score_predictions(pool(), other, config, tmp_path / "two")
    assert kept.stat().st_mtime_ns > before


def test_what_detections_give_is_told(tmp_path: Path) -> None:
    single = gives_of_predictions(brought(tmp_path, [box("a", 0.5)]))
    assert (single.kinds, single.provenance) == ({"boxes"}, "top score only, as brought, not calibrated")
    lists = [box("a", 0.5, class_probabilities=[0.5, 0.1])]
    both = gives_of_predictions(brought(tmp_path, lists, lists))
    assert both.kinds == {"boxes", "several members", "class probabilities"}
    assert both.provenance == "class probabilities as brought, not calibrated"


@pytest.mark.parametrize(
    ("scorer", "need"),
    [
        ("mutual_information × max", "maps, several members"), ("entropy × max", "maps"),
        ("margin × sum", "class probabilities"), ("box_disagreement × sum", "several members"),
        ("mc_dropout × max", "maps, dropout"),
    ],
)  # fmt: skip
def test_scorers_that_need_more_are_refused_before_anything_is_written(tmp_path: Path, scorer: str, need: str) -> None:
    found = brought(tmp_path, [box("a", 0.5)])
    with pytest.raises(CapabilityError, match=f"'{scorer.split()[0]}' needs {need}\n.*the detections in 0.json"):
        score_predictions(pool(), found, settings(scorer), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_scorer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="detection_entropy"):
        score_predictions(pool(), brought(tmp_path, [box("a", 0.5)]), settings("detection_entropi × sum"), tmp_path)
