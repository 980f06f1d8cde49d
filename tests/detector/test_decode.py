import torch
from torchvision.ops import box_iou

from poolscout.detector.decode import Detections, boxes_at, decode


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


def spread_boxes(parameters, stride):
    """The box of every position: [images, 4, height, width]."""
    _, _, height, width = parameters.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack(
        [
            boxes_at(p.flatten(1).T, y.flatten(), x.flatten(), height, width, stride).T.view(4, height, width)
            for p in parameters
        ]
    )


def of_image(found: Detections, image: int) -> Detections:
    return found.take(found.images == image)


def test_agrees_with_plain_loops():
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(3, 2, 9, 11, generator=generator)
    p = (p * 20).round() / 20  # ties
    parameters = torch.rand(3, 4, 9, 11, generator=generator)
    parameters[:, 2:] += 0.7
    boxes = spread_boxes(parameters, 4)
    found = decode(p, parameters, 4, min_probability=0.6, max_boxes=12, nms_iou=0.3)
    assert found.images.tolist() == sorted(found.images.tolist())
    for image in range(3):
        expected = brute_force(p[image], boxes[image], 0.6, 12, 0.3)
        detections = of_image(found, image)
        assert len(expected) > 5
        assert detections.classes.tolist() == [c for _, c, _ in expected]
        assert torch.allclose(detections.probabilities, torch.tensor([s for s, _, _ in expected]))
        assert torch.equal(detections.boxes_xyxy_px, torch.stack([b for _, _, b in expected]))


def same_box_everywhere(height=4, width=8):
    """Parameters with which every position of a map at stride 4 draws the box (0, 0, 20, 10)."""
    x, y = torch.arange(width) + 0.5, (torch.arange(height) + 0.5)[:, None]
    sides = torch.tensor([20 / 4, 10 / 4]).log()
    return torch.stack(
        [(2.5 - x).expand(height, width), (1.25 - y).expand(height, width),
         sides[0].expand(height, width), sides[1].expand(height, width)]
    )[None]  # fmt: skip


def test_same_place_two_classes_are_both_kept_and_a_double_of_one_class_goes():
    p = torch.zeros(1, 2, 4, 8)
    p[0, 0, 1, 1], p[0, 0, 1, 4], p[0, 1, 1, 1] = 0.9, 0.8, 0.7
    found = decode(p, same_box_everywhere(), 4, min_probability=0.05, max_boxes=10, nms_iou=0.5)
    assert found.classes.tolist() == [0, 1]
    assert torch.allclose(found.probabilities, torch.tensor([0.9, 0.7]))
    assert torch.allclose(found.class_probabilities, torch.tensor([[0.9, 0.7], [0.9, 0.7]]))
    assert torch.allclose(found.boxes_xyxy_px, torch.tensor([0.0, 0, 20, 10]), atol=1e-4)
    assert len(decode(p, same_box_everywhere(), 4, min_probability=0.05, max_boxes=1, nms_iou=0.5).classes) == 1


def test_nothing_above_the_threshold():
    p = torch.full((1, 2, 4, 4), 0.01)
    found = decode(p, torch.zeros(1, 4, 4, 4), 4, min_probability=0.05, max_boxes=10, nms_iou=0.5)
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert len(found.classes) == len(found.images) == 0
    assert found.classes.dtype == torch.int64


def test_an_image_without_boxes_between_two_with():
    p = torch.zeros(3, 1, 4, 8)
    p[0, 0, 1, 1] = p[2, 0, 2, 6] = 0.5
    found = decode(p, torch.zeros(3, 4, 4, 8), 4, min_probability=0.05, max_boxes=10, nms_iou=0.5)
    assert found.images.tolist() == [0, 2]


def test_box_of_a_position_by_hand():
    """Cell (x=2, y=1) at stride 4 has its middle at (10, 6) px; offset (0.5, −0.25) cells, 3 × 2 cells."""
    parameters = torch.tensor([[0.5, -0.25, 3.0, 2.0]])
    parameters[:, 2:] = parameters[:, 2:].log()
    [box] = boxes_at(parameters, torch.tensor([1]), torch.tensor([2]), 5, 6, 4)
    assert torch.allclose(box, torch.tensor([12.0 - 6, 5.0 - 4, 12 + 6, 5 + 4]), atol=1e-4)


def test_boxes_are_cut_at_the_border_and_never_inverted():
    boxes = spread_boxes(torch.randn(2, 4, 5, 6) * 50, 4)
    x1, y1, x2, y2 = boxes.unbind(1)
    assert x1.min() >= 0
    assert y1.min() >= 0
    assert x2.max() <= 24
    assert y2.max() <= 20
    assert (x2 >= x1).all()
    assert (y2 >= y1).all()
    assert torch.isfinite(x2).all()
