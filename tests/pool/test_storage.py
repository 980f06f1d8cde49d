import errno
import functools
import http.server
import io
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.config import PoolConfig
from poolscout.config_room import is_url, locate
from poolscout.errors import DataError
from poolscout.pool import (
    ImageReader,
    RejectedImage,
    Storage,
    Uris,
    container_of,
    file_state,
    files_digest,
    is_plain_file,
    list_pool,
    states_of_files,
    storage,
)
from poolscout.pool.ranged import FIRST_BLOCK_BYTES, RangedFile
from poolscout.pool.storage import member_place
from poolscout.tables.manifest import rows_digest
from tests.pool.images import corners, encoded, save
from tests.pool.shards import tar_of

DATA = np.random.default_rng(0).bytes(3 * FIRST_BLOCK_BYTES + 17)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DATA) + 9), st.integers(0, 70_000)), max_size=12))
def test_a_far_file_reads_as_the_bytes_do(reads: list[tuple[int, int]]) -> None:
    file = RangedFile(lambda start, end: DATA[start:end], lambda: len(DATA))
    for start, n in reads:
        file.seek(start)
        found = b""
        while data := file.read(n - len(found)):
            found += data
        assert found == DATA[start : start + n]
    assert file.seek(-5, 2) == len(DATA) - 5
    assert file.read() == DATA[-5:]


def test_reading_on_takes_few_requests_and_jumping_small_blocks() -> None:
    asked: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        asked.append((start, end))
        return bytes(end - start)

    file = RangedFile(read, lambda: 1 << 40)
    for _ in range(10_000):
        file.read(1000)
    assert len(asked) < 20
    asked.clear()
    for jump in range(1, 11):
        file.seek(jump << 30)
        file.read(512)
    assert [end - start for start, end in asked] == [FIRST_BLOCK_BYTES] * 10


def test_places() -> None:
    assert member_place("s3://b/x.tar#512+9") == ("s3://b/x.tar", (512, 9))
    assert member_place("/a/b#1.tar#512+9") == ("/a/b#1.tar", (512, 9))
    for plain in ("/a/x.tar", "/a/#1+2.png", "/a/b.png#1+2", "s3://b/a#1+2"):
        assert member_place(plain) == (plain, None)
    assert [is_plain_file(u) for u in ("/a/#1+2.png", "/x.tar#1+2", "s3://b/a.png", "/a.mp4#frame=3")] == [
        True, False, False, False,
    ]  # fmt: skip
    assert [is_url(t) for t in ("s3://a", "https://a/b", "memory://a", "C://a", "/a", "a", "file:///a", "a:b//")] == [
        True, True, True, False, False, False, False, False,
    ]  # fmt: skip
    assert locate("s3://a/../b", Path("/x")) == "s3://a/../b"
    assert (locate("a", Path("/x")), locate("file:///a%20b", Path("/x"))) == (Path("/x/a"), Path("/a b"))


def test_states(tmp_path: Path) -> None:
    tar = save(tmp_path / "x.tar", tar_of({"a.png": None}))
    assert file_state(f"{tar}#512+9") == file_state(str(tar)) == (tar.stat().st_size, tar.stat().st_mtime_ns)
    video = save(tmp_path / "x.mp4", b"no video")
    assert file_state(f"{video}#frame=3") == file_state(str(video)) == (8, video.stat().st_mtime_ns)
    assert file_state("s3://nowhere/at/all.png") is None
    assert file_state("s3://nowhere/at/all.mp4#frame=3") is None
    assert file_state("\0") is None


def test_containers() -> None:
    containers = {
        "/a/x.tar#512+9": "/a/x.tar", "s3://b/x.mp4#frame=12": "s3://b/x.mp4", "/a/b.png": "/a/b.png",
        "/a/#1+2.png": "/a/#1+2.png", "/a/b#frame=3.mp4#frame=4": "/a/b#frame=3.mp4",
    }  # fmt: skip
    assert {uri: container_of(uri) for uri in containers} == containers


