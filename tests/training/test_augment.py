import pytest
import torch

from poolscout.config import TrainingConfig
from poolscout.training.augment import GREY, Crops, resized_window, to_input, window_boxes
from poolscout.training.dataset import TrainingSet

CONFIG = TrainingConfig(batch_size=8, crop_height=64, crop_width=96, colour=0.0)


def bright_boxes(n: int = 6, height: int = 128, width: int = 160) -> TrainingSet:
    """Dark images with one white 30×20 px object each."""
    generator = torch.Generator().manual_seed(5)
    images = torch.full((n, 3, height, width), 10, dtype=torch.uint8)
    boxes = []
    for i in range(n):
        x = int(torch.randint(0, width - 30, (), generator=generator))
        y = int(torch.randint(0, height - 20, (), generator=generator))
        images[i, :, y : y + 20, x : x + 30] = 250
        boxes.append(torch.tensor([[x, y, x + 30, y + 20]], dtype=torch.float32))
    names = [str(i) for i in range(n)]
    return TrainingSet(images, boxes, [torch.tensor([i % 2]) for i in range(n)], torch.ones(n), names)


def crops(data: TrainingSet, seed: int = 0, **changes) -> Crops:
    return Crops(data, CONFIG.model_copy(update=changes), torch.Generator().manual_seed(seed))


def test_boxes_follow_the_pixels_through_crop_zoom_and_flip():
    source = crops(bright_boxes())
    checked = 0
    for _ in range(6):
        batch = source.draw()
        for (x1, y1, x2, y2), owner in zip(batch.boxes_xyxy_px.tolist(), batch.owners.tolist(), strict=True):
            ys, xs = torch.nonzero(batch.images[owner, 0] > 180, as_tuple=True)
            seen = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert all(abs(float(s) - b) <= 2 for s, b in zip(seen, (x1, y1, x2, y2), strict=True))
            checked += 1
    assert checked > 20


def test_a_crop_without_a_box_shows_hardly_any_of_the_object():
    source = crops(bright_boxes(), on_objects=0.0)
    for _ in range(6):
        batch = source.draw()
        for image in set(range(8)) - set(batch.owners.tolist()):
            zoomed_object = 30 * 20 * 1.7**2
            assert (batch.images[image, 0] > 180).sum() < 0.4 * zoomed_object


def test_window_boxes_by_hand():
    boxes = torch.tensor([[10.0, 10, 30, 20], [90, 10, 130, 20], [0, 0, 4, 4], [45, 10, 65, 20]])
    cut, keep = window_boxes(boxes, torch.tensor([[5, 5, 50, 25]] * 4), 50, 100)
    # twice as wide, twice as high; the second lies outside, the third too, half of the fourth is seen
    assert keep.tolist() == [True, False, False, True]
    assert cut[keep].tolist() == [[10, 10, 50, 30], [80, 10, 100, 30]]


def test_a_window_beyond_the_image_is_grey_there():
    image = torch.full((3, 20, 30), 200, dtype=torch.uint8)
    out = resized_window(image, -10, 5, 30, 30, 30, 30)
    assert (out[:, :15, 10:] == 200).all()
    assert (out[:, :, :10] == GREY).all()
    assert (out[:, 15:] == GREY).all()
    assert (resized_window(image, 100, 0, 10, 10, 8, 8) == GREY).all()


def test_same_seed_same_batches():
    data = bright_boxes()
    one, same, other = crops(data, 1), crops(data, 1), crops(data, 2)
    for _ in range(3):
        a, b, c = one.draw(), same.draw(), other.draw()
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert not torch.equal(a.images, c.images)


def test_an_image_of_weight_three_is_drawn_three_times_as_often():
    data = bright_boxes(4)
    heavy = TrainingSet(data.images, data.boxes_xyxy_px, data.classes, torch.tensor([1.0, 3, 1, 1.5]), data.sequences)
    source = crops(heavy)
    drawn = torch.bincount(torch.tensor([source._next_image() for _ in range(6500)]))
    assert (drawn / 1000).tolist() == pytest.approx([1, 3, 1, 1.5], rel=0.06)


def test_balance_draws_rare_classes_as_often():
    data = bright_boxes(11)
    rare = TrainingSet(data.images, data.boxes_xyxy_px, [torch.tensor([int(i == 0)]) for i in range(11)],
                       data.weights, data.sequences)  # fmt: skip
    shares = []
    for balance in (0.0, 1.0):
        source = crops(rare, on_objects=1.0, balance=balance)
        classes = torch.cat([source.draw().classes for _ in range(40)])
        shares.append(float((classes == 1).double().mean()))
    assert shares == pytest.approx([1 / 11, 0.5], abs=0.08)


def test_images_without_any_box():
    data = bright_boxes(2)
    empty = TrainingSet(data.images, [torch.zeros(0, 4)] * 2, [torch.zeros(0).long()] * 2, data.weights, ["a", "b"])
    batch = crops(empty).draw()
    assert batch.images.shape == (8, 3, 64, 96)
    assert len(batch.classes) == 0


def test_colour_changes_stay_mild_and_none_is_none():
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    plain = to_input(images, 0.0, torch.Generator().manual_seed(0))
    assert torch.allclose(plain, images / 255, atol=1e-6)
    changed = to_input(images, 0.3, torch.Generator().manual_seed(0))
    elsewhere = to_input(torch.empty_like(images, device="meta"), 0.3, torch.Generator())
    assert elsewhere.device.type == "meta", "it goes where the images are, whatever device that is"
    means = changed.mean((2, 3))
    assert (means - plain.mean((2, 3))).abs().max() > 0.02
    assert means.min() > 0.2
    assert means.max() < 0.8
    assert len(means.flatten().unique()) == 48  # every channel of every image differently
