"""Trainings that begin with the weights of others."""

from __future__ import annotations

import pytest
import torch

from poolscout.assemble import ensemble_hash, starting_members, training_work
from poolscout.config import build_config
from poolscout.detector import load_member
from poolscout.detector.model import UNet
from poolscout.errors import ConfigError, DataError
from poolscout.training import train_ensemble
from poolscout.training.start import carried
from tests.training.test_ensemble import SHORT, TINY, make_data


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    out = tmp_path_factory.mktemp("first")
    train_ensemble(make_data([str(i) for i in range(8)]), ["car", "person"], TINY, SHORT, out, members=2, seed=1)
    return out


def test_maps_are_carried_over_by_the_class_of_their_name(first):
    start, fresh = load_member(first / "member-0"), UNet(3, TINY).state_dict()
    before = {name: value.clone() for name, value in fresh.items()}
    made, known = carried(start, ["person", "dog", "car"], fresh), start.model.state_dict()
    for name in ("output.weight", "output.bias"):
        assert torch.equal(made[name][0], known[name][1])
        assert torch.equal(made[name][1], before[name][1]), "a class that start does not know is left fresh"
        assert torch.equal(made[name][2], known[name][0])
        assert torch.equal(made[name][-4:], known[name][-4:])
    assert all(torch.equal(made[name], known[name]) for name in made if not name.startswith("output"))
    assert all(torch.equal(fresh[name], before[name]) for name in fresh), "nothing is changed in place"


def test_members_begin_with_members_in_turns(first, tmp_path):
    data, classes = make_data([str(i) for i in range(8)]), ["car", "person"]
    start = [load_member(first / f"member-{i}") for i in range(2)]
    still = SHORT.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0})
    paths = train_ensemble(data, classes, TINY, still, tmp_path / "on", members=3, seed=0, start=start)
    kernels = [load_member(path).model.stages[1][0][0].weight for path in paths]
    theirs = [member.model.stages[1][0][0].weight for member in start]
    for got, expected in zip(kernels, [theirs[0], theirs[1], theirs[0]], strict=True):
        assert torch.allclose(got, expected, atol=1e-6)
    scratch = train_ensemble(data, classes, TINY, still, tmp_path / "scratch", members=1, seed=0)
    assert not torch.allclose(load_member(scratch[0]).model.stages[1][0][0].weight, theirs[0], atol=1e-3)


def config_from(folder, **detector):
    sizes = TINY.model_dump(mode="json", include={"height", "width", "stem", "widths", "neck"})
    training = {"start_from": str(folder), "crop_height": 32, "crop_width": 32}
    return build_config({"pool": {"source": "x"}, "detector": sizes | detector, "training": training})


def test_another_detector_is_refused_and_named(first, tmp_path):
    assert len(starting_members(config_from(first).training, TINY)) == 2
    other = config_from(first, neck=16)
    with pytest.raises(ConfigError, match=r"member-0 is another detector(.|\n)*neck 8(.|\n)*neck 16"):
        starting_members(other.training, other.detector)
    with pytest.raises(DataError, match="no detectors"):
        starting_members(config_from(tmp_path).training, TINY)


def test_what_it_starts_from_counts_by_its_bytes(first, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in first.glob("member-*"):
        (moved / file.name).write_bytes(file.read_bytes())
    here, there = (training_work(config_from(folder), 2, ["a"], {}) for folder in (first, moved))
    assert (here.config, here.inputs) == (there.config, there.inputs)
    assert here.inputs == {"start": ensemble_hash(first)}
    scratch = build_config({"pool": {"source": "x"}})
    assert training_work(scratch, 2, ["a"], {"labels": "1"}).inputs == {"labels": "1"}
