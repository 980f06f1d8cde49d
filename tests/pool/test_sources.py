import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from poolscout.config import PoolConfig, build_config
from poolscout.errors import ConfigError, DataError
from poolscout.pool import Storage, kind_of, list_pool, source_digest
from poolscout.pool.sources import base, read_source
from poolscout.pool.sources.shards import expand_braces
from poolscout.tables.declared import POOL, QUARANTINE
from tests.pool.images import corners, encoded, save
from tests.pool.shards import tar_of

ODD = ["a b.png", "ü/é ñ.png", "x#1.png", "50%+1=2&3.png", "{0..3}.png", "-dash.png", "a'\"b.png", "[1]*?.png"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    for name in ODD:
        save(tmp_path / "images" / name)
    return tmp_path


def test_odd_names_from_every_kind_of_source(odd: Path) -> None:
    root = odd / "images"
    (odd / "names.txt").write_text("".join(f"{name}\n" for name in ODD), encoding="utf-8")
    pq.write_table(pa.table({"uri": ODD}), odd / "m.parquet")
    (odd / "coco.json").write_text(json.dumps({"images": [{"id": n, "file_name": f} for n, f in enumerate(ODD)]}))
    save(odd / "x.tar", tar_of(dict.fromkeys(ODD)))
    folder = list_pool(PoolConfig(source=root)).pool
    assert folder["image_id"].to_pylist() == sorted(ODD)
    for source, images in (("names.txt", root), ("m.parquet", root), ("coco.json", root), ("x.tar", None)):
        pool = list_pool(PoolConfig(source=odd / source, images=images)).pool
        if source == "x.tar":
            assert pool["image_id"].to_pylist() == sorted(f"x/{name}" for name in ODD)
        else:
            assert pool.select(["image_id", "uri"]).equals(folder.select(["image_id", "uri"]))
        assert pool["width"].to_pylist() == [48] * len(ODD)


def test_a_list_takes_paths_of_all_kinds(odd: Path) -> None:
    elsewhere = save(odd / "elsewhere" / "d.png")
    tar = save(odd / "x.tar", tar_of({"a.png": None}))
    inside = list_pool(PoolConfig(source=tar)).pool["uri"][0].as_py()
    lines = [
        "\ufeffimages/a b.png",
        "",
        str(elsewhere),
        elsewhere.with_name("e.png").as_uri(),
        inside,
        "images/a b.png/",
    ]
    save(odd / "elsewhere" / "e.png")
    (odd / "l.list").write_text("\r\n".join(lines), encoding="utf-8")
    listing = list_pool(PoolConfig(source=odd / "l.list"))
    assert dict(zip(*(listing.pool[name].to_pylist() for name in ("image_id", "uri")), strict=True)) == {
        "images/a b.png": str(odd / "images/a b.png"), str(elsewhere): str(elsewhere), inside: inside,
        elsewhere.with_name("e.png").as_uri(): str(elsewhere.with_name("e.png")),
    } | {"images/a b.png/": str(odd / "images/a b.png")}  # fmt: skip


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "..\\out.png", "a\x1b.png"])
def test_names_that_leave_the_root_are_set_aside(tmp_path: Path, name: str) -> None:
    save(tmp_path / "out.png")
    save(tmp_path / "in" / "good.png")
    pq.write_table(pa.table({"uri": ["good.png", name]}), tmp_path / "in" / "m.parquet")
    (tmp_path / "in" / "l.txt").write_text(f"good.png\n{name}\n")
    for source in ("m.parquet", "l.txt"):
        listing = list_pool(PoolConfig(source=tmp_path / "in" / source))
        assert listing.pool["image_id"].to_pylist() == ["good.png"]
        (row,) = listing.quarantine.to_pylist()
        assert row["reason"] == "unsafe name"
    (tmp_path / "c.json").write_text(json.dumps({"images": [{"id": 1, "file_name": name}]}))
    with pytest.raises(DataError, match="leaving the folder"):
        list_pool(PoolConfig(source=tmp_path / "c.json"))


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    save(tmp_path / "good.png")
    try:
        Path(bytes(tmp_path / "bad").decode() + "\udcff.png").write_bytes(encoded(corners()))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    listing = list_pool(PoolConfig(source=tmp_path))
    assert listing.pool["image_id"].to_pylist() == ["good.png"]
    assert [(r["image_id"], r["reason"]) for r in listing.quarantine.to_pylist()] == [("bad\\udcff.png", "unsafe name")]
    (tmp_path / "l.txt").write_bytes(b"good.png\nb\xff.png\n")
    assert list_pool(PoolConfig(source=tmp_path / "l.txt")).quarantine["image_id"].to_pylist() == ["b\\udcff.png"]


