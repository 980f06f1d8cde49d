"""`poolscout plan`: what is measured, and how it grows to the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from poolscout.cli.plan import draw
from poolscout.config import PoolConfig, ShortlistConfig, build_config
from poolscout.errors import ConfigError, DataError
from poolscout.loop import run
from poolscout.planning import Extent, Figure, Growth, Measured, Plan, forecast, make_plan
from poolscout.planning.forecast import ZERO, steps_of
from poolscout.planning.measure import Stopwatch
from poolscout.planning.notes import notes_of
from poolscout.planning.sample import encoded_bytes, remote_share, sample_pool
from poolscout.planning.selecting import measure_growth
from poolscout.pool import Storage, listing
from tests.cli.typed import poolscout
from tests.loop.tiny import tiny_config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


def config_of(data: Path):
    return tiny_config(data, rounds=1, references__random=True, selection__sampler="coreset")


@pytest.fixture(scope="module")
def made(data: Path) -> Plan:
    return make_plan(config_of(data))


@pytest.fixture(scope="module")
def ran(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run(config_of(data), out)
    return out


def stages(plan: Plan) -> list[tuple[str, int | None]]:
    return [(stage.stage, stage.round) for stage in plan.stages]


def test_every_stage_of_the_run_is_there_and_costs_something(made: Plan) -> None:
    first = [(stage, 0) for stage in ("train", "evaluate", "score", "select")]
    last = [("train", 1), ("evaluate", 1), ("random reference: train", 1), ("random reference: evaluate", 1)]
    assert stages(made) == [("list", None), *first, *last]
    for stage in made.stages:
        for figure in stage.seconds.values():
            assert figure.value > 0
            assert figure.low <= figure.value <= figure.high
        assert stage.memory_bytes > 50 * 2**20
        assert stage.network_bytes == ZERO, "the images lie on this machine"
        assert (stage.disk_bytes.value > 0) == (stage.stage != "select")
    assert made.images == 40
    assert made.seconds(1).value == pytest.approx(sum(stage.seconds[1].value for stage in made.stages))


def test_disk_is_what_a_run_writes(made: Plan, ran: Path) -> None:
    def written(pattern: str) -> int:
        return sum(path.stat().st_size for path in ran.glob(pattern))

    forecasts = {(stage.stage, stage.round): stage.disk_bytes for stage in made.stages}
    models = forecasts["train", 0]
    assert written("round-000/models/member-*") == pytest.approx(models.value, rel=0.02)
    # Parts of 10 rows are mostly headers: the sample's larger parts are a bound from below.
    scored = forecasts["score", 0]
    assert 0.3 * scored.low < written("round-000/scores/*") + written("round-000/embeddings/*") < 10 * scored.high


def test_a_listed_pool_is_not_listed_again(data: Path, ran: Path, tmp_path: Path, made: Plan) -> None:
    before = {path: path.stat().st_mtime_ns for path in ran.rglob("*")}
    config = config_of(data)
    sample = sample_pool(config.pool, ran / "pool", 16, 0, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in ran.rglob("*")} == before
    assert (sample.n_pool, sample.images.num_rows, sample.header_s, sample.names_s) == (40, 16, ZERO, 0.0)
    assert "listed already" in " ".join(notes_of(sample, made.measured, config, has_boxes=True))
    not_there = sample_pool(config.pool, tmp_path / "nowhere", 16, 0, tmp_path)
    assert not not_there.is_listed
    assert not_there.images["image_id"].to_pylist() == sample.images["image_id"].to_pylist()


def noted_pool(data: Path, tmp_path: Path) -> Path:
    """A manifest with metadata, of the tiny pool's images: 12 at night."""
    images = sorted((data / "images").glob("pool-*.png"))
    rows = {
        "image_id": [image.name for image in images], "uri": [str(image) for image in images],
        "time_of_day": ["night" if i % 10 < 3 else "day" for i in range(len(images))],
        "frame": list(range(len(images))),
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "noted.parquet")
    return tmp_path / "noted.parquet"


def test_a_plan_is_for_the_short_list(data: Path, ran: Path, tmp_path: Path, made: Plan) -> None:
    pool = PoolConfig(source=noted_pool(data, tmp_path))
    night = pq.read_table(pool.source, filters=[("time_of_day", "=", "night"), ("frame", ">", 5)])["image_id"]
    kept = ShortlistConfig(where="time_of_day = 'night' AND pool.frame > 5")
    unlisted, few = (sample_pool(pool, None, n, 0, tmp_path, kept) for n in (300, 4))
    assert unlisted.images["image_id"].to_pylist() == night.to_pylist()
    assert (unlisted.n_pool, unlisted.n_listed, few.n_asked) == (len(night), 40, 4)
    assert set(few.images["image_id"].to_pylist()) < set(night.to_pylist())

    side = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"image_id": night, "lux": pa.array(range(len(night)))}), side)
    joined = ShortlistConfig(where="lux < 3", tables={"scores": side})
    listed = sample_pool(config_of(data).pool, ran / "pool", 300, 0, tmp_path, joined)
    assert listed.images["image_id"].to_pylist() == night.to_pylist()[:3]
    assert (listed.is_listed, listed.n_pool, listed.n_listed) == (True, 3, 40)

    config = config_of(data).model_copy(update={"shortlist": kept})
    told = " ".join(notes_of(unlisted, made.measured, config, has_boxes=True))
    assert "shortlist.where keeps 9 of 40 images" in told
    assert "shortlist" not in " ".join(made.notes)


