"""`poolscout shortlist` as a user types it, and a run that works on a short-list."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poolscout.errors import RunError
from poolscout.labelling import ids_of, picks_of
from poolscout.loop import run
from poolscout.tables.declared import POOL, SCORES
from poolscout.tables.parquet import part_path, read_table, write_table
from tests.cli.typed import poolscout
from tests.loop.tiny import tiny_config, write_data

NIGHT = "time_of_day = 'night' AND speed_kmh > 5"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A run's pool, in two parts."""
    for part in range(2):
        rows = range(10 * part, 10 * part + 10)
        table = {
            "image_id": [f"{i:04d}.jpg" for i in rows], "uri": [f"/data/{i:04d}.jpg" for i in rows],
            "width": [64] * 10, "height": [48] * 10, "sequence": [f"clip{i // 4}" for i in rows], "frame": list(rows),
            "time_of_day": [("day", "night")[i % 2] for i in rows], "speed_kmh": [float(i) for i in rows],
        }  # fmt: skip
        write_table(part_path(tmp_path / "run/pool/images", part), POOL, table)
    return tmp_path / "run"


@pytest.mark.parametrize("inside", ["", "pool/images", "pool"])
def test_a_run_or_its_pool_is_short_listed(
    inside: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = pool / inside
    if inside == "pool":  # one file, rows in another order
        source = tmp_path / "pool.parquet"
        table = read_table(pool / "pool/images", POOL)
        write_table(source, POOL, table.take(list(range(19, -1, -1))))
    out = tmp_path / "night.parquet"
    code, told, _ = poolscout(capsys, "shortlist", source, "--where", NIGHT, "--out", out, "--json")
    result = json.loads(told)
    assert code == 0
    assert (result["kept"], result["of"], result["sequences"]) == (7, 20, 4)
    assert result["left out for an empty cell"] == 0
    assert ids_of(read_table(out, POOL)) == [f"{i:04d}.jpg" for i in range(7, 20, 2)]


def test_a_short_list_is_a_pool_again(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "night.parquet", tmp_path / "late.parquet"
    poolscout(capsys, "shortlist", pool, "--where", NIGHT, "--out", first)
    code, told, _ = poolscout(capsys, "shortlist", first, "--where", "frame > 12", "--out", second)
    assert code == 0
    assert "kept" in told
    assert ids_of(read_table(second, POOL)) == ["0013.jpg", "0015.jpg", "0017.jpg", "0019.jpg"]


def test_a_csv_is_one(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = poolscout(capsys, "shortlist", pool, "--where", NIGHT, "--out", tmp_path / "n.csv")
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "n.csv").open()))
    assert [row["image_id"] for row in rows] == [f"{i:04d}.jpg" for i in range(7, 20, 2)]
    nested = read_table(pool / "pool/images", POOL)
    nested = nested.append_column("boxes", pa.array([[1, 2]] * nested.num_rows))
    write_table(tmp_path / "nested.parquet", POOL, nested)
    words = ("shortlist", tmp_path / "nested.parquet", "--where", NIGHT, "--out")
    code, _, err = poolscout(capsys, *words, tmp_path / "lists.csv")
    assert (code, "a column that CSV cannot hold" in err) == (2, True), err
    assert not (tmp_path / "lists.csv").exists()
    assert poolscout(capsys, *words, tmp_path / "lists.parquet")[0] == 0


def test_any_source_is_listed_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "data", n_pool=8, n_test=1)
    words = ("--where", "clip = 'clip-1' AND seen", "--table", f"seen={tmp_path / 'seen.csv'}", "--json")
    (tmp_path / "seen.csv").write_text("image_id,seen\npool-003.png,true\npool-004.png,true\npool-005.png,false\n")
    code, told, _ = poolscout(capsys, "shortlist", data / "pool.json", *words)
    result = json.loads(told)
    assert code == 0
    assert (result["kept"], result["of"], result["in seen"], result["in quarantine"]) == (1, 8, 3, 0)
    assert result["left out for an empty cell"] == 2
    assert "written" not in result


