import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.config import PoolConfig
from poolscout.errors import ConfigError, DataError
from poolscout.formats.image_files import find_images_root
from poolscout.pool import list_pool
from poolscout.tables.declared import POOL, QUARANTINE
from tests.pool.images import corners, encoded, save
from tests.pool.test_decode import bomb


def coco(folder, images, annotations=()):
    path = folder / "annotations.json"
    listed = [{"id": number, **image} for number, image in enumerate(images)]
    content = {"images": listed, "annotations": list(annotations), "categories": [{"id": 1, "name": "car"}]}
    path.write_text(json.dumps(content))
    return path


def three_frames(folder):
    """Ids out of order, in two sequences."""
    names = ["night/f_0012.png", "day/f_0002.png", "day/f_0001.png"]
    for name in names:
        save(folder / "images" / name)
    return names


def test_three_sources_give_the_same_table(tmp_path):
    names = three_frames(tmp_path)
    sequences, frames = ["night", "day", "day"], [12, 2, 1]
    entries = [{"file_name": n, "sequence": s, "frame": f} for n, s, f in zip(names, sequences, frames, strict=True)]
    manifest = tmp_path / "images" / "pool.parquet"
    pq.write_table(pa.table({"uri": names, "sequence": sequences, "frame": frames}), manifest)
    listings = [list_pool(PoolConfig(source=s)) for s in (coco(tmp_path, entries), tmp_path / "images", manifest)]
    rows = listings[0].pool.to_pylist()
    assert rows[0] == {
        "image_id": "day/f_0001.png", "uri": str(tmp_path / "images/day/f_0001.png"), "width": 48, "height": 32,
        "sequence": "day", "frame": 1,
    }  # fmt: skip
    assert [row["image_id"] for row in rows] == sorted(names)
    assert [row["frame"] for row in rows] == [1, 2, 12]
    assert listings[1].pool.equals(listings[0].pool)
    assert listings[2].pool.equals(listings[0].pool)
    assert listings[0].pool.schema.equals(POOL.check(listings[0].pool, "").schema)


def test_no_trace_of_annotations_in_the_pool(tmp_path):
    three_frames(tmp_path)
    entries = [{"file_name": "day/f_0001.png", "boxes": [[1, 2, 3, 4]], "counts": {"car": 2}, "town": "Ulm"}]
    told: list[tuple[int, str]] = []
    empty = list_pool(PoolConfig(source=coco(tmp_path, entries)), progress=lambda *words: told.append(words))
    assert (told[0][0], told[-1]) == (0, (len(entries), f"{len(entries)} found"))
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}
    assert list_pool(PoolConfig(source=coco(tmp_path, entries, [box, {"nonsense": 1}]))).pool.equals(empty.pool)
    assert empty.pool.column_names == ["image_id", "uri", "width", "height", "sequence", "frame", "town"]


def test_metadata_keeps_its_type(tmp_path):
    three_frames(tmp_path)
    first = {"file_name": "day/f_0001.png", "i": 3, "f": 1, "s": "x", "b": True, "mixed": 1, "big": 2**70, "null": None}
    second = {"file_name": "day/f_0002.png", "f": 2.5, "b": False, "mixed": "x", "nested": {"a": 1}, "width": 48}
    table = list_pool(PoolConfig(source=coco(tmp_path, [first, second]))).pool
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names[6:]}
    assert kinds == {
        "i": "int64", "f": "double", "s": "string", "b": "bool", "mixed": "string", "big": "string", "null": "string",
    }  # fmt: skip
    assert table.select(["i", "f", "mixed"]).to_pylist() == [
        {"i": 3, "f": 1.0, "mixed": "1"}, {"i": None, "f": 2.5, "mixed": "x"},
    ]  # fmt: skip


