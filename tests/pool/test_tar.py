import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.config import PoolConfig
from poolscout.errors import DataError
from poolscout.pool import ImageReader, PoolListing, list_pool
from poolscout.pool.tar import TarDamage, members
from tests.pool.images import corners, encoded
from tests.pool.shards import tar_of

FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]

names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60).filter(
    lambda name: name.strip(". ") == name
)
paths = st.lists(names, min_size=1, max_size=8).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.binary(max_size=1500), max_size=6), st.sampled_from(FORMS[1:]))
def test_members_are_those_that_tarfile_finds(contents: dict[str, bytes], form: int) -> None:
    data = tar_of(contents, form)
    found = list(members(io.BytesIO(data), len(data)))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(info.name, info.offset_data, info.size) for info in tar]
    assert [(m.name, m.offset, m.size) for m in found] == expected
    assert [data[m.offset : m.offset + m.size] for m in found] == list(contents.values())
    assert {m.kind for m in found} <= {"file"}


def test_ustar_with_prefix_and_everything_that_is_no_file() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind in [("a" * 90 + "/" + "b" * 90, tarfile.REGTYPE), ("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE),
                           ("h", tarfile.LNKTYPE), ("c", tarfile.CHRTYPE), ("f", tarfile.FIFOTYPE)]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(info)
    data = file.getvalue()
    found = {m.name: m.kind for m in members(io.BytesIO(data), len(data))}
    assert found == {
        "a" * 90 + "/" + "b" * 90: "file", "d/": "folder", "l": "symbolic link", "h": "hard link", "c": "device",
        "f": "pipe",
    }  # fmt: skip


def test_sizes_above_8_gib_in_both_ways() -> None:
    for form in FORMS[1:]:
        info = tarfile.TarInfo("x.png")
        info.size = 9 << 30
        data = info.tobuf(form)
        with pytest.raises(TarDamage, match=f"ends at byte {len(data) + (9 << 30)} of {len(data)}"):
            list(members(io.BytesIO(data), len(data)))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(FORMS))
def test_garbled_tars_end_in_damage_and_nowhere_else(data: st.DataObject, form: int) -> None:
    whole = bytearray(tar_of({"a.json": {"x": 1}, "ü" * 30 + "/b.png": b"1" * 700, "c.png": b"2"}, form))
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = list(members(io.BytesIO(cut), len(cut)))
    except TarDamage:
        return
    assert all(0 <= m.offset <= m.offset + m.size <= len(cut) for m in found)


def listed(tmp_path, name: str, data: bytes, **settings) -> PoolListing:
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_bytes(data)
    return list_pool(PoolConfig(source=tmp_path / name, **settings))


def test_samples_in_webdataset_layout(tmp_path) -> None:
    listing = listed(tmp_path, "x.tar", tar_of({
        "drive/0001.left.png": None, "drive/0001.right.png": None, "drive/0001.cls": b"3",
        "./b#1 ü+%.png": None, "b#1 ü+%.json": {"time_of_day": "night", "speed_kmh": 3, "nested": {"a": 1}, "no": None},
        "drive/0001.json": {"speed_kmh": 7.5, "sequence": "told", "frame": 9}, ".hidden/a.png": None, "._b.png": None,
    }))  # fmt: skip
    rows = {row["image_id"]: row for row in listing.pool.to_pylist()}
    assert sorted(rows) == ["x/b#1 ü+%.png", "x/drive/0001.left.png", "x/drive/0001.right.png"]
    assert listing.pool.column_names[6:] == ["speed_kmh", "time_of_day"]
    assert [(r["sequence"], r["frame"], r["speed_kmh"]) for r in rows.values()] == [
        ("x/b#1 ü+%.png", 1, 3.0), ("told", 9, 7.5), ("told", 9, 7.5),
    ]  # fmt: skip
    assert listing.quarantine.num_rows == 0
    reader = ImageReader({name: row["uri"] for name, row in rows.items()}, 10**6)
    assert all((reader.read(name) == corners()).all() for name in rows)


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/a.png", "C:\\a.png", "..\\a.png", "a/\x1b.png", "\\\\host\\a.png", "a\n.png"],
)
def test_names_that_lead_out_are_never_followed(tmp_path, name: str) -> None:
    listing = listed(tmp_path, "x.tar", tar_of({"good.png": None, name: None}))
    assert listing.pool["image_id"].to_pylist() == ["x/good.png"]
    (row,) = listing.quarantine.to_pylist()
    assert row["reason"] == "unsafe name"
    assert row["uri"] == str(tmp_path / "x.tar")
    assert row["image_id"].isprintable()


