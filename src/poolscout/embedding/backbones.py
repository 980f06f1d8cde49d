"""Backbones that turn an image into a map of features: two of torchvision's, every one of timm's."""

from __future__ import annotations

import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from poolscout.errors import CapabilityError, ConfigError, nearest

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALIASES = {"dinov2_vits14": "vit_small_patch14_dinov2.lvd142m"}  # as torch.hub calls it → as timm does
TORCHVISION = ("vgg16", "resnet50")
SIZE_PX = (224, 384)  # default input, height and width: near the 16:9 of most recordings
_STRIDE = 32

StateFilter = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]


@dataclass(frozen=True)
class Architecture:
    """A backbone before it has weights.

    Attributes:
        name: as it was asked for.
        network: without a classification head; random weights, or none at all.
        last_layer: normalised images → the last layer's features, [images, d, rows, columns].
        mean, std: what the pixels are normalised with, of values 0…1, per channel.
        height, width: of the input, px.
        convert: a published file's tensors → those of `network`, where the two differ.
        heads: first words of the names of tensors that belong to classification heads.
    """

    name: str
    network: nn.Module
    last_layer: Callable[[Tensor], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    height: int
    width: int
    convert: StateFilter
    heads: tuple[str, ...]


class Backbone:
    """A backbone with its weights, ready to look at images.

    Args:
        architecture: its network, with weights.
        weights: digest of the file that these came from.
        device: where it runs.

    Raises:
        ConfigError: the network cannot take inputs of this height and width.
    """

    def __init__(self, architecture: Architecture, weights: str, device: torch.device | str = "cpu") -> None:
        self.architecture, self.weights, self.device = architecture, weights, torch.device(device)
        architecture.network.to(self.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self._mean = torch.tensor(architecture.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(architecture.std, device=self.device).view(3, 1, 1)
        self.d = self._length()

    @property
    def name(self) -> str:
        return self.architecture.name

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[Tensor, "images 3 height width"]) -> Float[Tensor, "images d rows columns"]:
        """The last layer's features at every position; one position where they cannot be told apart."""
        x = pixels.to(self.device, torch.float32, memory_format=torch.channels_last) / 255
        # float32 that is float32. The flags are the process's: on a CPU, several threads come by here, and need none.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with exact if self.device.type == "cuda" else nullcontext():
            return self.architecture.last_layer((x - self._mean) / self._std)

    def on(self, device: torch.device | str) -> Backbone:
        """The same backbone, moved elsewhere."""
        return Backbone(self.architecture, self.weights, device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Name and weights: the network is built anew where the backbone arrives."""
        a, device = self.architecture, str(self.device)
        return _rebuilt, (a.name, a.height, a.width, a.network.state_dict(), self.weights, device)

    def _length(self) -> int:
        height, width = self.architecture.height, self.architecture.width
        try:
            return self(torch.zeros(1, 3, height, width, dtype=torch.uint8)).shape[1]
        except CapabilityError:
            raise
        except Exception as error:  # each network complains in its own way
            raise _unsuited(self.name, height, width, error) from error


def _rebuilt(name: str, height: int, width: int, state: dict[str, Tensor], weights: str, device: str) -> Backbone:
    architecture = build(name, height, width)
    architecture.network.load_state_dict(state)
    return Backbone(architecture, weights, device)


def build(name: str, height: int | None = None, width: int | None = None) -> Architecture:
    """The architecture called `name`, without weights.

    Args:
        name: vgg16, resnet50 (torchvision), dinov2_vits14, or a name of timm's, with or without its tag.
        height, width: of the input, px; default 224 × 384, rounded up to whole patches.

    Raises:
        ConfigError: no such backbone (names the nearest), or one that cannot take such inputs.
        CapabilityError: timm is needed and not installed, or the backbone gives no features.
    """
    timm_name = timm_name_of(name)
    patch = re.search(r"patch(\d+)", timm_name or "")
    step = int(patch[1]) if patch else _STRIDE
    size = [side or math.ceil(usual / step) * step for side, usual in zip((height, width), SIZE_PX, strict=True)]
    if timm_name is None:
        return _from_torchvision(name, *size)
    return _from_timm(name, timm_name, *size)


def timm_name_of(name: str) -> str | None:
    """What timm calls a backbone, its tag included where one was given; None for torchvision's.

    Raises:
        ConfigError: no such backbone; names the nearest.
        CapabilityError: timm is not installed.
    """
    if name in TORCHVISION:
        return None
    timm, wanted = import_timm(name), ALIASES.get(name, name)
    if set(wanted) & set(":/") or not timm.is_model(wanted):  # the former would be fetched from somewhere
        known = [*TORCHVISION, *ALIASES, *timm.list_models()]
        raise ConfigError(
            f"no backbone {name!r}", got=name,
            expected=f"{', '.join((*TORCHVISION, *ALIASES))}, or one of timm's {len(known) - 3:,}",
            fix=nearest(name, known) or "timm.list_models('*part of a name*') in Python lists timm's",
        )  # fmt: skip
    tagged = timm.list_models(f"{wanted.partition('.')[0]}.*", pretrained=True)
    if "." in wanted and wanted not in tagged:
        raise ConfigError(
            f"no backbone {name!r}: timm knows the architecture, not the tag", got=wanted.partition(".")[2],
            expected=", ".join(tag.partition(".")[2] for tag in tagged) or "no tag",
            fix=nearest(wanted, tagged) or None,
        )  # fmt: skip
    return wanted


def import_timm(name: str) -> Any:
    """The module timm, for the backbone `name`.

    Raises:
        CapabilityError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise CapabilityError(
            f"backbone {name!r} needs timm, which is not installed", got=str(error),
            expected=f"timm, or one of {', '.join(TORCHVISION)}, which need nothing more",
            fix="pip install 'poolscout[embed]'",
        ) from error  # fmt: skip
    return timm


def _from_torchvision(name: str, height: int, width: int) -> Architecture:
    from torchvision import models

    # On no device: the classifier of vgg16 alone would take half a gigabyte, to be thrown away.
    with torch.device("meta"):
        whole = getattr(models, name)(weights=None)
    heads = ("avgpool", "classifier", "fc")
    network = nn.Sequential(OrderedDict((key, part) for key, part in whole.named_children() if key not in heads))
    network.to_empty(device="cpu")
    return Architecture(
        name, network, network, IMAGENET_MEAN, IMAGENET_STD, height, width, lambda state, _: state, heads
    )


def _from_timm(name: str, timm_name: str, height: int, width: int) -> Architecture:
    import timm

    config = timm.get_pretrained_cfg(timm_name)
    native = tuple(config.input_size[1:])
    size = {"img_size": (height, width)} if config.fixed_input_size and (height, width) != native else {}
    try:
        network = timm.create_model(timm_name, pretrained=False, num_classes=0, **size)
    except Exception as error:  # each network complains in its own way
        raise _unsuited(name, height, width, error, native) from error
    # What timm itself does to published weights before it loads them: other names, positions for another input.
    module = sys.modules[timm.model_entrypoint(timm_name.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None) or (lambda state, _: state)
    own = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
    heads = {"fc", "classifier", "head", "heads", "head_dist", "fc_norm", "attn_pool", *(h.split(".")[0] for h in own)}
    return Architecture(
        name, network, lambda x: _as_map(name, network, x), tuple(config.mean), tuple(config.std), height, width,
        convert, tuple(sorted(heads)),
    )  # fmt: skip


def _as_map(name: str, network: Any, x: Tensor) -> Tensor:
    """The last layer of a network of timm's as [images, d, rows, columns]; a transformer's patch tokens alone."""
    features = network.forward_features(x)
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        raise CapabilityError(
            f"backbone {name!r} gives no map of features", got=getattr(features, "shape", type(features).__name__),
            expected="[images, d, rows, columns] or [images, tokens, d]", fix="choose another backbone",
        )  # fmt: skip
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else features
    tokens = features[:, getattr(network, "num_prefix_tokens", 0) :]  # [images, tokens, d], without the class token
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    sides = patch if isinstance(patch, tuple) else (patch, patch)
    rows, columns = (x.shape[2] // sides[0], x.shape[3] // sides[1]) if patch else (0, 0)
    if rows * columns != tokens.shape[1]:
        return tokens.mean(1)[:, :, None, None]
    return tokens.transpose(1, 2).unflatten(2, (rows, columns))


def _unsuited(
    name: str, height: int, width: int, error: Exception, native: tuple[int, int] | None = None
) -> ConfigError:
    native_words = f"{native[0]} × {native[1]}, which it was trained with" if native else "sides of whole patches"
    return ConfigError(
        f"backbone {name!r} cannot take inputs of {height} × {width} px", got=str(error).splitlines()[0][:200],
        expected=native_words,
        fix=f"--height {native[0]} --width {native[1]}" if native else "choose other --height and --width",
    )  # fmt: skip