def test_parts_of_a_manifest_are_one_pool(tmp_path: Path) -> None:
    for name in "abcd":
        save(tmp_path / "i" / f"{name}.png")
    (tmp_path / "m").mkdir()
    parts = [{"uri": ["d.png", "a.png"], "lux": [1, 2]}, {"uri": ["c.png"], "lux": [0.5], "town": ["x"]},
             {"uri": ["b.png"], "lux": pa.nulls(1)}]  # fmt: skip
    for number, part in enumerate(parts):
        pq.write_table(pa.table(part), tmp_path / "m" / f"part-{number}.parquet")
    (tmp_path / "m" / "_SUCCESS").write_text("")
    config = PoolConfig(source=tmp_path / "m", images=tmp_path / "i")
    assert kind_of(config, Storage()) == "parquet"
    assert list_pool(config).pool.select(["image_id", "lux", "town"]).to_pylist() == [
        {"image_id": "a.png", "lux": 2.0, "town": None}, {"image_id": "b.png", "lux": None, "town": None},
        {"image_id": "c.png", "lux": 0.5, "town": "x"}, {"image_id": "d.png", "lux": 1.0, "town": None},
    ]  # fmt: skip


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"s{at % 3}/{at:03d}.png" for at in range(40)]
    for name in names:
        save(tmp_path / "i" / name, b"" if name.endswith("7.png") else None)
    uris = [*names, "../x.png", *(f"./{name}" for name in names[:2])]
    pq.write_table(pa.table({"uri": uris, "n": range(len(uris))}), tmp_path / "i" / "m.parquet")
    (tmp_path / "i" / "l.txt").write_text("\n".join(names))
    for source in ("m.parquet", "l.txt", "."):
        config = PoolConfig(source=tmp_path / "i" / source, format="folder" if source == "." else "auto")
        whole = list_pool(config)
        for module in ("file_list", "folder", "manifest"):
            monkeypatch.setattr(f"poolscout.pool.sources.{module}.BATCH_ROWS", 7)
        assert len(list(read_source(config, Storage()))) > 5
        small = list_pool(config)
        monkeypatch.undo()
        assert (small.pool.equals(whole.pool), small.quarantine.equals(whole.quarantine)) == (True, True)
        assert set(whole.quarantine["reason"].to_pylist()) <= {"empty", "unsafe name"}
        POOL.check(whole.pool, ""), QUARANTINE.check(whole.quarantine, "")
    assert base.BATCH_ROWS == 10_000


def test_sizes_may_be_trusted_and_no_file_is_opened(tmp_path: Path) -> None:
    columns = {"uri": ["a.png", "b.png", "c.png"], "width": [10, 20, 4000], "height": [5, 6, 4000]}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    listing = list_pool(PoolConfig(source=tmp_path / "m.parquet", check="none", max_pixels=1000))
    assert listing.pool.select(["width", "height"]).to_pylist() == [
        {"width": 10, "height": 5},
        {"width": 20, "height": 6},
    ]
    assert listing.quarantine["reason"].to_pylist() == ["oversized"]
    for bad in (None, 0, -1):
        pq.write_table(pa.table(columns | {"width": [10, bad, 20]}), tmp_path / "m.parquet")
        with pytest.raises(ConfigError, match=r"1 without, such as b\.png"):
            list_pool(PoolConfig(source=tmp_path / "m.parquet", check="none"))


