import multiprocessing
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.assemble import image_reader
from poolscout.config import PoolConfig
from poolscout.errors import CapabilityError, ConfigError, DataError
from poolscout.planning.forecast import ZERO
from poolscout.planning.sample import sample_pool
from poolscout.pool import PoolListing, RejectedImage, Storage, list_pool, source_digest, storage
from poolscout.pool.storage import member_place
from tests.pool.images import corners, encoded
from tests.pool.s3 import KEYS, Door, door_to, every_third, put, running_server
from tests.pool.shards import tar_of

NAMES = ["day/a 1.png", "day/ü#2.png", "night/50%+1.png", "night/x=y&z.png", "top.png"]
N_SHARDED = 12


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("made")
    made = {f"images/{name}": encoded(corners(40 + at, 32)) for at, name in enumerate(NAMES)}
    made |= {"images/.hidden/x.png": b"", "images/notes.txt": b"no image", "images/sub/": b""}
    for shard in range(2):
        members = {}
        for at in range(N_SHARDED // 2):
            members[f"{shard}/{at:03d}.json"] = {"speed_kmh": at + 0.5, "time_of_day": "night"}
            members[f"{shard}/{at:03d}.png"] = None
        made[f"shards/s-{shard:02d}.tar"] = tar_of(members)
    rows = {"uri": [f"s3://pool/images/{name}" for name in NAMES] + ["s3://pool/images/gone.png"], "lux": range(6)}
    pq.write_table(pa.table({name: list(values) for name, values in rows.items()}), folder / "m.parquet")
    made["lists/far.parquet"] = (folder / "m.parquet").read_bytes()
    made["lists/names.txt"] = "".join(f"../images/{name}\r\n\n" for name in NAMES).encode()
    made["lists/under.txt"] = "".join(f"images/{name}\n" for name in NAMES).encode()
    return made


@pytest.fixture(scope="module")
def server(objects: dict[str, bytes]) -> Iterator[int]:
    with running_server() as port:
        put(port, "pool", objects)
        yield port


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def local(tmp_path: Path, objects: dict[str, bytes]) -> Path:
    for key, data in objects.items():
        path = tmp_path / "pool" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if not key.endswith("/"):
            path.write_bytes(data)
    return tmp_path / "pool"


def through(door: Door, waits: list[float] | None = None, tries: int = 5) -> Storage:
    sleep = (lambda seconds: None) if waits is None else waits.append
    return Storage({"s3": {"endpoint_url": door.url}}, tries, sleep)


def rows_of(listing: PoolListing, root: str) -> list[dict]:
    return [row | {"uri": row["uri"].removeprefix(root)} for row in listing.pool.to_pylist()]


@pytest.mark.parametrize(
    ("source", "n_images", "most_requests"),
    [
        ("images", len(NAMES), 2 * len(NAMES) + 8),
        ("lists/under.txt", len(NAMES), 2 * len(NAMES) + 8),
        ("shards", N_SHARDED, 16),
        ("shards/s-{00..01}.tar", N_SHARDED, 16),
        ("shards/s-00.tar", N_SHARDED // 2, 10),
    ],
)
def test_the_same_pool_as_from_local_files_through_a_storage_that_fails(
    server: int, local: Path, source: str, n_images: int, most_requests: int
) -> None:
    def config(root: str) -> PoolConfig:
        is_list = source.endswith(".txt")
        return PoolConfig.model_validate({"source": f"{root}/{source}", "images": root if is_list else None})

    waits: list[float] = []
    expected = list_pool(config(str(local)))
    with door_to(server, every_third) as door:
        storage = through(door, waits)
        listing = list_pool(config("s3://pool"), storage)
        assert rows_of(listing, "s3://pool") == rows_of(expected, str(local))
        assert listing.quarantine.equals(expected.quarantine)
        assert listing.pool.num_rows == n_images
        assert len(door.paths) <= most_requests
        # aiohttp itself comes back where a connection that it had kept is reset.
        assert len(door.paths) // 6 <= len(waits) <= len(door.paths) // 3
        assert all(0.25 <= wait <= 20 for wait in waits)
        far, near = image_reader(listing.pool, 10**6, storage), image_reader(expected.pool, 10**6)
        before = len(door.paths)
        for image_id in listing.pool["image_id"].to_pylist():
            assert (pickle.loads(pickle.dumps(far.uris))[image_id]) == far.uris[image_id]
            assert (far.read(image_id) == near.read(image_id)).all()
        assert len(door.paths) - before <= 1.5 * n_images + 1  # one an image, and one more for each that failed


def test_manifest_of_far_images_and_a_missing_key(server: int) -> None:
    with door_to(server) as door:
        listing = list_pool(PoolConfig(source="s3://pool/lists/far.parquet"), through(door))
    assert listing.pool["uri"].to_pylist() == sorted(f"s3://pool/images/{name}" for name in NAMES)
    assert sorted(listing.pool["lux"].to_pylist()) == [0, 1, 2, 3, 4]
    (gone,) = listing.quarantine.to_pylist()
    assert (gone["reason"], gone["detail"]) == ("missing", "no object at s3://pool/images/gone.png")
    assert len([path for path in door.paths if "gone.png" in path]) == 1  # it will not come back


def test_tar_shards_bring_metadata_and_only_headers_are_read(server: int, tmp_path: Path) -> None:
    large = {f"{at:02d}.png": encoded(corners()) + bytes(300_000) for at in range(8)}
    put(server, "large", {"l.tar": tar_of(large)})
    with door_to(server) as door:
        pool = list_pool(PoolConfig(source="s3://large/l.tar"), through(door)).pool
        assert pool.num_rows == 8
        assert door.n_bytes < 8 * 300_000 / 4
        assert len(door.paths) <= 3 + 8
        pool = list_pool(PoolConfig(source="s3://pool/shards"), through(door)).pool
    row = pool.to_pylist()[0]
    container, place = member_place(row.pop("uri"))
    assert row == {
        "image_id": "s-00/0/000.png", "width": 48, "height": 32, "sequence": "0", "frame": 0, "speed_kmh": 0.5,
        "time_of_day": "night",
    }  # fmt: skip
    assert (container, place) == ("s3://pool/shards/s-00.tar", (1536, len(encoded(corners()))))


def test_a_busy_storage_is_asked_so_often_and_then_the_image_is_set_aside(server: int) -> None:
    waits: list[float] = []
    with door_to(server, lambda number, path: (503, "SlowDown") if "a%201" in path else None) as door:
        listing = list_pool(PoolConfig(source="s3://pool/images"), through(door, waits, tries=4))
    (row,) = listing.quarantine.to_pylist()
    assert (row["image_id"], row["reason"]) == ("day/a 1.png", "unreadable")
    assert row["detail"].startswith("after 4 tries: ")
    assert len([path for path in door.paths if "a%201" in path]) == 4  # nobody retries beneath
    assert len(waits) == 3
    assert waits[0] < waits[1] < waits[2]
    assert listing.pool.num_rows == len(NAMES) - 1


@pytest.mark.parametrize("answer", [(500, "InternalError"), "reset", (429, "TooManyRequests")])
def test_passing_troubles_of_each_kind(server: int, answer: tuple[int, str] | str) -> None:
    with door_to(server, lambda number, path: answer if number < 3 else None) as door:
        assert through(door).read_bytes("s3://pool/images/top.png") == encoded(corners(44, 32))
        assert len(door.paths) == 3


@pytest.mark.parametrize("source", ["s3://pool/images", "s3://pool/shards/s-00.tar", "s3://pool/lists/far.parquet"])
def test_denied_access_ends_the_listing_at_once(server: int, source: str) -> None:
    with door_to(server, lambda number, path: (403, "AccessDenied")) as door:
        with pytest.raises(DataError, match=r"access is denied(.|\n)*storage_options") as caught:
            list_pool(PoolConfig(source=source), through(door))
        assert not isinstance(caught.value, RejectedImage)
        assert len(door.paths) <= 2


def test_nothing_there_and_no_answer(server: int) -> None:
    with door_to(server) as door:
        with pytest.raises(DataError, match="pool.source: s3://pool/nothing/ is not there"):
            list_pool(PoolConfig(source="s3://pool/nothing/"), through(door))
        with pytest.raises(DataError, match="s3://none is not there"):
            list_pool(PoolConfig(source="s3://none"), through(door))
        with pytest.raises(DataError, match=r"cannot be read as Parquet\n  got:      missing"):
            list_pool(PoolConfig(source="s3://pool/none.parquet"), through(door))
        with pytest.raises(DataError, match=r"annotations are read from this machine"):
            list_pool(PoolConfig(source="s3://pool/coco.json"), through(door))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        door.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(DataError, match=r"s3://pool/images: unreadable\n  got:      after 2 tries"):
            list_pool(PoolConfig(source="s3://pool/images"), through(door, tries=2))


def test_a_changed_object_changes_the_digest(server: int) -> None:
    digests = []
    put(server, "changing", {"a.png": b"1", "b.png": b"2", "notes.txt": b"1"})
    with door_to(server) as door:
        for objects in ({}, {"notes.txt": b"2"}, {"b.png": b"3"}, {"s/c.tar": b"1"}):
            put(server, "changing", objects)
            sources = ("s3://changing", "s3://changing/s/c.tar", "s3://changing/{a,b}.tar")
            digests.append([source_digest(PoolConfig(source=s), through(door)) for s in sources])
    folder, tar, several = zip(*digests, strict=True)
    assert [one == folder[0] for one in folder] == [True, True, False, False]
    assert [one == tar[0] for one in tar] == [True, True, True, False]
    assert len(set(several)) == 1


def _read_in_child(arguments: tuple[Storage, str]) -> bytes:
    reader, uri = arguments
    return reader.read_bytes(uri)


def test_after_a_fork_sessions_are_new(server: int) -> None:
    with door_to(server) as door:
        reader, uris = Storage({"s3": {"endpoint_url": door.url}}), [f"s3://pool/images/{name}" for name in NAMES]
        expected = [reader.read_bytes(uri) for uri in uris]
        with multiprocessing.get_context("fork").Pool(2) as processes:
            found = processes.map_async(_read_in_child, [(reader, uri) for uri in uris]).get(timeout=30)
    assert found == expected


def test_what_is_not_installed_or_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    storage._filesystems.clear()
    with pytest.raises(ConfigError, match=r"nonsense:// cannot be read"):
        Storage().read_bytes("nonsense://x/a.png")
    with pytest.raises(ConfigError, match=r"pool\.storage_options\.s3 does not fit"):
        Storage({"s3": {"client_kwargs": 3}}).read_bytes("s3://x/a.png")

    def absent(*rest: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.filesystem", absent)
    with pytest.raises(CapabilityError, match=r"pip install 'poolscout\[s3\]'"):
        Storage({"s3": {"anon": True}}).read_bytes("s3://x/a.png")


@pytest.mark.parametrize(
    ("source", "in_names"),  # Parquet names first, then headers one by one; a shard's headers come with its names
    [("s3://pool/lists/far.parquet", False), ("s3://pool/shards", True)],
)
def test_a_plan_tells_what_listing_reads_from_elsewhere(
    server: int, objects: dict[str, bytes], tmp_path: Path, source: str, in_names: bool
) -> None:
    with door_to(server) as door:
        options = {"s3": {"endpoint_url": door.url}}
        sample = sample_pool(PoolConfig(source=source, storage_options=options), None, 300, 0, tmp_path)
    told = sample.names_network_bytes + sample.header_network_bytes.value * sample.n_asked
    asked = [key for key in objects if any(f"/{quote(key)}" in path for path in door.paths)]
    # All of these objects are smaller than a block, so that each is read whole, some of them more than once.
    assert sum(len(objects[key]) for key in asked) <= told <= door.n_bytes
    assert (sample.header_network_bytes == ZERO) == in_names
    assert sample.names_network_bytes > 0
