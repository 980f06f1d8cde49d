"""Weights from files: tensors alone, every name and shape checked, and what to fetch where there is no network."""

from __future__ import annotations

import builtins
import hashlib
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from poolscout.embedding import load_backbone, pretrained, pretrained_weights
from poolscout.embedding.backbones import build
from poolscout.embedding.weights import read_state
from poolscout.errors import CapabilityError, ConfigError, DataError
from tests.embedding.scenes import HEIGHT, WIDTH, random_weights, small


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no network. Gives the folder of torch.hub's files."""

    def refuse(*words: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_every_form_gives_the_same_backbone(tmp_path: Path, suffix: str) -> None:
    pixels = torch.arange(3 * HEIGHT * WIDTH).view(1, 3, HEIGHT, WIDTH).to(torch.uint8)
    expected = small(tmp_path / "w.safetensors")(pixels)
    state = load_file(tmp_path / "w.safetensors")
    path = tmp_path / f"x{suffix}"
    if suffix == ".safetensors":
        save_file({f"module.{k}": v for k, v in state.items()}, path)  # as of a network on several devices
    else:
        forms = {".pth": state, ".pt": {"state_dict": state, "epoch": 3}, ".bin": {"model": state}}
        torch.save(forms[suffix], path)
    assert torch.equal(load_backbone("test_resnet", path, HEIGHT, WIDTH)(pixels), expected)


def test_heads_may_be_missing_or_of_another_size(tmp_path: Path) -> None:
    pixels = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    expected = small(tmp_path / "w.safetensors")(pixels)
    state = load_file(tmp_path / "w.safetensors")
    assert any(key.startswith("fc.") for key in state)
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    for number, tensors in enumerate((headless, headless | {"fc.weight": torch.zeros(7, 96)})):
        save_file(tensors, tmp_path / f"{number}.safetensors")
        found = load_backbone("test_resnet", tmp_path / f"{number}.safetensors", HEIGHT, WIDTH)(pixels)
        assert torch.equal(found, expected)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    small(tmp_path / "w.safetensors")
    halves = {k: v.half() if v.is_floating_point() else v for k, v in load_file(tmp_path / "w.safetensors").items()}
    save_file(halves, tmp_path / "half.safetensors")
    backbone = load_backbone("test_resnet", tmp_path / "half.safetensors", HEIGHT, WIDTH)
    assert {value.dtype for value in backbone.architecture.network.parameters()} == {torch.float32}


def test_anothers_weights_are_refused_and_recognised(tmp_path: Path) -> None:
    path = random_weights(tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"not to be the weights of test_resnet2|not to be the weights of resnet10t"):
        load_backbone("resnet10t", path, HEIGHT, WIDTH)
    vit = random_weights(tmp_path / "v.safetensors", "test_vit")
    with pytest.raises(DataError, match=r"tensors are missing[\s\S]*they look like a vision transformer's") as raised:
        load_backbone("resnet50", vit, HEIGHT, WIDTH)
    assert "are unknown" in str(raised.value)
    state = load_file(path)
    key = next(k for k in state if k.endswith("conv1.weight") and "layer" in k)
    for tensors, message in (
        (state | {"layer9.weight": torch.zeros(1)}, r"1 tensors are unknown \(layer9\.weight\)"),
        ({k: v for k, v in state.items() if k != key}, rf"1 tensors are missing \({key}\)"),
        (state | {key: state[key][:1].contiguous()}, r"1 tensors have another shape \(.* instead of \("),
    ):
        save_file(tensors, tmp_path / "odd.safetensors")
        with pytest.raises(DataError, match=message):
            load_backbone("test_resnet", tmp_path / "odd.safetensors", HEIGHT, WIDTH)


def test_objects_in_a_file_are_never_made(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.write_text, (tmp_path / "ran", "!"))

    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(DataError, match=r"more than tensors[\s\S]*\.safetensors"):
        read_state(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("w.npz", b"x", ConfigError, "not a file of weights"),
        ("none.pth", None, DataError, "no such file of weights"),
        ("w.safetensors", b"no tensors at all", DataError, "cannot be read as weights"),
        ("w.pth", b"", DataError, "cannot be read as weights"),
        ("w.pth", b"PK\x03\x04 cut off", DataError, "cannot be read as weights|damaged"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, data: bytes | None, error: type, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message) as raised:
        read_state(tmp_path / name)
    assert raised.value.fix


def test_a_file_without_names(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(DataError, match=r"no named tensors[\s\S]*list"):
        read_state(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10x", "did you mean 'resnet10"),
        ("dinov2_vits15", "did you mean 'dinov2_vits14'"),
        ("resnet10t.c3_in2k", r"the tag[\s\S]*did you mean 'resnet10t.c3_in1k'"),
        ("hf-hub:timm/resnet10t.c3_in1k", "no backbone"),
        ("", "no backbone"),
    ],
)
def test_unknown_backbones(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        build(name)
    assert raised.value.fix


def test_inputs_are_whole_patches_by_default_and_unsuited_ones_are_refused(tmp_path: Path) -> None:
    dino = build("dinov2_vits14")
    assert (dino.height, dino.width) == (224, 392)  # 16 × 28 patches of 14 px
    assert build("test_resnet").width == 384
    with pytest.raises(ConfigError, match=r"cannot take inputs of 64 × 100 px"):
        load_backbone("test_vit", random_weights(tmp_path / "w.safetensors", "test_vit"), 64, 100)


def test_timm_is_needed_for_its_own_backbones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *rest, **more):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return really(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CapabilityError, match=r"needs timm[\s\S]*pip install 'poolscout\[embed\]'"):
        build("dinov2_vits14")
    assert build("resnet50").name == "resnet50"


@pytest.mark.parametrize(
    ("name", "file", "put"),
    [
        ("vgg16", "vgg16-397923af.pth", "vgg16-397923af.pth"),
        ("resnet50", "resnet50-0676ba61.pth", "resnet50-0676ba61.pth"),
        ("dinov2_vits14", "model.safetensors", "vit_small_patch14_dinov2.lvd142m.safetensors"),
        ("resnet10t", "model.safetensors", "resnet10t.c3_in1k.safetensors"),
    ],
)
def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(
    caches: Path, name: str, file: str, put: str
) -> None:
    said: list[str] = []
    with pytest.raises(DataError, match="could not be fetched") as raised:
        pretrained_weights(name, said.append)
    assert file in str(raised.value.expected)
    assert str(caches / put) in str(raised.value.fix)
    assert "--weights FILE" in str(raised.value.fix)
    assert "://" not in str(raised.value)
    assert len(said) == 1
    assert said[0].startswith(f"{name}: fetching {file}")


def test_files_that_lie_in_a_cache_are_used_and_nothing_is_fetched(caches: Path, tmp_path: Path) -> None:
    said: list[str] = []
    weights = random_weights(tmp_path / "w.safetensors")
    snapshot = tmp_path / "hf" / "models--timm--test_resnet.r160_in1k"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("0" * 40)
    (snapshot / "snapshots" / ("0" * 40)).mkdir(parents=True)
    shutil.copy(weights, snapshot / "snapshots" / ("0" * 40) / "model.safetensors")
    assert pretrained_weights("test_resnet", said.append).parent.name == "0" * 40
    caches.mkdir(parents=True)
    shutil.copy(weights, caches / "test_resnet.r160_in1k.safetensors")
    assert pretrained_weights("test_resnet", said.append) == caches / "test_resnet.r160_in1k.safetensors"
    (caches / "dinov2_vits14_pretrain.pth").write_bytes(b"as torch.hub leaves it")
    assert pretrained_weights("dinov2_vits14", said.append) == caches / "dinov2_vits14_pretrain.pth"
    assert said == []


def test_a_damaged_file_in_the_cache_is_told(caches: Path) -> None:
    caches.mkdir(parents=True)
    (caches / "vgg16-397923af.pth").write_bytes(b"half of it")
    with pytest.raises(DataError, match=r"damaged[\s\S]*expected: SHA-256 397923af"):
        pretrained_weights("vgg16")


def test_where_there_is_a_network_the_file_is_fetched_and_checked(
    caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *words, **more: asked.append(words))
    assert pretrained_weights("vgg16") == caches / "vgg16-397923af.pth"
    (words,) = asked
    assert words[1:] == (str(caches / "vgg16-397923af.pth"), "397923af")
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    (caches / f"x-{digest}.pth").write_bytes(b"weights")
    pretrained._check_hash(caches / f"x-{digest}.pth")


def test_what_was_never_published(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(architecture="test_resnet", tag="", url=None, hf_hub_id=None, hf_hub_filename=None)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: nothing)
    with pytest.raises(DataError, match=r"no weights of test_resnet were published[\s\S]*--weights FILE"):
        pretrained_weights("test_resnet")
