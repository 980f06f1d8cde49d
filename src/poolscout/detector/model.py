"""The one-stage U-Net: a residual encoder, a light decoder and one map of logits and boxes."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from poolscout.config import DetectorConfig

FRESH_SIDE = 1.5  # ln of a fresh box's sides, in cells
PRIOR = 0.01  # p of a fresh map: keeps the many empty positions from swamping the first steps


class DetectorOutput(NamedTuple):
    """What one forward pass gives, before calibration and decoding."""

    logits: Float[Tensor, "images classes height width"]
    boxes: Float[Tensor, "images 4 height width"]  # dx, dy, ln w, ln h in cells; see `decode.boxes_at`
    features: Float[Tensor, "images d"]
    hidden: Float[Tensor, "images channels height width"]  # what the output layer multiplies
    encoding: list[Float[Tensor, "images _ _ _"]]  # what `UNet.head` was given


def conv_unit(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """3×3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv_unit(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class UNet(nn.Module):
    """One-stage detector (Haussmann et al. 2020, section III: U-Net, a probability map per class, a box per position).

    Args:
        n_classes: maps to predict.
        config: input size, widths, stride of the maps, dropout.
    """

    def __init__(self, n_classes: int, config: DetectorConfig) -> None:
        super().__init__()
        widths = config.widths
        self.n_classes, self.stride = n_classes, config.stride
        self.stem = conv_unit(3, config.stem, stride=2)
        before = (config.stem, *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(conv_unit(n_in, n_out, stride=2), *[Residual(n_out) for _ in range(n_blocks)])
            for n_in, n_out, n_blocks in zip(before, widths, config.blocks, strict=True)
        )
        n_skips = len(widths) - (config.stride.bit_length() - 3)  # stages at strides config.stride … 32
        skips = widths[-n_skips:]
        self.laterals = nn.ModuleList(nn.Conv2d(width, config.neck, 1) for width in skips)
        self.merges = nn.ModuleList(conv_unit(config.neck, config.neck) for _ in skips[:-1])
        self.dropout = nn.Dropout2d(config.dropout)
        self.output = nn.Conv2d(config.neck, n_classes + 4, 1)
        nn.init.normal_(self.output.weight, std=0.02)
        fresh = [math.log(PRIOR / (1 - PRIOR))] * n_classes + [0.0, 0.0, FRESH_SIDE, FRESH_SIDE]
        self.output.bias = nn.Parameter(torch.tensor(fresh))

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> DetectorOutput:
        """Maps, boxes and embedding of RGB images in 0…1; height and width are multiples of 32."""
        return self.head(self.encode(self.normalise(images)))

    @staticmethod
    def normalise(images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images 3 height width"]:
        """RGB in 0…1, centred and scaled alike for every member."""
        return (images - 0.45) / 0.25

    def encode(self, normalised: Float[Tensor, "images 3 height width"]) -> list[Float[Tensor, "images _ _ _"]]:
        """Encoder features, fine to coarse. No dropout in here: Monte-Carlo passes share one encoding."""
        x = self.stem(normalised)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def head(
        self, features: list[Float[Tensor, "images _ _ _"]], laterals: nn.ModuleList | None = None
    ) -> DetectorOutput:
        """Decoder and output maps of an encoding; dropout acts here, on each feature map.

        Args:
            features: of `encode`.
            laterals: instead of the network's own, e.g. `thinned_laterals`.
        """
        used = features[-len(self.laterals) :]
        finer = [lateral(self.dropout(x)) for lateral, x in zip(laterals or self.laterals, used, strict=True)]
        x = finer.pop()
        for beside, merge in zip(reversed(finer), reversed(self.merges), strict=True):
            x = merge(F.interpolate(x, scale_factor=2.0, mode="nearest") + beside)
        with torch.autocast(x.device.type, enabled=False):  # bf16 logits would quantise small probabilities
            hidden = x.float()
            # The 1×1 convolution as a product: each class's map comes out in one piece, whatever lies beside what in x.
            maps = (self.output.weight.flatten(1) @ hidden.flatten(2)).unflatten(2, x.shape[2:])
            logits, boxes = (maps + cast(Tensor, self.output.bias)[:, None, None]).split([self.n_classes, 4], dim=1)
        return DetectorOutput(logits, boxes, features[-1].float().mean((2, 3)), hidden, features)

    def thinned_laterals(self, generator: torch.Generator) -> nn.ModuleList:
        """The lateral layers with input channels dropped by chance, as dropout would drop them (Gal & Ghahramani 2016).

        A 1×1 convolution of features without some channels is one without those weights.
        """
        thinned = copy.deepcopy(self.laterals)
        for lateral in cast(list[nn.Conv2d], list(thinned)):
            kept = torch.rand(lateral.in_channels, 1, 1, generator=generator) >= self.dropout.p
            lateral.weight.data.mul_(kept.to(lateral.weight)).div_(1 - self.dropout.p)
        return thinned.eval()
