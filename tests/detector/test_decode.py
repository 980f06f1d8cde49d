import torch
from torchvision.ops import box_iou

from poolscout.detector.decode import boxes_from_map, decode


def brute_force(p, boxes, min_probability, max_boxes, nms_iou):
    """Peaks and greedy NMS by plain loops over one image."""
    n_classes, height, width = p.shape
    found = []
    for c in range(n_classes):
        for y in range(height):
            for x in range(width):
                around = p[c, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                if p[c, y, x] >= min_probability and p[c, y, x] == around.max():
                    found.append((-p[c, y, x].item(), c, y, x))
    kept = []
    for score, c, y, x in sorted(found):
        box = boxes[:, y, x]
        if all(k[1] != c or box_iou(box[None], k[2][None]).item() <= nms_iou for k in kept):
            kept.append((-score, c, box))
    return kept[:max_boxes]


def test_agrees_with_plain_loops():
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(3, 2, 9, 11, generator=generator)
    p = (p * 20).round() / 20  # ties
    top_left = torch.rand(3, 2, 9, 11, generator=generator) * 20
    boxes = torch.cat([top_left, top_left + 5 + torch.rand(3, 2, 9, 11, generator=generator) * 20], dim=1)
    for image, detections in enumerate(decode(p, boxes, 0.6, 12, 0.3)):
        expected = brute_force(p[image], boxes[image], 0.6, 12, 0.3)
        assert detections.classes.tolist() == [c for _, c, _ in expected]
        assert torch.allclose(detections.probabilities, torch.tensor([s for s, _, _ in expected]))
        assert torch.equal(detections.boxes_xyxy_px, torch.stack([b for _, _, b in expected]))


def test_same_place_two_classes_are_both_kept_and_a_double_of_one_class_goes():
    p = torch.zeros(1, 2, 4, 8)
    p[0, 0, 1, 1], p[0, 0, 1, 4], p[0, 1, 1, 1] = 0.9, 0.8, 0.7
    boxes = torch.tensor([0.0, 0, 20, 10])[None, :, None, None].expand(1, 4, 4, 8)
    [found] = decode(p, boxes, 0.05, 10, 0.5)
    assert found.classes.tolist() == [0, 1]
    assert torch.allclose(found.probabilities, torch.tensor([0.9, 0.7]))
    assert len(decode(p, boxes, 0.05, 1, 0.5)[0].classes) == 1


def test_nothing_above_the_threshold():
    [found] = decode(torch.full((1, 2, 4, 4), 0.01), torch.zeros(1, 4, 4, 4), 0.05, 10, 0.5)
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert len(found.classes) == 0
    assert found.classes.dtype == torch.int64


def test_box_of_a_position_by_hand():
    """Cell (x=2, y=1) at stride 4 has its middle at (10, 6) px; offset (0.5, −0.25) cells, 3 × 2 cells."""
    parameters = torch.zeros(1, 4, 5, 6)
    parameters[0, :, 1, 2] = torch.tensor([0.5, -0.25, 3.0, 2.0])
    parameters[0, 2:, 1, 2] = parameters[0, 2:, 1, 2].log()
    box = boxes_from_map(parameters, 4)[0, :, 1, 2]
    assert torch.allclose(box, torch.tensor([12.0 - 6, 5.0 - 4, 12 + 6, 5 + 4]), atol=1e-4)


def test_boxes_are_cut_at_the_border_and_never_inverted():
    parameters = torch.randn(2, 4, 5, 6) * 50
    x1, y1, x2, y2 = boxes_from_map(parameters, 4).unbind(1)
    assert x1.min() >= 0
    assert y1.min() >= 0
    assert x2.max() <= 24
    assert y2.max() <= 20
    assert (x2 >= x1).all()
    assert (y2 >= y1).all()
    assert torch.isfinite(x2).all()