def test_a_size_that_the_source_does_not_tell_is_an_empty_cell(data: Path, tmp_path: Path) -> None:
    pool = PoolConfig(source=noted_pool(data, tmp_path))
    with pytest.raises(DataError, match=r"no image is kept(.|\n)*40 of them with empty cells"):
        sample_pool(pool, None, 8, 0, tmp_path, ShortlistConfig(where="width > 0"))


def test_the_command_prints_what_it_rests_on(capsys: pytest.CaptureFixture[str], data: Path) -> None:
    config = tiny_config(data, rounds=1, shortlist__where="image_id < 'pool-030.png'")
    values = config.model_dump(mode="json", exclude_none=True)
    (data / "plan.yaml").write_text(yaml.safe_dump(values))
    code, out, _ = poolscout(capsys, "plan", data / "plan.yaml", "--images", 8, "--workers", "1,3", "--json")
    made = json.loads(out)
    assert code == 0
    assert made["workers"] == [1, 3]
    assert made["images"] == 30
    assert any("keeps 30 of 40" in note for note in made["notes"])
    assert made["total"]["seconds"]["3"]["value"] > 0
    code, _, err = poolscout(capsys, "plan", data / "plan.yaml", "--workers", "two")
    assert (code, "--workers" in err) == (2, True)


def test_a_plan_for_people(capsys: pytest.CaptureFixture[str], made: Plan) -> None:
    draw(made)
    shown = capsys.readouterr().out
    for words in ("40 images", "this machine", "8 workers", "random reference: train", "drawn at random", "all  "):
        assert words in shown


def test_settings_that_cannot_run_are_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to plan with"):
        make_plan(tiny_config(data), images=1)
    with pytest.raises(ConfigError, match="did you mean 'coreset'"):
        make_plan(tiny_config(data, selection__sampler="corset"))
    with pytest.raises(ConfigError, match="references need labels"):
        make_plan(tiny_config(data, labelling__mode="files", references__random=True))


# The arithmetic, on figures that nobody measured.

CONFIG = {"pool": {"source": "x"}, "training": {"min_steps": 10, "max_steps": 10_000}, "selection": {"n": 50}}


def measured(**changes: object) -> Measured:
    plain = dict.fromkeys(Measured.__dataclass_fields__, 1.0)
    figures = {
        name: Figure(2.0, 1.0, 3.0) for name, field in Measured.__dataclass_fields__.items() if field.type == "Figure"
    }
    growth = Growth(1000, Figure(1.0, 0.5, 2.0), Figure(1.5, 1.2, 1.8))
    return replace(Measured(**{**plain, **figures, "selection": growth}), **changes)