def test_links_and_devices_are_not_followed(tmp_path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in [("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("c.png", tarfile.CHRTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info, data = tarfile.TarInfo("a.png"), encoded(corners())
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    listing = listed(tmp_path, "x.tar", file.getvalue())
    assert listing.pool["image_id"].to_pylist() == ["x/a.png"]
    assert {(row["image_id"], row["reason"], row["detail"]) for row in listing.quarantine.to_pylist()} == {
        ("x/l.png", "unsafe name", "a symbolic link"), ("x/h.png", "unsafe name", "a hard link"),
        ("x/c.png", "unsafe name", "a device"),
    }  # fmt: skip


def test_a_truncated_tar_keeps_what_lies_before_the_damage(tmp_path) -> None:
    whole = tar_of({f"{at}.png": None for at in range(5)})
    ends = [m.offset + m.size for m in members(io.BytesIO(whole), len(whole))]
    for n_whole in range(1, 5):
        listing = listed(tmp_path, "s/x.tar", whole[: ends[n_whole] - 1])
        assert listing.pool["image_id"].to_pylist() == [f"x/{at}.png" for at in range(n_whole)]
        (row,) = listing.quarantine.to_pylist()
        assert (row["image_id"], row["reason"]) == ("x", "truncated")
    listing = listed(tmp_path, "s/x.tar", whole[: -(-ends[-1] // 512) * 512])
    assert listing.pool.num_rows == 5
    assert listing.quarantine["detail"].to_pylist() == [
        f"cut off: no end of the archive at byte {-(-ends[-1] // 512) * 512}"
    ]
    good = {"y.tar": tar_of({"1.png": None}), "z.tar": b"", "w.tar": b"not a tar" * 100}
    for name, data in good.items():
        (tmp_path / "s" / name).write_bytes(data)
    listing = list_pool(PoolConfig(source=tmp_path / "s"))
    assert listing.pool.num_rows == 6
    assert [(r["image_id"], r["reason"]) for r in listing.quarantine.to_pylist()] == [
        ("w", "undecodable"), ("x", "truncated"), ("z", "truncated"),
    ]  # fmt: skip


def test_bad_members_are_set_aside_one_by_one(tmp_path) -> None:
    listing = listed(tmp_path, "x.tar", tar_of({
        "a.png": None, "b.png": b"", "c.png": b"no image", "d.json": b"{", "d.png": None, "e.json": b"[1]",
        "e.png": None, "f.json": {"width": 32, "height": 48}, "f.png": None, "twice.png": b"",
        "deep.json": b"[" * 100_000,
    }))  # fmt: skip
    assert listing.pool["image_id"].to_pylist() == ["x/a.png", "x/d.png", "x/e.png", "x/f.png"]
    assert listing.pool.select(["width", "source_width"]).to_pylist()[3] == {"width": 48, "source_width": 32}
    assert {row["image_id"]: row["reason"] for row in listing.quarantine.to_pylist()} == {
        "x/b.png": "empty", "x/c.png": "undecodable", "x/d.json": "undecodable", "x/e.json": "undecodable",
        "x/twice.png": "empty", "x/deep.json": "undecodable",
    }  # fmt: skip


def test_compressed_tars_are_refused_with_a_message(tmp_path) -> None:
    for name, mode in (("x.tar.gz", "w:gz"), ("y.tar", "w:gz"), ("z.tar", "w:xz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            tar.addfile(tarfile.TarInfo("a.png"))
        with pytest.raises(DataError, match="compressed"):
            list_pool(PoolConfig(source=tmp_path / name))


def test_braces_and_folders_name_shards(tmp_path) -> None:
    for at in range(12):
        (tmp_path / "t" / f"{at % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "t" / f"{at % 2}" / f"s-{at:03d}.tar").write_bytes(tar_of({"a.png": None}))
    whole = list_pool(PoolConfig(source=tmp_path / "t")).pool
    assert whole["image_id"].to_pylist() == sorted(f"{at % 2}/s-{at:03d}/a.png" for at in range(12))
    some = list_pool(PoolConfig(source=tmp_path / "t" / "{0,1}" / "s-{008..013}.tar"))
    assert some.pool["image_id"].to_pylist() == ["0/s-008/a.png", "0/s-010/a.png", "1/s-009/a.png", "1/s-011/a.png"]
    assert set(some.quarantine["reason"].to_pylist()) == {"missing"}
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no tar shards"):
        list_pool(PoolConfig(source=tmp_path / "none", format="tar"))


def test_sizes_may_be_trusted(tmp_path) -> None:
    said = {"a.json": {"width": 9, "height": 7}, "a.png": b"never opened"}
    listing = listed(tmp_path, "x.tar", tar_of(said), check="none")
    assert listing.pool.select(["width", "height"]).to_pylist() == [{"width": 9, "height": 7}]
