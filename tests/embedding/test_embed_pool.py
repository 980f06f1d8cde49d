"""The pass: the vectors of plain torch, shards, restarts, quarantine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from poolscout.embedding import EmbeddingSummary, load_backbone
from poolscout.engine import ThreadExecutor
from poolscout.errors import DataError, NonFiniteError
from poolscout.formats.embeddings import read_embeddings
from poolscout.pool import FittedImage, ImageReader
from poolscout.tables.declared import EMBEDDINGS, QUARANTINE
from poolscout.tables.parquet import read_table
from tests.embedding.scenes import HEIGHT, WIDTH, noise, random_weights, run, small, write_images
from tests.scoring.pools import parts_bytes

IDS = [f"seq/{number:02d}.png" for number in range(12)]


def plain(name: str, mean: tuple[float, ...], std: tuple[float, ...], last: Callable[[Tensor], Tensor]) -> np.ndarray:
    """One image at a time, as it is on disk."""
    x = torch.from_numpy(noise(name)).permute(2, 0, 1)[None].float() / 255
    x = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    with torch.no_grad():
        return last(x)[0].numpy()


def is_stored(folder: Path, expected: dict[str, np.ndarray], d: int) -> None:
    found = read_embeddings(folder / "embeddings")
    assert found.image_ids.to_pylist() == list(expected)
    assert found.values.shape == (len(expected), d)
    assert np.ptp(found.values, axis=0).max() > 1e-3, "different images, different vectors"
    np.testing.assert_allclose(found.values, np.stack(list(expected.values())), rtol=1e-5, atol=1e-5)


def test_a_resnet_of_timm_is_pooled_over_its_last_layer(tmp_path: Path) -> None:
    reader, backbone = write_images(tmp_path / "images", IDS), small(tmp_path / "w.safetensors")
    assert run(reader, backbone, tmp_path / "out") == EmbeddingSummary(n_embedded=12, n_rejected=0, n_kept=0)
    network = timm.create_model("test_resnet").eval()
    network.load_state_dict(load_file(tmp_path / "w.safetensors"))
    config = network.pretrained_cfg  # not ImageNet's usual mean
    expected = {
        name: plain(name, config["mean"], config["std"], lambda x: network.forward_features(x).mean((2, 3)))
        for name in IDS
    }
    is_stored(tmp_path / "out", expected, 96)


def test_a_transformer_is_averaged_over_its_patches_without_the_class_token(tmp_path: Path) -> None:
    reader, backbone = write_images(tmp_path / "images", IDS[:3]), small(tmp_path / "w.safetensors", "test_vit")
    run(reader, backbone, tmp_path / "out")
    # At the input's own size: the positions of a file for another size are interpolated, as timm does it.
    network = timm.create_model("test_vit", img_size=(HEIGHT, WIDTH)).eval()
    state = timm.models.vision_transformer.checkpoint_filter_fn(load_file(tmp_path / "w.safetensors"), network)
    network.load_state_dict(state)
    config = network.pretrained_cfg

    def patches(x: Tensor) -> Tensor:
        tokens = network.forward_features(x)
        assert tokens.shape[1] == 1 + (HEIGHT // 16) * (WIDTH // 16)
        return tokens[:, 1:].mean(1)

    is_stored(tmp_path / "out", {n: plain(n, config["mean"], config["std"], patches) for n in IDS[:3]}, 64)


def random_network(name: str) -> torch.nn.Module:
    """One of torchvision's, with random weights; vgg16 without its classifier, which has 124 million of them."""
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
    if name == "vgg16":
        network.classifier = torch.nn.Identity()
    network.to_empty(device="cpu").eval()
    torch.manual_seed(0)
    for key, value in network.state_dict().items():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)
        else:
            value.fill_(float(key.endswith(("weight", "running_var"))))
    return network


@pytest.mark.parametrize(("name", "d", "last"), [("resnet50", 2048, "layer4"), ("vgg16", 512, "features")])
def test_torchvisions_networks(tmp_path: Path, name: str, d: int, last: str) -> None:
    network = random_network(name)
    torch.save(network.state_dict(), tmp_path / "w.pth")  # resnet50's with its head, vgg16's without
    reader = write_images(tmp_path / "images", IDS[:2])
    run(reader, load_backbone(name, tmp_path / "w.pth", HEIGHT, WIDTH), tmp_path / "out", batch_size=2)
    seen: list[Tensor] = []
    hook = getattr(network, last).register_forward_hook(lambda module, given, made: seen.append(made))

    def pooled(x: Tensor) -> Tensor:
        seen.clear()
        network(x)
        return seen[0].mean((2, 3))

    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = {image_id: plain(image_id, *imagenet, pooled) for image_id in IDS[:2]}
    hook.remove()
    found = read_embeddings(tmp_path / "out" / "embeddings").values
    assert found.shape == (2, d)
    scale = np.abs(found).max()
    np.testing.assert_allclose(found / scale, np.stack([expected[i] for i in IDS[:2]]) / scale, atol=1e-5)