@given(
    pool=st.integers(5_000, 10**7), rounds=st.integers(1, 6), members=st.integers(1, 9), k=st.integers(1, 20),
    references=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_more_work_takes_longer_and_more_workers_less(
    pool: int, rounds: int, members: int, k: int, references: bool
) -> None:
    values = {**CONFIG, "rounds": rounds, "references": {"random": references, "full": references}}
    config = build_config(values, [f"training.members={members}"])
    extent = Extent(pool, 100, 100, 2**34, pool)

    def total(config=config, extent=extent, workers: int = k) -> Figure:
        return forecast(measured(), extent, config, (workers,)).seconds(workers)

    base = total()
    assert base.low <= base.value <= base.high
    assert total(extent=replace(extent, pool=2 * pool)).value > base.value
    assert total(config=config.model_copy(update={"rounds": rounds + 1})).value > base.value
    assert total(workers=k + 1).value < base.value  # scoring is shared by all
    plan = forecast(measured(), extent, config, (1, k))
    for stage in plan.stages:
        alone, shared = stage.seconds[1].value, stage.seconds[k].value
        name = stage.stage.rpartition(" ")[2]
        if name == "score":
            assert shared == pytest.approx(alone / k)
        elif name == "train":
            n = members if stage.stage == "train" else config.references.members
            reading = 2.0 * (pool if stage.stage.startswith("full") else extent.labelled(config, stage.round))
            assert (shared - reading) / (alone - reading) == pytest.approx(-(-n // k) / n)
        else:
            assert shared == alone


def test_what_is_computed_by_hand() -> None:
    config = build_config({**CONFIG, "rounds": 1}, ["training.members=3"])
    extent = Extent(pool=10_000, test=10, initial=100, memory_bytes=2**40, listed=15_000)
    plan = forecast(measured(remote=0.5, base_bytes=1000.0), extent, config, (1, 2))
    by_stage = {(stage.stage, stage.round): stage for stage in plan.stages}
    steps = steps_of(config.training, 100)
    assert steps == round(16 * 90 / 8)
    train = by_stage["train", 0]
    one = 2.0 * steps + 2.0 * 10
    assert train.seconds[1].value == pytest.approx(2.0 * 100 + 3 * one)
    assert train.seconds[2].value == pytest.approx(2.0 * 100 + 2 * one)
    assert train.network_bytes.value == pytest.approx(2.0 * 100 * 0.5)
    assert train.disk_bytes.value == 3.0
    score = by_stage["score", 0]
    assert score.seconds[2].value == pytest.approx(2.0 * 9_900 / 2)
    assert score.network_bytes.high == pytest.approx(3.0 * 9_900 * 0.5)
    assert by_stage["select", 0].seconds[1].value == pytest.approx(9.9**1.5)
    assert by_stage["select", 0].seconds[1].high == pytest.approx(2.0 * 9.9**1.8)
    assert by_stage["list", None].seconds[2].value == 1.0 + 2.0 * 15_000, "short-lists are made after listing"
    assert by_stage["list", None].network_bytes == Figure(1.0 + 2.0 * 15_000, 1.0 + 15_000, 1.0 + 3.0 * 15_000)
    assert by_stage["evaluate", 1].seconds[2].value == pytest.approx(2.0 * 10 * 3)


def test_pixels_that_fill_the_memory_are_not_held() -> None:
    config = build_config({**CONFIG, "rounds": 1, "labelling": {"initial": 1000}})
    pixels = 1000 * 3 * config.detector.height * config.detector.width
    held, mapped = (
        forecast(measured(), Extent(5000, 0, 1000, memory, 5000), config, (1,)).stages[1]
        for memory in (4 * pixels, pixels)
    )
    assert held.memory_bytes - mapped.memory_bytes == pixels


# The measuring.


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_growth_is_found(power: float) -> None:
    now = [0.0]

    def prepare(n: int):
        def job() -> None:
            now[0] += 1e-3 * (n / 1000) ** power

        return job

    growth = measure_growth(prepare, 10**6, clock=lambda: now[0])
    assert growth.exponent.value == pytest.approx(power, abs=1e-3)
    assert growth.at < 10**6
    assert growth.seconds_for(10**6).value == pytest.approx(1e-3 * 1000**power, rel=0.02)
    small = measure_growth(prepare, 3000, clock=lambda: now[0])
    assert small.at == 3000, "what can be measured is not extrapolated"
    assert small.seconds_for(3000).value == pytest.approx(1e-3 * 3**power, rel=1e-6)


def test_a_stopwatch_leaves_the_warming_up_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("poolscout.planning.measure.time.perf_counter", lambda: now[0])
    watch = Stopwatch()
    for done in range(10, 1010, 10):
        now[0] += 5.0 if done == 10 else 1.0
        watch(done)
    assert watch.figure().value == pytest.approx(0.1)
    assert watch.figure().high == pytest.approx(0.1, rel=0.05)


@given(values=st.lists(st.floats(0.1, 10), min_size=2, max_size=30))
@settings(max_examples=30, deadline=None)
def test_a_figure_is_two_standard_errors_wide(values: list[float]) -> None:
    figure = Figure.of(values)
    assert figure.value == pytest.approx(np.mean(values))
    assert figure.high - figure.value == pytest.approx(2 * np.std(values, ddof=1) / np.sqrt(len(values)), abs=1e-9)
    assert 0 <= figure.low <= figure.value


def test_only_the_headers_of_the_sample_are_looked_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted((data / "images").glob("pool-*.png"))
    n = 20_000
    rows = {"image_id": [f"{i:06d}" for i in range(n)], "uri": [str(images[i % len(images)]) for i in range(n)]}
    pq.write_table(pa.table(rows), tmp_path / "big.parquet")
    seen: list[object] = []
    size_of = listing.upright_size
    monkeypatch.setattr(listing, "upright_size", lambda uri, *rest: (seen.append(uri), size_of(uri, *rest))[1])
    source = PoolConfig(source=tmp_path / "big.parquet")
    first, again, other = (sample_pool(source, None, 100, seed, tmp_path) for seed in (1, 1, 2))
    assert len(seen) == 300
    assert (first.n_pool, first.images.num_rows) == (n, 100)
    ids = [sample.images["image_id"].to_pylist() for sample in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] == sorted(set(ids[0]))
    assert first.header_s.value > 0


def test_sizes_and_places_of_images(data: Path, tmp_path: Path) -> None:
    image = data / "images" / "pool-000.png"
    tar = tmp_path / "shard.tar"
    tar.write_bytes(b"x" * 100)
    uris = [str(image), f"{tar}#10+7", str(tmp_path / "missing.png")]
    assert encoded_bytes(uris, Storage()) == [image.stat().st_size, 7]
    assert remote_share([str(image), "s3://bucket/a.jpg", "file:///a.jpg", "https://host/a.jpg"]) == 0.5
