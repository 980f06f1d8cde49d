"""Published weights: found where they are kept, fetched where there is a network, else told what to fetch."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch

from poolscout.embedding.backbones import import_timm, timm_name_of
from poolscout.embedding.weights import SUFFIXES
from poolscout.errors import DataError
from poolscout.tables.manifest import file_hash

# The first of resnet50's two: features of the second, trained on mixed images and soft labels, transfer less well
# (Kornblith et al. 2021, "Why do better loss functions lead to less transferable features?").
_TORCHVISION = {"vgg16": "VGG16_Weights", "resnet50": "ResNet50_Weights"}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Published:
    """Where a backbone's published weights come from, and where they may lie.

    Attributes:
        file: the file's name at its source.
        source: where to get it, in words.
        put: where it can be put by hand.
        places: where it is looked for.
        fetch: downloads it and says where it then lies.
    """

    file: str
    source: str
    put: Path
    places: tuple[Path, ...]
    fetch: Callable[[], Path]


def pretrained_weights(name: str, say: Callable[[str], object] = lambda text: None) -> Path:
    """The file with a backbone's published weights; downloaded, and that is said, only when it is not there yet.

    Args:
        name: vgg16, resnet50, dinov2_vits14, or a name of timm's.
        say: told what is downloaded, before it is.

    Raises:
        ConfigError: no such backbone; names the nearest.
        CapabilityError: timm is needed and not installed.
        DataError: nothing was published, the file is damaged, or it is not here and cannot be fetched: says which file
            to fetch and where to put it.
    """
    published = _published(name)
    for path in published.places:
        if path.is_file():
            _check_hash(path)
            return path
    say(f"{name}: fetching {published.file}, {published.source}")
    try:
        return published.fetch()
    except Exception as error:  # whatever the network, or a library behind it, has to say
        raise DataError(
            f"the published weights of {name} are not on this machine and could not be fetched",
            got=(str(error) or type(error).__name__).splitlines()[0][:200],
            expected=f"the file {published.file}, {published.source}",
            fix=f"fetch it elsewhere and put it at {published.put}, or pass it with --weights FILE",
        ) from error


def _published(name: str) -> Published:
    timm_name = timm_name_of(name)
    return _of_torchvision(name) if timm_name is None else _of_timm(name, timm_name)


def _of_torchvision(name: str) -> Published:
    from torchvision import models

    enum = _TORCHVISION[name]
    url = getattr(models, enum).IMAGENET1K_V1.url
    file = Path(urlsplit(url).path).name
    path = _checkpoints() / file

    def fetch() -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _hash_in_name(path)
        torch.hub.download_url_to_file(url, str(path), digest, progress=False)
        return path

    return Published(file, f"torchvision's {enum}.IMAGENET1K_V1 (trained on ImageNet)", path, (path,), fetch)


def _of_timm(name: str, timm_name: str) -> Published:
    config = import_timm(name).get_pretrained_cfg(timm_name)
    tagged = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    put = _checkpoints() / f"{tagged}.safetensors"
    url = config.url[0] if isinstance(config.url, tuple) else config.url
    beside = [_checkpoints() / Path(urlsplit(url).path).name] if url and Path(url).suffix in SUFFIXES else []
    files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    if config.hf_hub_id is None:
        raise DataError(
            f"no weights of {name} were published for timm", got="none", expected="a file of weights",
            fix="pass your own with --weights FILE, or choose another backbone",
        )  # fmt: skip
    cached = [path for file in files if (path := _in_hub_cache(config.hf_hub_id, file)) is not None]
    source = f"model {config.hf_hub_id} on the Hugging Face hub"
    return Published(files[0], source, put, (put, *beside, *cached), lambda: _from_hub(config.hf_hub_id, files))


def _from_hub(model: str, files: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if not urllib.request.getproxies():
        # The hub's own library would try for half a minute.
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    for file in files[:-1]:
        try:
            return Path(hf_hub_download(model, file))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(model, files[-1]))


def _in_hub_cache(model: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, file)
    return Path(found) if isinstance(found, str) else None


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _check_hash(path: Path) -> None:
    """Published names such as vgg16-397923af.pth end with the first digits of the file's SHA-256."""
    expected = _hash_in_name(path)
    if expected is not None and not (found := file_hash(path)).startswith(expected):
        raise DataError(
            f"{path}: damaged, or not the file it is called after", got=f"SHA-256 {found[:16]}…",
            expected=f"SHA-256 {expected}…", fix="delete it and fetch it again",
        )  # fmt: skip


def _hash_in_name(path: Path) -> str | None:
    digits = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    return digits[1] if digits else None
