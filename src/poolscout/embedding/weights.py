"""A backbone's weights from a file: tensors alone are read, nothing is ever unpickled, every name and shape checked."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from poolscout.embedding.backbones import Architecture, Backbone, build
from poolscout.errors import ConfigError, DataError, some
from poolscout.tables.manifest import file_hash

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model")  # where trainings keep the weights, best first
_PREFIX = "module."  # of networks that were trained on several devices
_COUNTER = "num_batches_tracked"  # of batch norms: old files lack it, and it counts for training alone


def load_backbone(
    name: str,
    weights: Path,
    height: int | None = None,
    width: int | None = None,
    device: torch.device | str = "cpu",
) -> Backbone:
    """The backbone called `name` with the weights of a file.

    Args:
        name: vgg16, resnet50, dinov2_vits14, or a name of timm's.
        weights: .safetensors, or .pth, .pt or .bin that holds tensors alone.
        height, width: of the input, px; default 224 × 384, rounded up to whole patches.
        device: where it runs.

    Raises:
        ConfigError: no such backbone, one that cannot take such inputs, or a file that is neither.
        CapabilityError: timm is needed and not installed, or the backbone gives no features.
        DataError: the file cannot be read, or holds other weights.
    """
    architecture = build(name, height, width)
    put_weights(architecture, weights)
    return Backbone(architecture, file_hash(weights), device)


def put_weights(architecture: Architecture, path: Path) -> None:
    """Load a file's tensors into an architecture's network; classification heads are left out.

    Raises:
        ConfigError: neither .safetensors nor .pth, .pt or .bin.
        DataError: the file cannot be read, or holds the weights of something else.
    """
    state = read_state(path)
    try:
        converted = architecture.convert(dict(state), architecture.network)
    except Exception:  # a converter that stumbles over what it does not know: the names tell what is wrong
        converted = state
    given = {
        key: value.float() if value.is_floating_point() else value
        for key, value in converted.items()
        if isinstance(value, Tensor) and not _is_head(key, architecture)
    }
    own = architecture.network.state_dict()
    missing = [key for key in own if not (key in given or _is_head(key, architecture) or key.endswith(_COUNTER))]
    unknown = [key for key in given if key not in own]
    shapes = {key: (tuple(given[key].shape), tuple(own[key].shape)) for key in own.keys() & given.keys()}
    differ = [f"{key} {got} instead of {wanted}" for key, (got, wanted) in sorted(shapes.items()) if got != wanted]
    if missing or unknown or differ:
        told = [(missing, "are missing"), (unknown, "are unknown"), (differ, "have another shape")]
        raise DataError(
            f"{path}: these seem not to be the weights of {architecture.name}",
            got="; ".join(f"{len(names)} tensors {what} ({some(names, 2)})" for names, what in told if names),
            expected=f"the {len(own)} tensors of {architecture.name}, with or without a classification head",
            fix=_guess(state) or "name the backbone that these weights belong to, or its own file",
        )  # fmt: skip
    architecture.network.load_state_dict(given, strict=False)


def read_state(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file of weights, on the CPU.

    Raises:
        ConfigError: neither .safetensors nor .pth, .pt or .bin.
        DataError: missing, unreadable, or more than tensors.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{path}: not a file of weights", got=path.suffix or "no suffix", expected=", ".join(SUFFIXES),
            fix="name the file as what it is, or save the state_dict as .safetensors",
        )  # fmt: skip
    if not path.is_file():
        raise DataError(
            f"{path}: no such file of weights", got="a folder" if path.is_dir() else "nothing at this path",
            expected="a file", fix="check the path, or say pretrained",
        )  # fmt: skip
    try:
        is_safe = path.suffix.lower() == ".safetensors"
        found = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: holds more than tensors, or is damaged", got=str(error).splitlines()[0][:200],
            expected="a state_dict: Python objects in a file are programs, which are never run here",
            fix="save network.state_dict() alone, at best as .safetensors",
        ) from error  # fmt: skip
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read as weights", got=(str(error) or type(error).__name__).splitlines()[0][:200],
            expected=f"a whole {path.suffix} file", fix="fetch it again: it may have been cut off",
        ) from error  # fmt: skip
    return _tensors(path, found)


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    for key in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    named = isinstance(found, Mapping) and all(isinstance(key, str) for key in found)
    tensors = {key: value for key, value in found.items() if isinstance(value, Tensor)} if named else {}
    if not tensors:
        raise DataError(
            f"{path}: no named tensors in it", got=type(found).__name__, expected="a state_dict: name → tensor",
            fix="save network.state_dict()",
        )  # fmt: skip
    return {key.removeprefix(_PREFIX): value for key, value in tensors.items()}


def _is_head(key: str, architecture: Architecture) -> bool:
    return key.partition(".")[0] in architecture.heads


def _guess(state: Mapping[str, Tensor]) -> str | None:
    """What the names of tensors remind of."""
    marks = (
        ("features.28.weight", "they look like vgg16's: --backbone vgg16"),
        ("layer4.2.conv3.weight", "they look like a ResNet's: --backbone resnet50, if it is that deep"),
        ("blocks.0.attn.qkv.weight", "they look like a vision transformer's: --backbone dinov2_vits14, or timm's name"),
    )
    return next((words for mark, words in marks if mark in state), None)
