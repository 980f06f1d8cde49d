"""`poolscout quarantine`: what a run could not use, and its second chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from poolscout import loop, stages
from poolscout.config import PoolConfig, RunConfig
from poolscout.errors import DataError, RunError
from poolscout.pool import Storage, list_pool
from poolscout.pool.limit import QuarantineLimit, check_listing
from poolscout.pool.sources import container_is_whole, is_lost_container
from poolscout.tables.declared import POOL, SCORES
from poolscout.tables.parquet import part_path, read_table
from tests.cli.typed import poolscout
from tests.loop.tiny import tiny_config, write_data
from tests.pool.shards import tar_of


def config_of(data: Path, **changes: Any) -> RunConfig:
    changes = {"training__members": 1, "scoring__scorers": [{"scorer": "entropy"}], **changes}
    return tiny_config(data, rounds=1, evaluation__annotations=None, **changes)


def spoil(data: Path, image_id: str, keep: float) -> bytes:
    """Cut an image off; returns what it was."""
    path = data / "images" / image_id
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return whole


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code, out, _ = poolscout(capsys, "quarantine", *words, "--json")
    assert code == 0
    return json.loads(out)


def scored(run: Path) -> list[str]:
    return read_table(run / "round-000" / "scores", SCORES)["image_id"].to_pylist()


def _stopped(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def run_until(stage: str, config: RunConfig, run: Path) -> None:
    """Run, and be stopped where a stage would begin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, stage, _stopped)
        with pytest.raises(KeyboardInterrupt):
            loop.run(config, run)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", n_test=0)


def never_picked(data: Path, tmp_path: Path) -> str:
    """An image that is not among the initial ones; they do not depend on what is broken inside the files."""
    run_until("train", config_of(data), tmp_path / "look")
    picked = loop.labelling.ids_of(loop.labelling.picks_of(tmp_path / "look" / "initial"))
    return next(f"pool-{number:03d}.png" for number in range(40) if f"pool-{number:03d}.png" not in picked)


def test_a_repaired_image_is_found_and_the_next_run_scores_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, image_id = tmp_path / "run", never_picked(data, tmp_path)
    whole = spoil(data, image_id, 0.5)
    run_until("select", config_of(data), run)
    (image,) = told(capsys, run)["images"]
    assert (image["image_id"], image["stage"], image["reason"]) == (image_id, "scoring", "truncated")
    assert image["where"] == ["round-000"]
    assert poolscout(capsys, "quarantine", run / "round-000")[0] == 6, "it is no folder of its own"
    still = told(capsys, run, "--retry")
    assert (still["readable"], still["done again"], still["left"]) == ([], [], {})

    (data / "images" / image_id).write_bytes(whole)
    again = told(capsys, run, "--retry")
    assert (again["readable"], again["done again"], again["left"]) == ([image_id], ["round-000 score"], {})
    assert image_id not in scored(run)
    loop.run(config_of(data), run)
    assert image_id in scored(run)
    assert len(scored(run)) == 40 - 8
    assert told(capsys, run)["in quarantine"] == 0

    # In a run that is done, what follows from the scores would be stale: it is left alone unless that is asked for.
    spoil(data, image_id, 0.5)
    loop.run(config_of(data), tmp_path / "done")
    (data / "images" / image_id).write_bytes(whole)
    left = told(capsys, tmp_path / "done", "--retry")
    assert left["readable"] == [image_id]
    assert left["done again"] == []
    assert left["left"]["round-000 score"][0] == "round-000 select"
    loop.run(config_of(data), tmp_path / "done")
    assert image_id not in scored(tmp_path / "done")
    code, out, _ = poolscout(capsys, "quarantine", tmp_path / "done", "--retry", "--redo-stale")
    assert code == 0
    assert "does again: round-000 score" in out
    assert "1 truncated" in out
    with pytest.raises(RunError, match="stage 'select' of round-000 is stale"):
        loop.run(config_of(data), tmp_path / "done")
    loop.run(config_of(data), tmp_path / "done", redo_stale=True)
    assert scored(tmp_path / "done") == scored(run)


