import math

import torch

from poolscout.detector.targets import CORE, NARROWEST, SPREAD, build_targets


def targets(boxes, classes, images, n_images=1, n_classes=2, height=12, width=16, stride=4):
    return build_targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(classes, dtype=torch.long),
        torch.tensor(images, dtype=torch.long), n_images, n_classes, height, width, stride,
    )  # fmt: skip


def test_one_box_by_hand():
    """A 40×24 px box centred on pixel (30, 22): cell (7, 5) at stride 4, sides of 10 and 6 cells."""
    heat = targets([[10, 10, 50, 34]], [1], [0]).heat
    assert heat[0, 1, 5, 7] == 1
    assert (heat == 1).sum() == 1
    assert heat[0, 0].abs().sum() == 0  # the other class
    sigma_x, sigma_y = 10 * SPREAD, 6 * SPREAD
    assert math.isclose(heat[0, 1, 5, 9].item(), math.exp(-(2**2) / (2 * sigma_x**2)), rel_tol=1e-5)
    assert math.isclose(heat[0, 1, 6, 7].item(), math.exp(-(1**2) / (2 * sigma_y**2)), rel_tol=1e-5)


def test_a_tiny_box_keeps_a_centre_and_a_narrow_gaussian():
    heat = targets([[21, 21, 22, 22]], [0], [0]).heat
    assert heat[0, 0, 5, 5] == 1
    assert math.isclose(heat[0, 0, 5, 6].item(), math.exp(-1 / (2 * NARROWEST**2)), rel_tol=1e-5)


def test_two_objects_of_a_class_take_the_larger_value_not_the_sum():
    both = targets([[0, 0, 24, 24], [12, 0, 36, 24]], [0, 0], [0, 0]).heat
    one, other = targets([[0, 0, 24, 24]], [0], [0]).heat, targets([[12, 0, 36, 24]], [0], [0]).heat
    assert torch.equal(both, torch.maximum(one, other))


def test_every_object_learns_its_box_and_weighs_one_in_total():
    t = targets([[0, 0, 8, 8], [8, 8, 48, 40], [4, 4, 60, 44]], [0, 1, 1], [0, 0, 1], n_images=2)
    for box, image in (((0.0, 0.0, 8.0, 8.0), 0), ((8.0, 8.0, 48.0, 40.0), 0), ((4.0, 4.0, 60.0, 44.0), 1)):
        mine = (t.core_boxes_xyxy_px == torch.tensor(box)).all(1)
        assert mine.any()
        assert (t.core_image[mine] == image).all()
        assert math.isclose(t.core_weights[mine].sum().item(), 1, rel_tol=1e-5)


def test_a_shared_position_learns_the_nearer_object():
    t = targets([[0, 0, 40, 40], [16, 0, 56, 40]], [0, 1], [0, 0])
    positions = set(zip(t.core_y.tolist(), t.core_x.tolist(), strict=True))
    assert len(positions) == len(t.core_x)  # none twice
    left = t.core_boxes_xyxy_px[:, 0] == 0
    assert t.core_x[left].max() < t.core_x[~left].min()
    assert (5, 5) in positions
    assert (5, 9) in positions


def test_core_positions_are_near_the_centre():
    t = targets([[8, 8, 48, 40]], [0], [0])
    assert (t.heat[0, 0, t.core_y, t.core_x] >= CORE).all()
    assert len(t.core_x) == (t.heat >= CORE).sum()


def test_no_boxes():
    t = targets([], [], [], n_images=2)
    assert t.heat.shape == (2, 2, 12, 16)
    assert t.heat.sum() == 0
    assert len(t.core_image) == 0


def test_a_centre_on_the_far_border_stays_on_the_map():
    heat = targets([[64, 48, 64, 48]], [0], [0]).heat
    assert heat[0, 0, 11, 15] == 1
