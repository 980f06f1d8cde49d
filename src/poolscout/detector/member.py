"""A member of the ensemble: a trained detector, ready to look at images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.lookup import CalibrationTable
from poolscout.detector.model import DetectorOutput, UNet
from poolscout.errors import ConfigError

PASS_SEED = 15_485_863  # keeps the passes of one member apart from each other and from other members


class MemberOutput(NamedTuple):
    """What scoring needs from a detector; its maps may be overwritten by who takes them."""

    probabilities: Float[Tensor, "images classes height width"]  # calibrated p(an object is centred here), float32
    entropies: Float[Tensor, "images classes height width"] | None  # H(p) in nats, where it is known along with p
    box_parameters: Float[Tensor, "images 4 height width"]  # see `decode.boxes_at`
    features: Float[Tensor, "images d"]
    hidden: Float[Tensor, "images channels height width"]  # what the output layer multiplies
    encoding: list[Float[Tensor, "images _ _ _"]]  # for `Member.dropout_maps`


class MemberCard(BaseModel):
    """All that is known of a member beside its weights; written as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: DetectorConfig
    classes: tuple[str, ...] = Field(min_length=1, description="names, in the order of the maps")
    calibration: Calibration
    seed: int = Field(description="what initialisation, data order and augmentation followed from")
    training: dict[str, Any] = Field(description="facts of the training: images, steps, seconds, last loss")

    @field_validator("architecture", mode="before")
    @classmethod
    def _without_compile(cls, architecture: Any) -> Any:
        """Members written before `compile` became a matter of scoring say it still."""
        known = isinstance(architecture, dict) and "compile" in architecture
        return {k: v for k, v in architecture.items() if k != "compile"} if known else architecture


