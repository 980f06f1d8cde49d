"""The A/B test: how arms are split, what is trained on what, and what is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolscout.config import build_as
from poolscout.config_experiment import ExperimentRunConfig
from poolscout.errors import DataError, RunError
from poolscout.experiments.ab import find_families, run_ab
from poolscout.experiments.ab_cells import AbCells, open_ab_world
from poolscout.experiments.ab_findings import AbFindings
from poolscout.experiments.ab_page import write_ab_page_again
from poolscout.experiments.arms import Arms, Sides, check_new, read_arms, split_arms
from poolscout.experiments.look_alikes import closest, hashes
from poolscout.experiments.split import known_labels
from poolscout.experiments.statistics import relative_gain
from poolscout.labels import LabelStore
from poolscout.tables.runfolder import RunFolder
from tests.loop.tiny import tiny_config, write_data

REPEATS = 2


def pool_of(sequences: list[str | None]) -> pa.Table:
    ids = [f"i{number:03d}" for number in range(len(sequences))]
    return pa.table({"image_id": pa.array(ids, pa.string()), "sequence": pa.array(sequences, pa.string())})


def pool_of_80() -> pa.Table:
    pool = pool_of([f"clip-{number // 4}" for number in range(80)])
    return pool.set_column(0, "image_id", pa.array([f"pool-{number:03d}.png" for number in range(80)]))


@given(st.lists(st.integers(0, 9), min_size=20, max_size=60), st.integers(0, 5), st.data())
def test_a_sequence_is_on_one_side_for_all_arms(sequences: list[int], seed: int, data: st.DataObject) -> None:
    pool = pool_of([f"s{number}" for number in sequences])
    ids, of = (
        pool["image_id"].to_pylist(),
        dict(zip(*(pool[name].to_pylist() for name in pool.column_names), strict=True)),
    )
    arms = {name: sorted(data.draw(st.sets(st.sampled_from(ids), min_size=8, max_size=20))) for name in "ab"}
    some_alike, thirds = {"s0": "s0", "s3": "s0", "s9": "s0"}, {f"s{number}": f"s{number % 3}" for number in range(10)}
    family = data.draw(st.sampled_from([{}, some_alike, thirds]))
    try:
        sides = split_arms(pool, arms, seed, family=family)
    except DataError:
        return
    learnt = {of[i] for part in sides.learnt.values() for i in part}
    held = {of[i] for part in sides.held.values() for i in part}
    assert held <= sides.sequences
    assert not {family.get(s, s) for s in learnt} & {family.get(s, s) for s in sides.sequences}
    for first in family.values():
        assert len({name in sides.sequences for name in family if family[name] == first}) == 1
    for name, picked in arms.items():
        assert sorted(sides.learnt[name] + sides.held[name]) == picked
        assert sides.learnt[name]
        assert sides.held[name]


def test_an_arm_that_is_labelled_already_is_told_or_refused() -> None:
    said: list[str] = []
    check_new(Arms(["i1"], {"a": ["i1", "i2"], "b": ["i3"]}), said.append)
    assert said == ["1 of 2 images of arm a are in the reference set already"]
    with pytest.raises(DataError, match="2 of 2 images of arm a .* can gain nothing"):
        check_new(Arms(["i1", "i2"], {"a": ["i1", "i2"], "b": ["i3"]}), said.append)


def test_about_a_tenth_is_held_out_and_repeats_differ() -> None:
    pool = pool_of([f"s{number // 2}" for number in range(400)])
    arms = {"a": pool["image_id"].to_pylist()[:200], "b": pool["image_id"].to_pylist()[100:300]}
    splits = [split_arms(pool, arms, seed) for seed in range(10)]
    for sides in splits:
        assert all(abs(len(ids) - 20) <= 2 for ids in sides.held.values())
    assert len({frozenset(sides.union) for sides in splits}) == 10
    assert split_arms(pool, arms, 3) == splits[3]


def test_what_cannot_be_split_is_told() -> None:
    pool = pool_of(["a"] * 4 + ["b"] * 4 + [None])
    ids = pool["image_id"].to_pylist()
    with pytest.raises(DataError, match="arm y lies in a single sequence"):
        split_arms(pool, {"x": ids[:8], "y": ids[:3]}, 0)
    with pytest.raises(DataError, match="no known sequence"):
        split_arms(pool, {"x": ids, "y": ids[:8]}, 0)


def test_gain_by_hand() -> None:
    gain = relative_gain([0.3, 0.3], [0.2, 0.2])
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.5, 0.5, 0.5))
    assert relative_gain([0.3, 0.4], [0.0, 0.0]) is None
    assert relative_gain([0.3, 0.4], [0.012, 0.006]) is None, "a multiple of next to nothing"
    assert relative_gain([0.3, 0.4], [0.012, 0.009]) is not None
    wide = relative_gain([0.2, 0.3, 0.4], [0.2, 0.2, 0.2])
    assert wide.mean == pytest.approx(0.5)
    assert wide.low < wide.mean < wide.high


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"), n_pool=80, n_test=0)


def arms_of(folder: Path) -> dict[str, Path]:
    for name, numbers in (("manual", range(12, 36)), ("al", range(13, 80, 3))):
        lines = [f"pool-{number:03d}.png" for number in numbers]
        text = "\n".join(["image_id", *lines]) if name == "manual" else "\n".join(lines)
        (folder / f"{name}{'.csv' if name == 'manual' else '.txt'}").write_text(text)
    (folder / "reference.txt").write_text("\n".join(f"pool-{number:03d}.png" for number in range(0, 80, 8)))
    return {"manual": folder / "manual.csv", "al": folder / "al.txt"}


def config_of(data: Path, **changes: Any) -> ExperimentRunConfig:
    small = {
        "training__members": 1,
        "training__min_steps": 10,
        "training__max_steps": 10,
        "evaluation__annotations": None,
    }
    values = tiny_config(data, **small).model_dump(mode="json")
    values["selection"]["price"] = {"seconds_per_image": 6.0, "seconds_per_box": 12.0}
    values["scoring"]["scorers"] = [{"scorer": "entropy"}]
    return build_as(ExperimentRunConfig, values | {"experiment": {"seeds": REPEATS, "near_duplicates": -1, **changes}})


@pytest.fixture(scope="module")
def tested(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AbFindings]:
    folder = tmp_path_factory.mktemp("ab")
    files = arms_of(folder)
    return folder, run_ab(config_of(data), files, folder / "out", reference=folder / "reference.txt")


def learnt_by(folder: Path, repeat: int, name: str) -> set[str]:
    store = LabelStore(folder / "out" / "repeats" / f"repeat-{repeat:03d}" / name / "labels")
    return set(store.current(1).labelled["image_id"].to_pylist())


def test_models_learn_the_reference_and_nine_tenths_of_their_arm(tested: tuple[Path, AbFindings], data: Path) -> None:
    folder, _ = tested
    pool = pool_of_80()
    arms = {
        "manual": [f"pool-{number:03d}.png" for number in range(12, 36)],
        "al": [f"pool-{number:03d}.png" for number in range(13, 80, 3)],
    }
    reference = {f"pool-{number:03d}.png" for number in range(0, 80, 8)}
    for repeat in range(REPEATS):
        sides: Sides = split_arms(pool, arms, repeat)
        clip = {image: f"clip-{int(image[5:8]) // 4}" for image in pool["image_id"].to_pylist()}
        shared = {image for image in reference if clip[image] not in sides.sequences}
        assert learnt_by(folder, repeat, "reference") == shared
        for name in arms:
            assert learnt_by(folder, repeat, name) == shared | set(sides.learnt[name])
            assert not {clip[image] for image in learnt_by(folder, repeat, name)} & sides.sequences


def test_what_is_told(tested: tuple[Path, AbFindings]) -> None:
    folder, found = tested
    manual, al = found.arms
    assert (manual.name, manual.cost["images"], manual.cost["sequences"]) == ("manual", 24, 6)
    assert (al.cost["images"], al.cost["sequences"]) == (23, 17)
    boxes = manual.cost["boxes"]
    assert manual.cost["minutes"] == pytest.approx((24 * 6 + boxes * 12) / 60)
    assert sum(manual.cost["boxes_per_class"].values()) == boxes
    assert set(found.reference) == {"both", "manual", "al"}
    assert manual.figures["both"]["wMAP"].n == REPEATS
    assert set(found.differences) == {("manual", "al")}
    assert all(one.p_corrected >= one.p for one in found.differences["manual", "al"].values())
    assert (folder / "out" / "ab.json").exists()


def test_again_nothing_is_done_and_other_arms_are_refused(tested: tuple[Path, AbFindings], data: Path) -> None:
    folder, found = tested
    files = arms_of(folder)
    models = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.safetensors")}
    assert len(models) == REPEATS * 3
    again = run_ab(config_of(data), files, folder / "out", reference=folder / "reference.txt")
    assert again == found
    assert {path: path.stat().st_mtime_ns for path in models} == models
    files["al"].write_text("\n".join(f"pool-{number:03d}.png" for number in range(14, 80, 3)))
    with pytest.raises(RunError, match="arms"):
        run_ab(config_of(data), files, folder / "out", reference=folder / "reference.txt")


def test_its_lists_do_it_again(tested: tuple[Path, AbFindings], data: Path, tmp_path: Path) -> None:
    folder, found = tested
    kept = folder / "out" / "arms"
    (kept / "al.txt").unlink()  # a folder of an earlier release has no lists
    write_ab_page_again(folder / "out")
    files = {name: kept / f"{name}.txt" for name in ("manual", "al")}
    assert run_ab(config_of(data), files, tmp_path / "again", reference=kept / "reference.txt") == found
    page = (folder / "out" / "ab.html").read_text()
    assert (
        "poolscout ab run.yaml --arm manual=arms/manual.txt --arm al=arms/al.txt --reference arms/reference.txt" in page
    )


def test_no_repeat_parts_what_looks_alike(tmp_path: Path) -> None:
    data = write_data(tmp_path / "tiny", n_pool=80, n_test=0)
    for stop, number in ((13, 72), (13, 49), (22, 64), (31, 48)):  # the camera is where it was before
        shutil.copy(data / f"images/pool-{stop:03d}.png", data / f"images/pool-{number:03d}.png")
    most, arms = 12, read_arms(arms_of(tmp_path), pool_of_80())
    config = config_of(data, near_duplicates=most)
    folder = RunFolder(tmp_path / "out")
    world = open_ab_world(config, folder.path, folder)
    given = Arms(sorted(f"pool-{number:03d}.png" for number in range(0, 80, 8)), arms)
    cells = AbCells(world, config, (given,) * 8, 1, known_labels(world))
    for_none = AbCells(world, config_of(data), (given,) * 8, 1, known_labels(world))

    def alike(of: AbCells, repeat: int) -> int:
        sides = of.sides(repeat)
        learnt = {image_id for name in ("reference", *arms) for image_id in of.learnt(repeat, sides, name)}
        (_, ours), (_, theirs) = (hashes(sorted(ids), world.reader) for ids in (learnt, sides.union))
        return len(closest(ours, theirs, most))

    find_families(for_none)
    assert sum(alike(for_none, repeat) for repeat in range(8)), "there is something to part"
    (tmp_path / "out" / "repeats").rename(tmp_path / "for_none")
    find_families(cells)
    assert not any(alike(cells, repeat) for repeat in range(8))
    assert len({frozenset(cells.sides(repeat).union) for repeat in range(8)}) > 1


def test_every_split_is_tried_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    """Those of the first repeats can be made here, one of a later one cannot."""
    lists = {"few": [0, 4, 5, 6, 7], "many": range(4, 12), "a": range(12), "b": range(12, 24), "clip-0": [0, 1]}
    for name, numbers in lists.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(f"pool-{number:03d}.png" for number in numbers))
    for arms, reference, told in (
        (("few", "many"), "b", "arm few: every one of its images would be held out"),
        (("a", "b"), "clip-0", r"repeat [1-9]\d*: nothing is left of the reference set"),
    ):
        files, out = {name: tmp_path / f"{name}.txt" for name in arms}, tmp_path / f"out-{reference}"
        with pytest.raises(DataError, match=told):
            run_ab(config_of(data, seeds=20), files, out, reference=tmp_path / f"{reference}.txt")
        assert not list(out.rglob("*.safetensors"))


def test_a_split_that_holds_out_no_object_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "tiny", n_pool=80, n_test=0)
    known = json.loads((data / "pool.json").read_text())
    known["annotations"] = [one for one in known["annotations"] if not 12 <= one["image_id"] < 36]
    (data / "pool.json").write_text(json.dumps(known))
    files = arms_of(tmp_path)
    empty = {"manual": files["manual"], "al": files["manual"]}
    told = r"repeat 0: what is held out shows no object[^$]*clip-[^$]*more than experiment.ab.held_out = 0.1"
    with pytest.raises(DataError, match=told):
        run_ab(config_of(data), empty, tmp_path / "out", reference=tmp_path / "reference.txt")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_split_that_would_leak_is_refused(data: Path, tmp_path: Path) -> None:
    files = arms_of(tmp_path)
    everything_alike = config_of(data, near_duplicates=256)
    with pytest.raises(DataError, match=r"arm manual lies in 6 sequences that all look alike[^$]*near_duplicates"):
        run_ab(everything_alike, files, tmp_path / "out", reference=tmp_path / "reference.txt")
    assert not list((tmp_path / "out").rglob("*.safetensors")), "before anything is trained"
    nameless = config_of(data)
    nameless = nameless.model_copy(update={"pool": nameless.pool.model_copy(update={"sequence": None})})
    with pytest.raises(DataError, match="images name no recordings"):
        run_ab(nameless, files, tmp_path / "nameless", reference=tmp_path / "reference.txt")


def test_arms_that_are_none(data: Path, tmp_path: Path) -> None:
    files = arms_of(tmp_path)
    with pytest.raises(DataError, match="two arms or more"):
        run_ab(config_of(data), {"al": files["al"]}, tmp_path / "out")
    files["al"].write_text("pool-001.png\nnobody.png")
    with pytest.raises(DataError, match=r"arm al: 1 of 2[^$]*nobody.png"):
        run_ab(config_of(data), files, tmp_path / "out")
    many = config_of(data)
    many = many.model_copy(update={"labelling": many.labelling.model_copy(update={"initial": 30})})
    with pytest.raises(DataError, match="sequences that no arm picked from"):
        run_ab(many, arms_of(tmp_path), tmp_path / "many")
