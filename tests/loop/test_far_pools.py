"""Runs on pools that are no plain files of this machine: tar shards, objects in a store, frames of videos."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from poolscout.assemble import image_reader
from poolscout.config import RunConfig
from poolscout.engine.progress import SilentProgress
from poolscout.labelling import add_labels, ids_of, picks_of
from poolscout.loop import run
from poolscout.pool import ImageReader, RejectedImage, Storage, file_state
from poolscout.report.heatmap import find_target
from poolscout.tables.declared import POOL
from poolscout.tables.parquet import read_table
from tests.loop.tiny import CLASSES, selections, tiny_config, write_data
from tests.pool.s3 import KEYS, put, running_server
from tests.pool.shards import tar_of
from tests.report.reading import Page

SHARDS = ("s-0", "s-1")
CHANGES: dict[str, Any] = {"rounds": 1, "labelling__initial": 4, "selection__n": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set in two folders, and in a tar each, under the same image ids."""
    data = write_data(tmp_path_factory.mktemp("far"), n_pool=20, n_test=4)
    document = json.loads((data / "pool.json").read_text())
    for shard, images in zip(SHARDS, (document["images"][:9], document["images"][9:]), strict=True):
        (data / "images" / shard).mkdir()
        members: dict[str, Any] = {}
        for image in images:
            name = image["file_name"]
            image["file_name"] = f"{shard}/{name}"
            moved = shutil.move(data / "images" / name, data / "images" / shard / name)
            members |= {name: Path(moved).read_bytes(), f"{Path(name).stem}.json": {"clip": image["clip"]}}
        (data / "shards").mkdir(exist_ok=True)
        (data / "shards" / f"{shard}.tar").write_bytes(tar_of(members))
    (data / "pool.json").write_text(json.dumps(document))
    return data