@pytest.mark.parametrize("place", ["", "x.tar#512+9", "x.tar#2048+9", "x.mp4#frame=3"])
def test_a_replaced_file_tar_or_video_is_noticed(tmp_path: Path, place: str) -> None:
    uri = f"{tmp_path}/{place or 'x.png'}"
    uris = pa.chunked_array([[uri, f"{tmp_path}/other.png"]])
    file = save(Path(container_of(uri)), b"before")
    before = files_digest(uris)
    assert files_digest(uris) == before
    file.write_bytes(b"after it")
    assert files_digest(uris) != before


def test_a_container_is_asked_once_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(storage, "file_state", lambda uri: asked.append(uri) or (len(uri), 0))
    state = states_of_files()
    uris = [f"/a/{at % 3}.tar#{at}+9" for at in range(300)] + [f"/a/x.mp4#frame={at}" for at in range(300)]
    assert {state(uri) for uri in uris} == {(8, 0)}
    assert asked == ["/a/0.tar", "/a/1.tar", "/a/2.tar", "/a/x.mp4"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.none() | st.integers(0, 9)), max_size=12), st.integers(1, 5))
def test_a_digest_of_rows_is_theirs_alone(rows: list[tuple[str, int | None]], size: int) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64())])
    columns = [pa.array([row[at] for row in rows], schema.types[at]) for at in range(2)]
    whole = pa.table(columns, schema=schema)
    cut = pa.concat_tables([whole.slice(at, size) for at in range(0, max(1, len(rows)), size)])
    assert rows_digest(cut) == rows_digest(whole)
    if rows:
        others = pa.concat_tables([whole.slice(1), pa.table([["new"], [10]], schema=schema)])
        assert rows_digest(others) != rows_digest(whole)


@pytest.fixture
def memory() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    for name in ("a/1.png", "a/b/2.png", "a/b/c/3.PNG", "a/.h/4.png", "a/notes.txt"):
        fs.pipe(f"/root/{name}", encoded(corners()))
    yield "memory://root"
    fs.rm("/root", recursive=True)


def test_any_file_system_of_fsspec(memory: str) -> None:
    listing = list_pool(PoolConfig(source=f"{memory}/a"))
    assert listing.pool.select(["image_id", "uri", "width", "sequence"]).to_pylist() == [
        {"image_id": "1.png", "uri": "memory://root/a/1.png", "width": 48, "sequence": "1.png"},
        {"image_id": "b/2.png", "uri": "memory://root/a/b/2.png", "width": 48, "sequence": "b"},
        {"image_id": "b/c/3.PNG", "uri": "memory://root/a/b/c/3.PNG", "width": 48, "sequence": "b/c"},
    ]