def test_scores_outside_a_run_are_gone_on_with(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_until("score", config_of(data), tmp_path / "run")
    models, out = tmp_path / "run" / "round-000" / "models", tmp_path / "scored"
    settings = ["--set", "scoring.shard_size=8", "--set", "scoring.scorers=[{scorer: entropy}]"]
    words = ["score", data / "pool.json", "--models", models, "--out", out, *settings]
    whole = spoil(data, "pool-009.png", 0.5)
    assert poolscout(capsys, *words)[0] == 0
    before = {path.name: path.stat().st_mtime_ns for path in (out / "scores").glob("part-*")}
    (image,) = told(capsys, out)["images"]
    assert (image["image_id"], image["stage"], image["where"]) == ("pool-009.png", "scoring", ["."])
    (data / "images" / "pool-009.png").write_bytes(whole)
    tight = told(capsys, out, "--retry", "--set", "pool.max_pixels=9")
    assert tight["readable"] == []
    again = told(capsys, out, "--retry")
    assert (again["readable"], again["done again"], again["left"]) == (["pool-009.png"], ["score"], {})
    assert poolscout(capsys, *words)[0] == 0
    assert read_table(out / "scores", SCORES).num_rows == 40
    changed = [name for name, at in before.items() if (out / "scores" / name).stat().st_mtime_ns != at]
    assert changed == ["part-00001.parquet"]
    code, _, err = poolscout(capsys, "quarantine", out, "--set", "pool.max_pixels=9")
    assert (code, "--set without --retry" in err) == (2, True)


def test_a_poisoned_pool_stops_the_run_and_a_mended_one_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, none_bad = tmp_path / "run", config_of(data, pool__max_quarantined=0.0)
    whole = {f"pool-{number:03d}.png": spoil(data, f"pool-{number:03d}.png", 0.0) for number in (3, 5)}
    with pytest.raises(DataError, match=r"2 of 40[^$]*2 empty[^$]*pool.max_quarantined is 0"):
        loop.run(none_bad, run)
    assert told(capsys, run)["by reason"] == {"empty": 2}
    for image_id, pixels in whole.items():
        (data / "images" / image_id).write_bytes(pixels)
    with pytest.raises(DataError, match=r"2 of 40[^$]*quarantine FOLDER --retry"):
        loop.run(none_bad, run)
    assert told(capsys, run, "--retry")["done again"] == ["pool list"]
    run_until("train", none_bad, run)
    assert read_table(run / "pool" / "images", POOL).num_rows == 40
    assert part_path(run / "pool" / "images", 0).exists()


def test_raising_the_limit_goes_on_from_the_same_listing(data: Path, tmp_path: Path) -> None:
    spoil(data, "pool-003.png", 0.0)
    with pytest.raises(DataError, match="too many images cannot be used: 1 of 40"):
        loop.run(config_of(data, pool__max_quarantined=0.0), tmp_path / "run")
    listing = part_path(tmp_path / "run" / "pool" / "images", 0).stat().st_mtime_ns
    run_until("train", config_of(data, pool__max_quarantined=0.1), tmp_path / "run")
    assert part_path(tmp_path / "run" / "pool" / "images", 0).stat().st_mtime_ns == listing


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = poolscout(capsys, "quarantine", tmp_path)
    assert code == 6
    assert "no run here" in err


@pytest.mark.parametrize(
    ("share", "n_images", "most"),
    [(0.05, 1000, 50), (0.05, 100, 10), (0.05, 20, 10), (0.05, 12, 6), (0.0, 1000, 0), (1.0, 7, 7), (0.5, 1, 0)],
)
def test_how_many_may_be_rejected(share: float, n_images: int, most: int) -> None:
    limit = QuarantineLimit(share, n_images)
    limit.check(most, {"missing": most}, "there")
    with pytest.raises(DataError, match=f"{most + 1:,} of {n_images:,}"):
        limit.check(most + 1, {"missing": most, "empty": 1}, "there")


def test_a_pool_that_stops_score_at_its_listing_can_be_mended(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_until("score", config_of(data), tmp_path / "run")
    models = tmp_path / "run" / "round-000" / "models"
    whole = {f"pool-{number:03d}.png": spoil(data, f"pool-{number:03d}.png", 0.0) for number in range(25)}
    words = ["score", data / "pool.json", "--models", models, "--out", tmp_path / "s"]
    words += ["--set", "scoring.scorers=[{scorer: entropy}]"]
    code, _, err = poolscout(capsys, *words)
    assert (code, "too many images cannot be used: 25 of 40" in err) == (4, True)
    for image_id, pixels in whole.items():
        (data / "images" / image_id).write_bytes(pixels)
    assert told(capsys, tmp_path / "s", "--retry")["done again"] == ["pool list"]
    assert poolscout(capsys, *words)[0] == 0
    assert read_table(tmp_path / "s" / "scores", SCORES).num_rows == 40


def test_what_else_was_mended_joins_only_when_asked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_until("score", config_of(data), tmp_path / "run")
    models, out = tmp_path / "run" / "round-000" / "models", tmp_path / "scored"
    settings = ["--set", "scoring.shard_size=8", "--set", "scoring.scorers=[{scorer: entropy}]"]
    words = ["score", data / "images", "--models", models, "--out", out, *settings]
    pixels, header = spoil(data, "pool-013.png", 0.5), spoil(data, "pool-020.png", 0.0)
    assert poolscout(capsys, *words)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in sorted((out / "scores").glob("part-*"))}
    (data / "images" / "pool-013.png").write_bytes(pixels)
    (data / "images" / "pool-020.png").write_bytes(header)
    found = told(capsys, out, "--retry")
    assert found["readable"] == ["pool-013.png", "pool-020.png"]
    assert (found["done again"], found["left"]) == (["score"], {"pool list": ["score"]})
    assert "pool-020.png" not in read_table(out / "pool" / "images", POOL)["image_id"].to_pylist()
    asked = told(capsys, out, "--retry", "--redo-stale")
    assert (sorted(asked["done again"]), asked["left"]) == (["pool list", "score"], {})
    assert poolscout(capsys, *words)[0] == 0
    assert read_table(out / "scores", SCORES).num_rows == 40
    assert [path.name for path, at in before.items() if path.stat().st_mtime_ns == at] == ["part-00000.parquet"]


def test_a_lost_shard_counts_as_what_it_held_and_is_given_back(data: Path, tmp_path: Path) -> None:
    pool = tmp_path / "shards"
    pool.mkdir()
    for shard in range(4):
        names = [f"pool-{number:03d}.png" for number in range(10 * shard, 10 * shard + 10)]
        members = {name: (data / "images" / name).read_bytes() for name in names}
        (pool / f"shard-{shard}.tar").write_bytes(tar_of(members))
    whole = (pool / "shard-2.tar").read_bytes()
    (pool / "shard-2.tar").write_bytes(whole[:100])
    listing = list_pool(PoolConfig(source=pool))
    assert (listing.pool.num_rows, listing.quarantine.num_rows) == (30, 1)
    with pytest.raises(DataError, match=r"10 of 40[^$]*10 "):
        check_listing(0.0, listing.pool, listing.quarantine, "there")
    row = {name: listing.quarantine[name][0].as_py() for name in ("image_id", "uri")}
    assert is_lost_container(**row)
    assert not container_is_whole(row["uri"], PoolConfig(source=pool), Storage())
    (pool / "shard-2.tar").write_bytes(whole)
    assert container_is_whole(row["uri"], PoolConfig(source=pool), Storage())