def test_empty_cells_are_told_by_their_row_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolscout.pool.sources.manifest.BATCH_ROWS", 2)
    pq.write_table(pa.table({"uri": ["a.png", "b.png", "c.png", "d.png", ""]}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match="1 empty cells\n  got:      rows 4"):
        list_pool(PoolConfig(source=tmp_path / "m.parquet"))


def test_text_that_is_none_is_found_when_listing(tmp_path: Path) -> None:
    town = pa.array([b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"uri": ["a.png"], "town": town}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list_pool(PoolConfig(source=tmp_path / "m.parquet"))


def test_repeated_ids_are_told_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolscout.pool.sources.file_list.BATCH_ROWS", 2)
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "l.txt").write_text("a.png\nb.png\nc.png\na.png\nb.png\na.png\n")
    with pytest.raises(DataError, match=r"2 image ids are listed more than once\n  got:      a\.png, b\.png"):
        list_pool(PoolConfig(source=tmp_path / "l.txt"))


def test_yolo_and_voc_are_told_by_what_lies_there(tmp_path: Path) -> None:
    save(tmp_path / "y" / "images" / "train" / "a.png")
    (tmp_path / "y" / "data.yaml").write_text(yaml.safe_dump({"path": ".", "train": "images/train", "names": ["car"]}))
    save(tmp_path / "v" / "JPEGImages" / "b.png")
    (tmp_path / "v" / "Annotations").mkdir()
    xml = "<annotation><filename>b.png</filename><size><width>48</width><height>32</height></size></annotation>"
    (tmp_path / "v" / "Annotations" / "b.xml").write_text(xml)
    for folder, kind in (("y", "yolo"), ("v", "voc")):
        config = PoolConfig(source=tmp_path / folder)
        assert kind_of(config, Storage()) == kind
        assert list_pool(config).pool["width"].to_pylist() == [48]
        assert source_digest(config) == source_digest(config)


def test_what_a_folder_holds_decides(tmp_path: Path) -> None:
    save(tmp_path / "t" / "deep" / "x.tar", tar_of({"a.png": None}))
    assert kind_of(PoolConfig(source=tmp_path / "t"), Storage()) == "tar"
    save(tmp_path / "t" / "a.png")
    assert kind_of(PoolConfig(source=tmp_path / "t"), Storage()) == "folder"
    save(tmp_path / "v" / "a.mp4", b"")
    assert kind_of(PoolConfig(source=tmp_path / "v"), Storage()) == "video"
    assert expand_braces("a-{08..10}/{x,y}.tar") == [f"a-{n}/{w}.tar" for n in ("08", "09", "10") for w in "xy"]
    assert expand_braces("plain {name}.tar") == ["plain {name}.tar"]
    for text in ("{3..1}.tar", "{0..9999999}.tar"):
        with pytest.raises(ConfigError, match="braces stand for"):
            expand_braces(text)


def test_a_digest_follows_names_and_sizes_only(odd: Path) -> None:
    config = PoolConfig(source=odd / "images")
    before = source_digest(config)
    (odd / "images" / "notes.txt").write_text("x")
    assert source_digest(config) == before
    save(odd / "images" / "new.png")
    after = source_digest(config)
    assert after != before
    save(odd / "images" / "new.png", b"1")
    assert source_digest(config) not in (before, after)


def test_urls_pass_the_config_as_they_are(tmp_path: Path) -> None:
    config = build_config({"pool": {"source": "s3://b/a//x", "images": "sub"}}, base=tmp_path)
    assert (config.pool.source, config.pool.images) == ("s3://b/a//x", (tmp_path / "sub").resolve())
    assert (
        build_config({"pool": {"source": "x/{0..3}.tar"}}, base=tmp_path).pool.source
        == tmp_path.resolve() / "x/{0..3}.tar"
    )
    dumped = config.model_dump(mode="json")
    assert build_config(dumped, base=Path("/elsewhere")) == config