@pytest.fixture(scope="module")
def here(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on the images in their folders."""
    out = tmp_path_factory.mktemp("here") / "run"
    run(tiny_config(data, **CHANGES), out)
    return out


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with running_server() as port:
        yield port


def on_shards(data: Path, **changes: Any) -> RunConfig:
    return tiny_config(data, **CHANGES, pool__source=str(data / "shards"), **changes)


def test_a_run_on_tar_shards(data: Path, here: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(on_shards(data, labelling__annotations=str(data / "pool.json")), out)
    same_picks_and_pictures(out, here)
    assert all(".tar#" in uri for uri in read_table(out / "pool" / "images", POOL)["uri"].to_pylist())


def test_a_run_on_objects(data: Path, here: Path, server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    images = json.loads((data / "pool.json").read_text())["images"]
    put(server, "fleet", {f"a/{i['id']}": (data / "images" / i["file_name"]).read_bytes() for i in images})
    rows = {
        "image_id": [i["file_name"] for i in images], "uri": [f"s3://fleet/a/{i['id']}" for i in images],
        "clip": [i["clip"] for i in images],
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "pool.parquet")
    config = tiny_config(
        data, **CHANGES, pool__source=str(tmp_path / "pool.parquet"), labelling__annotations=str(data / "pool.json"),
        pool__storage_options={"s3": {"endpoint_url": f"http://127.0.0.1:{server}"}},
    )  # fmt: skip
    out = tmp_path / "run"
    run(config, out)
    same_picks_and_pictures(out, here)
    target = find_target(images[0]["file_name"], run=out, models=None)
    with Image.open(data / "images" / images[0]["file_name"]) as image:
        assert (target.reader.read(target.image_id) == np.asarray(image)).all()


def same_picks_and_pictures(out: Path, here: Path) -> None:
    assert selections(out) == selections(here)
    pages = [Page(path / "report.html") for path in (out, here)]
    photos = [[image["src"] for image in page.all("img", class_="photo")] for page in pages]
    assert len(photos[0]) == 2
    assert photos[0] == photos[1]


def test_images_in_tars_are_labelled_by_people(data: Path, here: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = on_shards(data, labelling__mode="files", labelling__classes=CLASSES)
    waiting = run(config, out).waiting_for
    assert waiting is not None
    links = links_in(waiting)
    assert {path.name for path in (waiting / "images").iterdir()} == set(links.values())
    for image_id, name in links.items():
        assert (waiting / "images" / name).read_bytes() == (data / "images" / image_id).read_bytes()

    # Asked again, nothing is read again but what is gone.
    gone, *kept = [waiting / "images" / name for name in links.values()]
    before = [file_state(str(path)) for path in kept]
    gone.unlink()
    assert run(config, out).waiting_for == waiting
    assert [file_state(str(path)) for path in kept] == before
    assert gone.stat().st_size > 0

    add_labels(out, labelled(data / "pool.json", links, tmp_path / "back.json"))
    waiting = run(config, out).waiting_for
    assert waiting == out / "round-000" / "to_label"
    assert selections(out) == selections(here)


def test_an_image_that_cannot_be_read_now_does_not_keep_the_others_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Heard(SilentProgress):
        def say(self, text: str) -> None:
            said.append(text)

    said, read = list[str](), ImageReader.read_bytes

    def read_but_some(reader: ImageReader, image_id: str) -> bytes:
        if image_id.startswith(SHARDS[0]):
            raise RejectedImage("unreadable", "SlowDown")
        return read(reader, image_id)

    config = on_shards(data, labelling__mode="files", labelling__classes=CLASSES)
    monkeypatch.setattr(ImageReader, "read_bytes", read_but_some)
    waiting = run(config, tmp_path / "run", progress=Heard()).waiting_for
    assert waiting is not None
    links = links_in(waiting)
    readable = {name for image_id, name in links.items() if not image_id.startswith(SHARDS[0])}
    assert 0 < len(readable) < len(links)
    assert {path.name for path in (waiting / "images").iterdir()} == readable
    (told,) = [text for text in said if "cannot be read now" in text]
    assert told.count("(unreadable: SlowDown)") == len(links) - len(readable)
    monkeypatch.undo()
    run(config, tmp_path / "run")
    assert {path.name for path in (waiting / "images").iterdir()} == set(links.values())


def links_in(waiting: Path) -> dict[str, str]:
    """image_id → the name in images/."""
    with (waiting / "list.csv").open(newline="") as file:
        return {row["image_id"]: row["link"] for row in csv.DictReader(file)}


def labelled(truth: Path, links: dict[str, str], file: Path) -> Path:
    """What somebody exports who has labelled the images in the folder right, under the names that they have there."""
    document = json.loads(truth.read_text())
    images = [i | {"file_name": links[i["file_name"]]} for i in document["images"] if i["file_name"] in links]
    kept = {image["id"] for image in images}
    boxes = [box for box in document["annotations"] if box["image_id"] in kept]
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": document["categories"]}))
    return file


def test_frames_of_a_video_are_labelled_by_people(data: Path, tmp_path: Path) -> None:
    torchcodec = pytest.importorskip("torchcodec")
    if torchcodec.ffmpeg_major_version is None:
        pytest.skip("torchcodec finds no FFmpeg on this machine")
    truth = film(data, tmp_path / "drive.mp4", tmp_path / "truth.json")
    config = tiny_config(
        data, **CHANGES, pool__source=str(tmp_path / "drive.mp4"), pool__sequence=None, labelling__mode="files",
        labelling__classes=CLASSES,
    )  # fmt: skip
    out = tmp_path / "run"
    waiting = run(config, out).waiting_for
    assert waiting is not None
    links = links_in(waiting)
    reader = image_reader(read_table(out / "pool" / "images", POOL), 10**6, Storage())
    for image_id, name in links.items():
        assert name.endswith(".png")
        assert "#" not in name
        with Image.open(waiting / "images" / name) as image:
            assert (np.asarray(image) == reader.read(image_id)).all()

    add_labels(out, labelled(truth, links, tmp_path / "back.json"))
    assert run(config, out).waiting_for == out / "round-000" / "to_label"
    assert set(links_in(out / "round-000" / "to_label")) == set(ids_of(picks_of(out / "round-000")))


def film(data: Path, video: Path, truth: Path) -> Path:
    """The pool's images one after the other, and their annotations under the names of the frames."""
    import torch
    from torchcodec.encoders import VideoEncoder

    document, frames = json.loads((data / "pool.json").read_text()), []
    for number, entry in enumerate(document["images"]):
        with Image.open(data / "images" / entry["file_name"]) as image:
            frames.append(np.asarray(image).transpose(2, 0, 1))
        entry["file_name"] = f"{video.name}#{number:06d}"
    VideoEncoder(torch.from_numpy(np.stack(frames)), frame_rate=10).to_file(video, codec="mpeg4")
    truth.write_text(json.dumps(document))
    return truth