def test_mistakes_end_in_messages(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, told in (
        (("--where", "sped_kmh > 5"), 2, "did you mean 'speed_kmh'?"),
        (("--where", "(SELECT true FROM read_csv('/etc/passwd'))"), 2, "a query inside is not allowed"),
        (("--where", "speed_kmh > 500"), 4, "no image is kept"),
        (("--where", NIGHT, "--table", "scores"), 2, "NAME=PATH"),
        (("--where", NIGHT, "--table", f"pool={pool}"), 2, "cannot be called"),
        (("--where", NIGHT, "--table", f"a={tmp_path / 'no'}"), 4, "is not there"),
        (("--where", NIGHT, "--table", f"a={pool}", "--table", f"a={pool}"), 2, "its own name"),
        (("--where", NIGHT, "--out", tmp_path), 4, "is a folder"),
        (("--where", NIGHT, "--out", tmp_path / "n.txt"), 2, "neither .csv nor .parquet"),
        (("--where", f"{NIGHT}; drop table pool"), 2, "more than one statement"),
    ):
        found = poolscout(capsys, "shortlist", pool, *words)
        assert found[0] == code
        assert told in found[2]
        assert "Traceback" not in found[2]


def test_a_run_works_on_its_short_list_alone(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    kept = [f"pool-{number:03d}.png" for number in range(40) if number // 4 not in (0, 1) and number % 2]
    path = tmp_path / "odd.parquet"
    pq.write_table(
        pa.table({"image_id": [f"pool-{n:03d}.png" for n in range(40)], "odd": [n % 2 for n in range(40)]}), path
    )
    changes = {
        "labelling__initial": 4, "selection__n": 4, "rounds": 1, "references__full": True, "references__members": 1,
        "shortlist__tables": {"side": str(path)},
    }  # fmt: skip
    where = "clip NOT IN ('clip-0', 'clip-1') AND odd = 1"
    out = tmp_path / "run"
    run(tiny_config(data, shortlist__where=where, **changes), out)
    assert ids_of(read_table(out / "pool/shortlist", POOL)) == kept
    assert read_table(out / "pool/images", POOL).num_rows == 40
    first = set(ids_of(picks_of(out / "initial")))
    scored = ids_of(read_table(out / "round-000/scores", SCORES))
    assert sorted(first | set(scored)) == kept
    assert set(ids_of(picks_of(out / "round-000"))) | set(ids_of(picks_of(out / "references/random/round-000"))) <= set(
        kept
    )
    everything = json.loads((out / "references/full/round-000/metrics.json").read_text())
    assert everything["images"]["unique"] == len(kept)

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    run(tiny_config(data, shortlist__where=where, **changes), out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == before
    for other in ({"shortlist__where": "odd = 1"}, {"shortlist__where": None, "shortlist__tables": {}}):
        with pytest.raises(RunError, match="round-000 score"):
            run(tiny_config(data, **(changes | other)), out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == before


def test_labelled_images_are_short_listed_and_a_pass_over_a_pool_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data")
    settings = tiny_config(data).model_dump(mode="json")
    sets = [f"--set={room}={json.dumps(settings[room])}" for room in ("detector", "training")]
    models, where = tmp_path / "models", "--set=shortlist.where=clip IN ('clip-0', 'clip-1')"
    code, told, err = poolscout(capsys, "train", data / "pool.json", "--out", models, *sets, where, "--json")
    assert (code, json.loads(told)["images"]) == (0, 8)
    assert "8 of 40 images kept" in err
    code, _, err = poolscout(capsys, "train", data / "pool.json", "--out", models, *sets)
    assert (code, "stage 'train'" in err) == (6, True), "other images are not passed off as these"

    few = json.loads((data / "test.json").read_text())
    few["images"] = [image for image in few["images"] if image["clip"] == "clip-1"]
    few["annotations"] = [box for box in few["annotations"] if box["image_id"] in {i["id"] for i in few["images"]}]
    (data / "few.json").write_text(json.dumps(few))
    code, told, _ = poolscout(
        capsys, "evaluate", data / "test.json", "--models", models, "--set=shortlist.where=clip = 'clip-1'", "--json"
    )
    assert code == 0
    assert told == poolscout(capsys, "evaluate", data / "few.json", "--models", models, "--json")[1]

    code, _, err = poolscout(capsys, "score", data / "pool.json", "--models", models, "--out", tmp_path / "s", where)
    assert (code, "poolscout shortlist" in err, (tmp_path / "s").exists()) == (2, True, False)