@pytest.fixture
def http_server(tmp_path: Path) -> Iterator[str]:
    """Serves `tmp_path`; it does not know ranges, and sends the whole file."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *rest: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_over_http_from_a_server_without_ranges(tmp_path: Path, http_server: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    save(tmp_path / "a.png", encoded(noise))
    save(tmp_path / "s.tar", tar_of({"in.png": encoded(noise)}))
    save(tmp_path / "list.txt", f"a.png\ngone.png\n{http_server}/s.tar#512+{len(encoded(noise))}\n".encode())
    listing = list_pool(PoolConfig(source=f"{http_server}/list.txt"))
    assert listing.pool["width"].to_pylist() == [300, 300]
    assert [(r["image_id"], r["reason"]) for r in listing.quarantine.to_pylist()] == [("gone.png", "missing")]
    tar = list_pool(PoolConfig(source=f"{http_server}/s.tar")).pool
    for pool in (listing.pool, tar):
        reader = ImageReader(Uris(pool), 10**6)
        assert all((reader.read(image_id) == noise).all() for image_id in pool["image_id"].to_pylist())


@pytest.mark.parametrize("start", [0, 1, 40, 99, 100, 250])
@pytest.mark.parametrize("n", [1, 50, 60, 100, 4000])
def test_a_range_from_a_server_without_ranges(tmp_path: Path, http_server: str, start: int, n: int) -> None:
    data = DATA[:100]
    save(tmp_path / "a.bin", data)
    assert Storage().read_range(f"{http_server}/a.bin", start, start + n) == data[start : start + n]


class FailingFile:
    """Every `Path.open` gives a file whose first reads fail, as those of a mounted folder may."""

    def __init__(self, patch: pytest.MonkeyPatch, code: int, times: int) -> None:
        self.left = times
        outer, open_path = self, Path.open

        class Raw(io.FileIO):
            def readinto(self, buffer: memoryview) -> int | None:
                outer.fail()
                return super().readinto(buffer)

            def readall(self) -> bytes:
                outer.fail()
                return super().readall()

        def opened(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
            return io.BufferedReader(Raw(path)) if mode == "rb" else open_path(path, mode, *rest, **more)

        self.code = code
        patch.setattr(Path, "open", opened)

    def fail(self) -> None:
        if self.left:
            self.left -= 1
            raise OSError(self.code, os.strerror(self.code))


READS = {
    "whole": lambda storage, path: storage.read_bytes(str(path)),
    "range": lambda storage, path: storage.read_range(str(path), 0, 9999),
    "opened": lambda storage, path: storage.open(str(path)).read(),
    "member": lambda storage, path: storage.open(f"{path.with_suffix('.tar')}#512+100").read(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EINVAL])
def test_a_file_that_cannot_be_read_is_asked_again_and_then_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Storage, Path], bytes], code: int
) -> None:
    path = save(tmp_path / "a.bin", DATA[:100])
    save(tmp_path / "a.tar", bytes(512) + DATA[:100])
    passes, waits = code != errno.EINVAL, list[float]()
    storage = Storage(tries=3, sleep=waits.append)
    FailingFile(monkeypatch, code, 2)
    if passes:
        assert read(storage, path) == DATA[:100]
        assert len(waits) == 2
    FailingFile(monkeypatch, code, 1000)
    with pytest.raises(RejectedImage) as caught:
        read(storage, path)
    tried = "after 3 tries: " if passes else ""
    assert (caught.value.reason, caught.value.detail) == ("unreadable", tried + os.strerror(code))
    assert len(waits) == (4 if passes else 0)


@pytest.mark.parametrize("name", ["x.tar", "images"])
def test_a_pool_that_cannot_be_read_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save(tmp_path / "x.tar", tar_of({"a.png": encoded(corners())}))
    save(tmp_path / "images" / "a.png", encoded(corners()))
    FailingFile(monkeypatch, errno.ESTALE, 1000)
    with pytest.raises(DataError, match=r"no image of .* can be used\n  got: +1 unreadable; the first: after 1 tries"):
        list_pool(PoolConfig(source=tmp_path / name, retries=1))


def test_a_member_beyond_the_end_is_truncated(tmp_path: Path) -> None:
    tar = save(tmp_path / "x.tar", tar_of({"a.png": None}))
    with pytest.raises(RejectedImage, match="truncated"):
        Storage().read_bytes(f"{tar}#512+999999")


ids = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), st.text(max_size=5), max_size=30)


@settings(max_examples=50, deadline=None)
@given(ids, st.lists(st.text(max_size=3), max_size=5), st.integers(1, 5))
def test_uris_are_the_mapping(expected: dict[str, str], others: list[str], n_chunks: int) -> None:
    expected = {key: value.encode("utf-8", "replace").decode() for key, value in expected.items()}
    schema = pa.schema([("image_id", pa.string()), ("uri", pa.string())])
    whole = pa.table([list(expected), list(expected.values())], schema=schema)
    size = max(1, len(expected) // n_chunks)
    chunked = pa.concat_tables([whole.slice(at, size) for at in range(0, max(1, len(expected)), size)])
    for uris in (Uris(chunked), pickle.loads(pickle.dumps(Uris(chunked)))):
        assert dict(uris) == expected
        assert list(uris) == sorted(expected)
        assert all(uris.get(key) == expected.get(key) for key in [*expected, *others])


def test_a_slice_is_sent_alone() -> None:
    n = 100_000
    pool = pa.table({"image_id": [f"{at:09d}" for at in range(n)], "uri": [f"s3://b/{at}" for at in range(n)]})
    sent = pickle.dumps(ImageReader(Uris(pool.slice(500, 20)), 10**6))
    assert len(sent) < 5000
    assert pickle.loads(sent).uris["000000519"] == "s3://b/519"
