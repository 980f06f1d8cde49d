from types import SimpleNamespace

import pytest
import torch

from poolscout.config import DetectorConfig
from poolscout.detector.model import UNet

SMALL = DetectorConfig(height=64, width=96, stem=8, widths=(8, 12, 16, 24), neck=16, dropout=0.5)


@pytest.fixture
def model() -> UNet:
    torch.manual_seed(0)
    return UNet(3, SMALL).eval()


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_maps_have_the_configured_stride(stride):
    model = UNet(3, SMALL.model_copy(update={"stride": stride})).eval()
    output = model(torch.rand(2, 3, 64, 96))
    assert output.logits.shape == (2, 3, 64 // stride, 96 // stride)
    assert output.boxes.shape == (2, 4, 64 // stride, 96 // stride)
    assert output.features.shape == (2, 24)


def test_features_are_the_average_of_the_last_backbone_layer(model):
    images = torch.rand(2, 3, 64, 96)
    deepest = model.encode(model.normalise(images))[-1]
    assert deepest.shape == (2, 24, 2, 3)
    expected = deepest.flatten(2).sum(2) / 6
    assert torch.allclose(model(images).features, expected, atol=1e-6)


def test_default_embedding_has_160_dimensions_and_the_model_stays_small():
    model = UNet(5, DetectorConfig())
    assert DetectorConfig().widths[-1] == 160
    assert 0.4e6 < sum(p.numel() for p in model.parameters()) < 1.5e6


def test_a_fresh_map_says_one_percent(model):
    assert model(torch.rand(1, 3, 64, 96)).logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)


def test_dropout_acts_only_when_switched_on_and_spares_the_encoder(model):
    torch.nn.init.normal_(model.output.weight)
    encoding = model.encode(torch.rand(1, 3, 64, 96))
    off = [model.head(encoding).logits for _ in range(2)]
    assert torch.equal(*off)
    model.dropout.train()
    on = [model.head(encoding) for _ in range(2)]
    assert not torch.equal(on[0].logits, on[1].logits)
    assert torch.equal(on[0].features, on[1].features)


def test_chosen_channels_are_dropped_as_dropout_drops_them(model):
    """Behind thinned laterals the head is what it is behind nn.Dropout2d that happened to drop the same channels."""
    torch.nn.init.normal_(model.output.weight)
    encoding = model.encode(torch.rand(1, 3, 64, 96))
    model.dropout.p = 0.4
    generator = torch.Generator().manual_seed(5)
    thinned = model.thinned_laterals(generator)
    kept = [(lateral.weight != 0).flatten(1).any(1) for lateral in map(transposed, thinned)]
    assert any((~mask).any() for mask in kept)
    assert any(mask.any() for mask in kept)
    masks = iter(kept)
    model.dropout.register_forward_hook(lambda _, given, __: given[0] * next(masks)[:, None, None] / 0.6)
    by_chance = model.head(encoding).logits
    model.dropout._forward_hooks.clear()
    torch.testing.assert_close(model.head(encoding, thinned).logits, by_chance)
    assert not torch.allclose(model.head(encoding).logits, by_chance)
    again = model.thinned_laterals(torch.Generator().manual_seed(5))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(thinned, again, strict=True))
    assert not torch.equal(model.thinned_laterals(generator)[0].weight, thinned[0].weight)


def transposed(lateral):
    """A view whose first axis is the input channels."""
    return SimpleNamespace(weight=lateral.weight.transpose(0, 1))


def test_a_shifted_image_gives_a_shifted_map(model):
    """Convolution only: a shift by the coarsest stride moves the map, away from the border."""
    torch.nn.init.normal_(model.output.weight)
    images = torch.rand(1, 3, 320, 64)
    shifted = images.roll(32, dims=2)
    a, b = model(images).logits, model(shifted).logits
    assert torch.allclose(a[:, :, 32:40], b[:, :, 40:48], atol=1e-4)
    assert not torch.allclose(a[:, :, 32:40], b[:, :, 32:40], atol=1e-4)