def test_parquet_metadata_keeps_its_type_and_nested_is_dropped(tmp_path):
    names = three_frames(tmp_path)
    columns = {
        "uri": names, "image_id": ["x", "y", "z"], "lux": pa.array([1, 2, None], pa.int16()), "tags": [["a"], [], []],
        "thumb": [b"1", b"2", b"3"], "town": pa.array(["a", "b", "a"]).dictionary_encode(), "width": [48, 48, None],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    table = list_pool(PoolConfig(source=tmp_path / "p.parquet", images=tmp_path / "images")).pool
    assert table["image_id"].to_pylist() == ["x", "y", "z"]
    assert [(f.name, str(f.type)) for f in table.schema][6:] == [("lux", "int16"), ("town", "string")]
    assert table["town"].to_pylist() == ["a", "b", "a"]


def test_parquet_uris_may_be_absolute_or_file_urls(tmp_path):
    a, b = save(tmp_path / "a.png"), save(tmp_path / "with space.png")
    pq.write_table(pa.table({"uri": [str(a), b.as_uri()]}), tmp_path / "p.parquet")
    table = list_pool(PoolConfig(source=tmp_path / "p.parquet")).pool
    assert set(table["uri"].to_pylist()) == {str(a), str(b)}


def test_sequence_and_frame_columns_are_chosen_by_name(tmp_path):
    three_frames(tmp_path)
    entries = [
        {"file_name": "day/f_0001.png", "sequence": "town", "block": 7, "at": "0012"},
        {"file_name": "day/f_0002.png", "sequence": "town", "block": None, "at": "-13"},
    ]
    path = coco(tmp_path, entries)
    rows = list_pool(PoolConfig(source=path, sequence="block", frame="at")).pool.to_pylist()
    assert [row["sequence"] for row in rows] == ["7", "day/f_0002.png"]
    assert [row["frame"] for row in rows] == [12, -13]
    assert [row["source_sequence"] for row in rows] == ["town", "town"]
    assert [row["block"] for row in rows] == [7, None]
    default = list_pool(PoolConfig(source=path)).pool
    assert default["sequence"].to_pylist() == ["town", "town"]
    assert default["frame"].null_count == 2
    assert "source_sequence" not in default.column_names


def test_unknown_sequence_column_names_the_nearest_and_all(tmp_path):
    three_frames(tmp_path)
    path = coco(tmp_path, [{"file_name": "day/f_0001.png", "block": "a", "town": "b"}])
    with pytest.raises(ConfigError) as caught:
        list_pool(PoolConfig(source=path, sequence="blok"))
    assert "pool.sequence: annotations.json has no column 'blok'" in str(caught.value)
    assert "expected: block, town" in str(caught.value)
    assert "did you mean 'block'?" in str(caught.value)
    with pytest.raises(ConfigError, match=r"pool\.frame: column 'town' does not hold frame numbers(.|\n)*'b'"):
        list_pool(PoolConfig(source=path, frame="town"))


def test_folder_guesses_sequence_and_frame(tmp_path):
    for name in ("top.png", "a/b/cam2_000017.PNG", "a/x.png", ".hidden/y.png", ".z.png", f"a/{'9' * 30}.png"):
        save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    rows = list_pool(PoolConfig(source=tmp_path)).pool.to_pylist()
    assert [(r["image_id"], r["sequence"], r["frame"]) for r in rows] == [
        (f"a/{'9' * 30}.png", "a", None),
        ("a/b/cam2_000017.PNG", "a/b", 17),
        ("a/x.png", "a", None),
        ("top.png", "top.png", None),
    ]


def test_unusable_images_go_to_quarantine_with_their_reasons(tmp_path):
    root = tmp_path / "images"
    save(root / "good.png")
    save(root / "empty.png", b"")
    save(root / "text.png", b"not an image")
    save(root / "bomb.png", bomb(20_000))
    save(root / "other.png")
    (root / "folder.png").mkdir()
    names = ["good.png", "gone.png", "empty.png", "text.png", "bomb.png", "folder.png"]
    entries = [{"file_name": n} for n in names] + [{"file_name": "other.png", "width": 32, "height": 48}]
    listing = list_pool(PoolConfig(source=coco(tmp_path, entries)))
    assert listing.pool["image_id"].to_pylist() == ["good.png"]
    rows = {row["image_id"]: row for row in listing.quarantine.to_pylist()}
    assert list(rows) == sorted(rows)
    assert {name: row["reason"] for name, row in rows.items()} == {
        "gone.png": "missing", "empty.png": "empty", "text.png": "undecodable", "bomb.png": "oversized",
        "folder.png": "unreadable", "other.png": "size differs",
    }  # fmt: skip
    assert rows["other.png"]["detail"] == "the source says 32×48, the upright image is 48×32"
    assert {row["stage"] for row in rows.values()} == {"pool"}
    QUARANTINE.check(listing.quarantine, "")


def test_upright_size_is_the_truth(tmp_path):
    save(tmp_path / "images/turned.jpg", encoded(corners(), "JPEG", orientation=6))
    upright = list_pool(PoolConfig(source=coco(tmp_path, [{"file_name": "turned.jpg", "width": 32, "height": 48}])))
    assert upright.pool.select(["width", "height"]).to_pylist() == [{"width": 32, "height": 48}]
    with pytest.raises(DataError, match="1 size differs"):
        list_pool(PoolConfig(source=coco(tmp_path, [{"file_name": "turned.jpg", "width": 48, "height": 32}])))


def test_listing_does_not_decode(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = encoded(noise, "JPEG")
    save(tmp_path / "cut.jpg", whole[: len(whole) // 2])
    assert list_pool(PoolConfig(source=tmp_path)).pool["width"].to_pylist() == [64]


def test_empty_pool_says_why(tmp_path):
    with pytest.raises(DataError, match=r"no image of .* can be used\n  got:      no images"):
        list_pool(PoolConfig(source=tmp_path))
    with pytest.raises(DataError, match=r"2 missing; the first: no file at .*a\.png(.|\n)*fix: .*pool\.images"):
        list_pool(PoolConfig(source=coco(tmp_path, [{"file_name": "a.png"}, {"file_name": "b.png"}])))


def test_sources_that_are_none(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        list_pool(PoolConfig(source=tmp_path / "nothing"))
    (tmp_path / "x.csv").write_text("uri")
    with pytest.raises(ConfigError, match=r"cannot tell what x\.csv is(.|\n)*pool\.format"):
        list_pool(PoolConfig(source=tmp_path / "x.csv"))
    (tmp_path / "x.parquet").write_text("uri")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list_pool(PoolConfig(source=tmp_path / "x.parquet"))
    with pytest.raises(DataError, match="is not a folder"):
        list_pool(PoolConfig(source=tmp_path / "x.csv", format="folder"))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"url": ["a.png"]}, r"no column 'uri'(.|\n)*did you mean 'url'"),
        ({"uri": ["a.png", "a.png"]}, r"listed more than once\n  got:      a\.png"),
        ({"uri": ["a.png", None]}, r"1 empty cells\n  got:      rows 1"),
        ({"uri": ["a.png"], "width": ["wide"]}, "'width' is not whole pixels"),
        ({"uri": ["a\n.png"]}, r"1 unsafe name; the first: control characters"),
        ({"uri": [["a.png"]]}, "'uri' is not text"),
    ],
)
def test_bad_manifests(tmp_path, columns, told):
    save(tmp_path / "a.png")
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=told):
        list_pool(PoolConfig(source=tmp_path / "p.parquet"))


def test_images_are_found_beside(tmp_path):
    path = tmp_path / "annotations.json"
    assert find_images_root(path, None) == tmp_path
    (tmp_path / "images").mkdir()
    assert find_images_root(path, None) == tmp_path / "images"
    assert find_images_root(path, tmp_path) == tmp_path
    with pytest.raises(DataError, match="nothing is not a folder"):
        find_images_root(path, tmp_path / "nothing")


def test_real_pool_by_block():
    source = Path(__file__).parents[2].parent / "shared/data/carla_driving/annotations_pool.json"
    if not source.exists():
        pytest.skip("the data set is not here")
    listing = list_pool(PoolConfig(source=source, sequence="block"))
    assert (listing.pool.num_rows, listing.quarantine.num_rows) == (750, 0)
    sequences = listing.pool["sequence"].value_counts().to_pylist()
    assert max(row["counts"] for row in sequences) <= 24
