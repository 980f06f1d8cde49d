"""`poolscout embed`: images in, one vector each out, as a user types it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from poolscout.formats.embeddings import read_embeddings
from poolscout.tables.declared import POOL, QUARANTINE
from poolscout.tables.parquet import read_table
from tests.cli.typed import poolscout
from tests.embedding.scenes import random_weights, write_images
from tests.scoring.pools import parts_bytes

NAMES = [f"seq/{number}.png" for number in range(6)]
SMALL = ["--height", 64, "--width", 96, "--set", "scoring.shard_size=4", "--set", "scoring.batch_size=2"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images, one of which ends early and one of which is none, and random weights."""
    write_images(tmp_path / "images", NAMES, broken=[NAMES[1]])
    (tmp_path / "images" / "seq" / "none.png").write_bytes(b"no picture")
    random_weights(tmp_path / "w.safetensors")
    return tmp_path


def words(data: Path, *more: object) -> list[object]:
    given = ["--backbone", "test_resnet", "--weights", data / "w.safetensors", "--out", data / "out", *SMALL]
    return ["embed", "--pool", data / "images", *given, *more]


def test_from_images_to_vectors(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    code, out, err = poolscout(capsys, *words(data, "--json"))
    assert code == 0, err
    assert json.loads(out) == {
        "embedded": 5, "in quarantine": 2, "numbers an image": 96, "weights": str(data / "w.safetensors"),
        "written": str(data / "out"),
    }  # fmt: skip
    pool = read_table(data / "out" / "pool" / "images", POOL)
    assert pool["image_id"].to_pylist() == NAMES
    rejected = read_table(data / "out" / "quarantine", QUARANTINE)
    assert rejected.select(["image_id", "stage", "reason"]).to_pylist() == [
        {"image_id": NAMES[1], "stage": "embedding", "reason": "truncated"}
    ]
    assert read_table(data / "out" / "pool" / "quarantine.parquet", QUARANTINE).num_rows == 1
    good = [name for name in NAMES if name != NAMES[1]]
    found = read_embeddings(data / "out" / "embeddings", good)
    assert found.values.shape == (5, 96)
    manifest = json.loads((data / "out" / "embed.manifest.json").read_text())
    assert set(manifest["inputs"]) == {"weights", "pool", "images"}
    assert manifest["config"]["backbone"] == "test_resnet"


def test_the_same_again_is_kept_and_what_changed_is_told(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert poolscout(capsys, *words(data))[0] == 0
    before, stamp = parts_bytes(data / "out"), (data / "out" / "embeddings" / "part-00000.parquet").stat().st_mtime_ns
    assert poolscout(capsys, *words(data))[0] == 0
    assert (data / "out" / "embeddings" / "part-00000.parquet").stat().st_mtime_ns == stamp
    (data / "out" / "embeddings" / "part-00001.parquet").write_bytes(b"damaged")
    assert poolscout(capsys, *words(data))[0] == 0
    assert parts_bytes(data / "out") == before
    write_images(data / "images", NAMES[:2])  # one is mended
    code, _, err = poolscout(capsys, *words(data))
    assert (code, "source (its contents changed)" in err) == (6, True)
    assert poolscout(capsys, *words(data, "--redo-stale"))[0] == 0
    assert read_embeddings(data / "out" / "embeddings", NAMES).values.shape == (6, 96)
    random_weights(data / "w.safetensors", num_classes=3)
    code, _, err = poolscout(capsys, *words(data))
    assert (code, "weights (its contents changed)" in err) == (6, True)


def test_mended_images_are_given_back(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    out, none = data / "out", "seq/none.png"

    def stamps() -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted((out / "embeddings").glob("part-*"))]

    def retried(*more: str) -> tuple[list[str], list[str], dict[str, list[str]]]:
        code, told, err = poolscout(capsys, "quarantine", out, "--retry", *more, "--json")
        assert code == 0, err
        return tuple(json.loads(told)[key] for key in ("readable", "done again", "left"))

    assert poolscout(capsys, *words(data))[0] == 0
    first = stamps()
    code, told, err = poolscout(capsys, "quarantine", out, "--json")
    assert code == 0, err
    images = [(image["image_id"], image["stage"], image["where"]) for image in json.loads(told)["images"]]
    assert images == [(NAMES[1], "embedding", ["."]), (none, "pool", ["pool"])]
    assert retried() == ([], [], {})
    write_images(data / "images", NAMES[1:2])
    assert retried() == ([NAMES[1]], ["embed"], {})
    code, _, err = poolscout(capsys, *words(data, "--set", "scoring.batch_size=3"))
    assert (code, "batch_size: 2 → 3" in err) == (6, True), "what is asked otherwise now is still told"
    assert poolscout(capsys, *words(data))[0] == 0
    assert read_embeddings(out / "embeddings", NAMES).values.shape == (6, 96)
    assert (stamps()[0] > first[0], stamps()[1]) == (True, first[1]), "its shard alone"

    write_images(data / "images", [none])
    assert retried() == ([none], [], {"pool list": ["embed"]})
    code, _, err = poolscout(capsys, *words(data))
    assert (code, "source (its contents changed)" in err) == (6, True)
    second = stamps()
    assert retried("--redo-stale") == ([none], ["pool list"], {})
    assert poolscout(capsys, *words(data))[0] == 0
    assert read_embeddings(out / "embeddings", [*NAMES, none]).values.shape == (7, 96)
    assert (stamps()[0], stamps()[1] > second[1]) == (second[0], True), "the shards of images after it"
    assert retried() == ([], [], {})


def test_scores_and_embeddings_do_not_share_a_folder(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    assert poolscout(capsys, *words(data))[0] == 0
    before = parts_bytes(data / "out")
    row = {"image_id": NAMES[0], "category_id": "car", "bbox": [1, 1, 9, 9], "score": 0.5}
    (data / "found.json").write_text(json.dumps([row]))
    score = ["score", data / "images", "--detections", data / "found.json", "--redo-stale", "--out"]
    code, _, err = poolscout(capsys, *score, data / "out")
    assert (code, "'score' would replace its tables" in err) == (6, True), err
    assert parts_bytes(data / "out") == before
    assert poolscout(capsys, *score, data / "scored")[0] == 0
    code, _, err = poolscout(capsys, *words(data, "--out", data / "scored", "--redo-stale"))
    assert (code, "'embed' would replace its tables" in err) == (6, True), err


@pytest.mark.parametrize("out", ["images", "images/embedded", "."])
def test_tables_do_not_lie_among_images(capsys: pytest.CaptureFixture[str], data: Path, out: str) -> None:
    before = sorted(data.rglob("*"))
    code, _, err = poolscout(capsys, *words(data, "--out", data / out))
    assert (code, "among the files of the pool" in err) == (2, True), err
    assert sorted(data.rglob("*")) == before


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--backbone", "test_resnett"], 2, "did you mean 'test_resnet'"),
        (["--backbone", "test_vit"], 4, "seem not to be the weights of test_vit"),
        (["--weights", "none.pth"], 4, "no such file of weights"),
        (["--weights", "x.npz"], 2, "not a file of weights"),
        (["--height", "0"], 2, "height"),
        (["--pool", "nowhere"], 4, "not there"),
        (["--set", "scoring.bach_size=2"], 2, "did you mean 'batch_size'"),
        (["--set", "device=tpu"], 2, "cannot be used"),
    ],
)
def test_mistakes_end_in_a_message_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], data: Path, more: list[str], code: int, message: str
) -> None:
    got, _, err = poolscout(capsys, *words(data, *more))
    assert (got, message in err, "Traceback" in err) == (code, True, False), err
    assert not (data / "out" / "embeddings").exists()


def test_pretrained_without_a_network_says_what_to_fetch(
    capsys: pytest.CaptureFixture[str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(data / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(data / "hf"))
    monkeypatch.delenv("https_proxy", raising=False)
    code, _, err = poolscout(capsys, *words(data, "--backbone", "resnet50", "--weights", "pretrained"))
    assert code == 4
    assert "resnet50-0676ba61.pth" in err
    assert str(data / "hub" / "checkpoints") in err
    assert not (data / "out").exists()
