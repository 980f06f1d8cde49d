import pytest
import torch

from poolscout.config import DetectorConfig, TrainingConfig
from poolscout.detector import decode
from poolscout.errors import NonFiniteError
from poolscout.training import member as training_member
from poolscout.training import train_member
from poolscout.training.dataset import TrainingSet
from poolscout.training.member import _Maps, n_steps

TINY = DetectorConfig(height=64, width=96, stem=8, widths=(8, 12, 16, 24), neck=16, bf16="off")
SHORT = TrainingConfig(
    min_steps=60, max_steps=60, batch_size=6, crop_height=64, crop_width=96, zoom=(0.9, 1.1), learning_rate=0.01
)


def squares(n: int = 12, seed: int = 0) -> TrainingSet:
    """Grey images with one red (class 0) or blue (class 1) 24 px square each."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 130, (n, 3, 64, 96), dtype=torch.uint8, generator=generator)
    boxes, classes = [], []
    for i in range(n):
        x = int(torch.randint(0, 72, (), generator=generator))
        y = int(torch.randint(0, 40, (), generator=generator))
        images[i, :, y : y + 24, x : x + 24] = 20
        images[i, 2 * (i // 2 % 2), y : y + 24, x : x + 24] = 240
        boxes.append(torch.tensor([[x, y, x + 24, y + 24]], dtype=torch.float32))
        classes.append(torch.tensor([i // 2 % 2]))
    return TrainingSet(images, boxes, classes, torch.ones(n), [str(i) for i in range(n)])


@pytest.fixture(scope="module")
def trained():
    reports = []
    member = train_member(
        squares(), ["red", "blue"], TINY, SHORT, seed=3, held_back=squares(24, seed=1), progress=reports.append
    )
    return member, reports


def test_it_learns_to_find_new_squares(trained):
    member, reports = trained
    unseen = squares(8, seed=2)
    output = member(unseen.images)
    found = decode(
        output.probabilities, output.box_parameters, TINY.stride, min_probability=0.01, max_boxes=1, nms_iou=0.5
    )
    assert found.images.tolist() == list(range(8))
    assert found.classes.tolist() == torch.cat(unseen.classes).tolist()
    assert (found.boxes_xyxy_px - torch.cat(unseen.boxes_xyxy_px)).abs().max() < 8
    assert reports[-1].step == reports[-1].steps == 60
    assert len(reports) == 6
    assert reports[-1].loss < 0.3 * reports[0].loss
    assert all(r.crops_per_s > 0 for r in reports)


def test_it_is_calibrated_on_the_held_back_images(trained):
    calibration = trained[0].calibration
    assert calibration.n_images == 24
    assert calibration.n_objects == 24
    assert calibration.error_after < calibration.error_before
    facts = trained[0].card.training
    assert facts["images"] == 12
    assert facts["objects"] == 12
    assert facts["steps"] == 60


def test_the_same_seed_gives_the_same_weights_whatever_the_global_state():
    once = SHORT.model_copy(update={"min_steps": 10, "max_steps": 10})
    states = []
    for seed, noise in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        states.append(train_member(squares(), ["red", "blue"], TINY, once, seed).model.state_dict())
        assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert not torch.equal(states[0]["output.weight"], states[2]["output.weight"])


def test_steps_follow_the_images_within_bounds():
    training = TrainingConfig(epochs=10, batch_size=16, min_steps=100, max_steps=1000)
    assert [n_steps(n, training) for n in (1, 800, 100_000)] == [100, 500, 1000]


def test_a_loss_that_is_no_number_stops_the_training():
    wild = SHORT.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(NonFiniteError, match=r"(?s)loss is (nan|inf) at step.*fix:.*learning_rate"):
        train_member(squares(), ["red", "blue"], TINY, wild, seed=0)


def test_no_objects_at_all_still_trains():
    data = squares(4)
    empty = TrainingSet(data.images, [torch.zeros(0, 4)] * 4, [torch.zeros(0).long()] * 4, data.weights, data.sequences)
    short = SHORT.model_copy(update={"min_steps": 10, "max_steps": 10})
    member = train_member(empty, ["red", "blue"], TINY, short, seed=0, held_back=empty)
    assert member.calibration.n_objects == 0
    assert member(data.images).probabilities.max() < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_step_learns_what_a_plain_one_does(monkeypatch):
    config = TINY.model_copy(update={"dropout": 0.0})

    def losses():
        told = []
        train_member(squares(), ["red", "blue"], config, SHORT, seed=3, device="cuda", progress=told.append)
        return [progress.loss for progress in told]

    recorded = losses()
    monkeypatch.setattr(training_member, "_forward", lambda model, _, device, bf16: _Maps(model, device.type, bf16))
    plain = losses()
    assert recorded[0] == pytest.approx(plain[0], rel=1e-3)
    assert recorded[-1] == pytest.approx(plain[-1], rel=0.2)
