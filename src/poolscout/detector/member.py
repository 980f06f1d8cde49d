"""A member of the ensemble: a trained detector, ready to look at images."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, NamedTuple, cast

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.decode import boxes_from_map
from poolscout.detector.model import UNet


class MemberOutput(NamedTuple):
    """What scoring needs from a detector."""

    probabilities: Float[Tensor, "images classes height width"]  # calibrated p(an object is centred here), float32
    boxes_xyxy_px: Float[Tensor, "images 4 height width"]  # in input pixels
    features: Float[Tensor, "images d"]


class MemberCard(BaseModel):
    """All that is known of a member beside its weights; written as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: DetectorConfig
    classes: tuple[str, ...] = Field(min_length=1, description="names, in the order of the maps")
    calibration: Calibration
    seed: int = Field(description="what initialisation, data order and augmentation followed from")
    training: dict[str, Any] = Field(description="facts of the training: images, steps, seconds, last loss")


class Member:
    """A detector in evaluation mode with calibrated outputs.

    Args:
        model: its weights; moved to `device`.
        card: architecture, classes, calibration.
        device: where it runs.
    """

    provenance: ClassVar[str] = "sigmoid map"

    def __init__(self, model: UNet, card: MemberCard, device: torch.device | str = "cpu") -> None:
        self.card, self.device = card, torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        fused = fuse_batch_norm(self.model).to(memory_format=torch.channels_last)
        self._bf16 = use_bf16(card.architecture.bf16, self.device)
        self._forward = torch.compile(fused) if card.architecture.compile else fused

    @property
    def architecture(self) -> DetectorConfig:
        return self.card.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @property
    def calibration(self) -> Calibration:
        return self.card.calibration

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "images 3 height width"]) -> MemberOutput:
        """Look at letterboxed RGB images; height and width are those of the architecture, or other multiples of 32."""
        x = images.to(self.device, torch.float32, memory_format=torch.channels_last) / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            output = self._forward(x)
        return MemberOutput(
            self.calibration.apply(output.logits),
            boxes_from_map(output.boxes, self.architecture.stride),
            output.features,
        )


def use_bf16(choice: str, device: torch.device) -> bool:
    """Whether to calculate in bfloat16: "on", "off", or "auto" = where the processor does it natively."""
    if choice != "auto":
        return choice == "on"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def fuse_batch_norm(model: UNet) -> UNet:
    """A copy of an evaluation-mode model with each batch norm folded into the convolution before it."""
    fused = copy.deepcopy(model)
    for module in fused.modules():
        if isinstance(module, nn.Sequential) and len(module) >= 2 and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(cast(nn.Conv2d, module[0]), module[1]), nn.Identity()
    return fused
