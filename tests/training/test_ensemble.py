from functools import partial

import pytest
import torch

from poolscout.config import DetectorConfig, TrainingConfig
from poolscout.detector import load_member
from poolscout.engine.processes import ProcessExecutor
from poolscout.training import hold_back, train_ensemble
from poolscout.training.dataset import TrainingSet

TINY = DetectorConfig(height=32, width=32, stem=8, widths=(8, 8, 8, 8), neck=8, bf16="off")
SHORT = TrainingConfig(min_steps=10, max_steps=10, batch_size=2, crop_height=32, crop_width=32, hold_back=0.25)


def make_data(sequences: list[str]) -> TrainingSet:
    n = len(sequences)
    boxes, classes = [torch.tensor([[4.0, 4, 20, 20]]) for _ in range(n)], [torch.tensor([0]) for _ in range(n)]
    return TrainingSet(torch.zeros(n, 3, 32, 32, dtype=torch.uint8), boxes, classes, torch.ones(n), sequences)


def test_sequences_are_never_split_and_folds_differ():
    data = make_data([f"clip{i // 4}" for i in range(40)])
    seen = []
    for fold in range(4):
        learnt, held = hold_back(data, 0.25, fold, seed=0)
        assert sorted(learnt + held) == list(range(40))
        assert {data.sequences[i] for i in learnt}.isdisjoint(data.sequences[i] for i in held)
        assert len(held) == pytest.approx(10, abs=2)
        seen.append(frozenset(held))
    assert len(set(seen)) == 4
    assert seen[0].isdisjoint(seen[1])
    assert seen[1].isdisjoint(seen[2])


def test_hold_back_depends_on_names_not_on_row_order():
    names = [f"clip{i // 3}" for i in range(30)]
    _, held = hold_back(make_data(names), 0.2, 0, seed=4)
    backwards = names[::-1]
    _, other = hold_back(make_data(backwards), 0.2, 0, seed=4)
    assert {names[i] for i in held} == {backwards[i] for i in other}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_something_is_always_learnt_from(n):
    one_clip = make_data(["only"] * n)
    assert hold_back(one_clip, 0.9, 0, seed=0) == (list(range(n)), [])
    learnt, held = hold_back(make_data([str(i) for i in range(n)]), 0.9, 2, seed=0)
    assert learnt
    assert sorted(learnt + held) == list(range(n))
    assert hold_back(one_clip, 0.0, 0, seed=0)[1] == []


def test_members_differ_and_finished_ones_are_kept(tmp_path):
    data = make_data([str(i) for i in range(8)])
    told = []
    paths = train_ensemble(
        data, ["a"], TINY, SHORT, tmp_path, members=2, seed=0, progress=lambda i, state: told.append((i, state.step))
    )
    assert [p.name for p in paths] == ["member-0", "member-1"]
    assert told == [(0, 10), (1, 10)]
    first, second = (load_member(p) for p in paths)
    assert not torch.equal(first.model.output.weight, second.model.output.weight)
    assert first.calibration.n_images == 2

    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    kept_time = (tmp_path / "member-0.json").stat().st_mtime_ns
    (tmp_path / "member-1.json").unlink()  # as if killed before the json, which is written last
    told.clear()
    train_ensemble(
        data, ["a"], TINY, SHORT, tmp_path, members=2, seed=0, progress=lambda i, state: told.append((i, state.step))
    )
    assert told == [(1, 10)]
    assert (tmp_path / "member-0.json").stat().st_mtime_ns == kept_time
    weights = "member-1.safetensors"
    assert (tmp_path / weights).read_bytes() == before[weights]


def test_what_goes_to_a_process_takes_no_file_descriptors(tmp_path):
    """A tensor takes one, and a process is given at most 256: more images and members than that must do."""
    data = make_data([str(i) for i in range(300)])
    members = [load_member(path) for path in train_ensemble(data, ["a"], TINY, SHORT, tmp_path, members=1, seed=0)]
    made = list(ProcessExecutor(1).map(_facts, [0], setup=partial(_opened, data, members * 9)))
    assert made == [(300, 9, sum(map(len, data.classes)))]


def _opened(data, members):
    return data, members


def _facts(opened, _item):
    data, members = opened
    return len(data), len(members), sum(map(len, data.classes))
