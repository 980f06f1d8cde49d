"""A few images on disk, small backbones with random weights, and what plain torch makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import timm
import torch
from safetensors.torch import save_file

from poolscout.embedding import Backbone, EmbeddingSummary, embed_pool, load_backbone
from poolscout.pool import ImageReader
from tests.pool.images import encoded, save

HEIGHT, WIDTH = 64, 96


def noise(name: str, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 [height, width, 3], another one for each name."""
    return np.random.default_rng(list(name.encode())).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_images(folder: Path, names: Sequence[str], broken: Sequence[str] = ()) -> ImageReader:
    """PNGs of noise; the broken ones end early."""
    for name in names:
        data = encoded(noise(name))
        save(folder / name, data[: len(data) // 2] if name in broken else data)
    return ImageReader({name: str(folder / name) for name in names}, max_pixels=10**6)


def random_weights(path: Path, name: str = "test_resnet", **options) -> Path:
    """Random weights of one of timm's, as a file."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, **options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    save_file(network.state_dict(), path)
    return path


def small(path: Path, name: str = "test_resnet") -> Backbone:
    return load_backbone(name, random_weights(path, name), HEIGHT, WIDTH)


def run(reader: ImageReader, backbone: Backbone, out: Path, **more) -> EmbeddingSummary:
    rows = pa.table({"image_id": pa.chunked_array([list(reader.uris)], pa.string())})
    return embed_pool(rows, reader, backbone, out, **{"batch_size": 4, "shard_size": 5, **more})