class Member:
    """A detector in evaluation mode with calibrated outputs.

    Args:
        model: its weights; moved to `device`.
        card: architecture, classes, calibration.
        device: where it runs.
    """

    def __init__(self, model: UNet, card: MemberCard, device: torch.device | str = "cpu") -> None:
        self.card, self.device = card, torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self._fused = fuse_batch_norm(self.model).to(memory_format=torch.channels_last)
        self._dtype = torch.bfloat16 if use_bf16(card.architecture.bf16, self.device) else torch.float32
        # Converted once, not by autocast at every pass; the output layer stays in float32 (see `UNet.head`).
        for name, part in self._fused.named_children():
            part.to(torch.float32 if name == "output" else self._dtype)
        self._network = _Network(self._fused)
        self._table = CalibrationTable(card.calibration, self.device) if self._dtype is torch.bfloat16 else None
        self._laterals: list[nn.ModuleList] = []
        self._lock = Lock()
        self._forward: Callable[[Tensor], DetectorOutput] = self._network

    @property
    def architecture(self) -> DetectorConfig:
        return self.card.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @property
    def calibration(self) -> Calibration:
        return self.card.calibration

    @property
    def provenance(self) -> str:
        """What its probabilities are."""
        return f"sigmoid map, {'calibrated on held-back images' if self.calibration.n_images else 'not calibrated'}"

    def on(self, device: torch.device | str) -> Member:
        """The same member elsewhere; itself if it is there already."""
        return self if self.device == torch.device(device) else Member(self.model, self.card, device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Weights and card alone: what is derived from them is made anew where the member arrives."""
        weights = {name: value.cpu() for name, value in self.model.state_dict().items()}
        return _made_of, (weights, self.card, str(self.device))

    def in_float32(self) -> Member:
        """The same member, calculating in float32 whatever its card says; itself if it does so already."""
        if self._dtype is torch.float32:
            return self
        architecture = self.architecture.model_copy(update={"bf16": "off"})
        return Member(self.model, self.card.model_copy(update={"architecture": architecture}), self.device)

    def compiled(self, shape: tuple[int, int, int, int]) -> Member:
        """The same member with its network compiled, for inputs of `shape`: [images, 3, height, width].

        Raises:
            ConfigError: torch cannot compile here.
        """
        fast = Member(self.model, self.card, self.device)
        # Frozen weights: convolution and ReLU become one kernel, the weights lie as the processor wants them.
        network = torch.compile(fast._network, options={"freezing": True}, dynamic=False)
        fast._forward = partial(_filled_up, network, shape[0])
        try:
            fast(torch.zeros(shape, dtype=torch.uint8))
        except Exception as error:  # torch wraps whatever the compiler said
            raise ConfigError(
                "scoring.compile: torch cannot compile the detector here",
                got=str(error).splitlines()[0][:200],
                expected="a C++ compiler, and Python's headers",
                fix="install g++ and python3-dev, or set scoring.compile to false",
            ) from error
        return fast

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "images 3 height width"]) -> MemberOutput:
        """Look at letterboxed RGB images; height and width are those of the architecture, or other multiples of 32."""
        return self.look(self.prepare(images))

    @torch.inference_mode()
    def prepare(self, images: UInt8[Tensor, "images 3 height width"]) -> Tensor:
        """The network's input, which members of one ensemble share."""
        x = images.to(self.device, torch.float32, memory_format=torch.channels_last) / 255
        return UNet.normalise(x).to(self._dtype)

    @torch.inference_mode()
    def look(self, prepared: Tensor) -> MemberOutput:
        """Look at images that `prepare` made ready."""
        output = self._forward(prepared)
        return MemberOutput(
            *self._calibrated(output.logits), output.boxes, output.features, output.hidden, output.encoding
        )

    @torch.inference_mode()
    def dropout_maps(self, encoding: list[Tensor], passes: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Calibrated maps, and their entropies where known, of `passes` looks with dropout on.

        All share one encoding, as dropout sits after it.

        Which channels are dropped in pass t depends on t alone (Kirsch et al. 2019, "BatchBALD": consistent
        MC-dropout): every image meets the same thinned networks, whatever batch it is in.
        """
        for laterals in self._thinned(passes):
            yield self._calibrated(self._fused.head(encoding, laterals).logits)

    def _calibrated(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """p and H(p): read off a table when bfloat16 has blurred the logits more than a table does."""
        return (self.calibration.apply(logits), None) if self._table is None else self._table(logits)

    def _thinned(self, passes: int) -> list[nn.ModuleList]:
        """For each pass the network's lateral layers without the dropped channels; made once, whoever asks first."""
        with self._lock:
            while len(self._laterals) < passes:
                generator = torch.Generator().manual_seed((self.card.seed + PASS_SEED * len(self._laterals)) % 2**63)
                self._laterals.append(self.model.thinned_laterals(generator).to(self._dtype))
            return self._laterals[:passes]


def _filled_up(network: Callable[[Tensor], DetectorOutput], n: int, prepared: Tensor) -> DetectorOutput:
    """A network that was compiled for `n` images, on as many or fewer."""
    lacking = n - len(prepared)
    if lacking <= 0:
        return network(prepared)
    blank = prepared.new_zeros(lacking, *prepared.shape[1:])
    whole = network(torch.cat([prepared, blank]).contiguous(memory_format=torch.channels_last))
    n_given = len(prepared)
    return DetectorOutput(
        whole.logits[:n_given],
        whole.boxes[:n_given],
        whole.features[:n_given],
        whole.hidden[:n_given],
        [part[:n_given] for part in whole.encoding],
    )


class _Network(nn.Module):
    """Encoder and head on prepared input, as one thing to compile."""

    def __init__(self, model: UNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, prepared: Tensor) -> DetectorOutput:
        return self.model.head(self.model.encode(prepared))


def _made_of(weights: dict[str, Tensor], card: MemberCard, device: str) -> Member:
    model = UNet(len(card.classes), card.architecture)
    model.load_state_dict(weights)
    return Member(model, card, device)


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