def test_padding_does_not_count(tmp_path: Path) -> None:
    """A wide image is fitted into the upper half of a square; where it is not shown, nothing is averaged."""

    class Wide(ImageReader):
        def read_fitted(self, image_id: str, height: int, width: int) -> FittedImage:
            pixels = np.zeros((3, height, width), np.uint8)
            pixels[:, height // 2 :] = 255 if image_id == "bright" else 114
            return FittedImage(pixels, 1.0, height // 2, width, height // 2, width)

    backbone = small(tmp_path / "w.safetensors")
    run(Wide({"grey": "", "bright": ""}, 10**6), backbone, tmp_path / "out")
    pixels = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    pixels[:, :, HEIGHT // 2 :] = 114
    with torch.no_grad():
        features = backbone(pixels)  # [1, 96, 2, 3]
    grey = read_embeddings(tmp_path / "out" / "embeddings").values[0]
    np.testing.assert_allclose(grey, features[0, :, :1].mean((1, 2)), atol=1e-5)
    assert np.abs(grey - features[0].mean((1, 2)).numpy()).max() > 1e-3


SIZES = ({"batch_size": 1}, {"batch_size": 12, "shard_size": 12}, {"executor": ThreadExecutor(3)})


@pytest.mark.parametrize("sizes", SIZES)
def test_sizes_of_batches_and_parts_do_not_change_the_vectors(tmp_path: Path, sizes: dict) -> None:
    reader, backbone = write_images(tmp_path / "images", IDS), small(tmp_path / "w.safetensors")
    run(reader, backbone, tmp_path / "a", executor=ThreadExecutor(1))
    run(reader, backbone, tmp_path / "b", **sizes)
    a, b = (read_embeddings(tmp_path / name / "embeddings") for name in "ab")
    assert a.image_ids.equals(b.image_ids)
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)
    if "executor" in sizes:
        assert parts_bytes(tmp_path / "a") == parts_bytes(tmp_path / "b")


def test_a_stopped_pass_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    class Killed(ImageReader):
        def read_fitted(self, image_id: str, height: int, width: int) -> FittedImage:
            if image_id == IDS[7]:
                raise KeyboardInterrupt
            return super().read_fitted(image_id, height, width)

    reader, backbone = write_images(tmp_path / "images", IDS), small(tmp_path / "w.safetensors")
    run(reader, backbone, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Killed(reader.uris, reader.max_pixels), backbone, tmp_path / "stopped", executor=ThreadExecutor(1))
    kept = parts_bytes(tmp_path / "stopped")
    assert list(kept) == ["embeddings/part-00000.parquet", "quarantine/part-00000.parquet"]
    told: list[tuple[int, int]] = []
    summary = run(reader, backbone, tmp_path / "stopped", progress=lambda done, total: told.append((done, total)))
    assert summary == EmbeddingSummary(n_embedded=12, n_rejected=0, n_kept=5)
    assert told == [(9, 12), (10, 12), (12, 12)]
    assert parts_bytes(tmp_path / "stopped") == parts_bytes(tmp_path / "whole")
    assert run(reader, small(tmp_path / "w.safetensors"), tmp_path / "whole").n_kept == 12
    other = load_backbone("test_resnet", tmp_path / "w.safetensors", HEIGHT, WIDTH + 32)
    assert run(reader, other, tmp_path / "whole").n_kept == 0


def test_bad_images_are_quarantined_and_the_pass_goes_on(tmp_path: Path) -> None:
    broken = [IDS[0], *IDS[5:10]]  # the second shard holds nothing but bad images
    reader, backbone = write_images(tmp_path / "images", IDS, broken), small(tmp_path / "w.safetensors")
    assert run(reader, backbone, tmp_path / "out") == EmbeddingSummary(n_embedded=6, n_rejected=6, n_kept=0)
    quarantine = read_table(tmp_path / "out" / "quarantine", QUARANTINE)
    assert quarantine["image_id"].to_pylist() == broken
    assert set(quarantine["stage"].to_pylist()) == {"embedding"}
    found = read_embeddings(tmp_path / "out" / "embeddings")
    assert found.image_ids.to_pylist() == [image_id for image_id in IDS if image_id not in broken]
    assert read_table(tmp_path / "out" / "embeddings", EMBEDDINGS).num_rows == 6


def test_nan_names_the_images(tmp_path: Path) -> None:
    reader, path = write_images(tmp_path / "images", IDS[:3]), random_weights(tmp_path / "w.safetensors")
    backbone = load_backbone("test_resnet", path, HEIGHT, WIDTH)
    next(iter(backbone.architecture.network.parameters())).data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"embedding[\s\S]*seq/00.png"):
        run(reader, backbone, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("embeddings/part-*"))


def test_an_empty_pool(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to embed"):
        run(ImageReader({}, 1), small(tmp_path / "w.safetensors"), tmp_path / "out")
