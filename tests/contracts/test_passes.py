"""A pass over a pool gives the same bytes whoever does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import ray

from poolscout.config import EngineConfig, ScorerChoice, ScoringConfig
from poolscout.detector.sharded import one_thread, restored_threads
from poolscout.engine import Executor, SerialExecutor, executor_names, open_executor
from poolscout.errors import DataError
from poolscout.pool import QuarantineLimit
from poolscout.scoring import ScoringSummary, score_pool
from poolscout.training import train_ensemble
from tests.embedding.scenes import run, small
from tests.scoring.pools import HEIGHT, WIDTH, MadeUpImages, parts_bytes, pool_rows, real_member
from tests.training.test_ensemble import SHORT, TINY, make_data

IDS = [f"seq/{number:03d}.jpg" for number in range(90)]
SCORERS = (ScorerChoice(scorer="mutual_information"), ScorerChoice(scorer="mc_dropout", aggregate="average"))
CONFIG = ScoringConfig(scorers=SCORERS, batch_size=4, shard_size=20)
REMOTE = [name for name in executor_names() if name not in ("serial", "threads")]


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def executor_of(one_ray: None) -> Iterator[Callable[[str], Executor]]:
    """By name; each is opened once, so that actors take one work after the other, as they do in a run."""
    with ExitStack() as stack:
        opened: dict[str, Executor] = {}

        def of(name: str) -> Executor:
            if name not in opened:
                settings = EngineConfig(name=name, workers=None if name == "serial" else 2)
                opened[name] = stack.enter_context(open_executor(settings))
            return opened[name]

        yield of


def score(out: Path, executor: Executor, broken: list[str], limit: QuarantineLimit | None = None) -> ScoringSummary:
    members = [real_member(0), real_member(1)]
    return score_pool(
        pool_rows(IDS), MadeUpImages(IDS, broken), members, CONFIG, out, height=HEIGHT, width=WIDTH,
        executor=executor, limit=limit,
    )  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("reference")
    assert score(out, SerialExecutor(), IDS[3:5]) == ScoringSummary(n_scored=88, n_rejected=2, n_kept=0)
    return parts_bytes(out)


@pytest.mark.parametrize("engine", ["threads", *REMOTE])
def test_scores_embeddings_and_detections_are_the_same_bytes(
    engine: str, executor_of: Callable[[str], Executor], reference: dict[str, bytes], tmp_path: Path
) -> None:
    assert score(tmp_path, executor_of(engine), IDS[3:5]) == ScoringSummary(n_scored=88, n_rejected=2, n_kept=0)
    assert parts_bytes(tmp_path) == reference
    assert score(tmp_path, executor_of(engine), []).n_kept == 90, "nothing is done twice"


@pytest.mark.parametrize("engine", REMOTE)
def test_embeddings_of_a_backbone_are_the_same_bytes(
    engine: str, executor_of: Callable[[str], Executor], tmp_path: Path
) -> None:
    backbone = small(tmp_path / "weights.safetensors")
    for name in ("threads", engine):
        run(MadeUpImages(IDS), backbone, tmp_path / name, shard_size=30, executor=executor_of(name))
    assert parts_bytes(tmp_path / engine) == parts_bytes(tmp_path / "threads")


@pytest.mark.parametrize("engine", ["threads", *REMOTE])
def test_too_many_bad_images_stop_the_pass_and_what_is_finished_is_kept(
    engine: str, executor_of: Callable[[str], Executor], tmp_path: Path
) -> None:
    limit = QuarantineLimit(0.05, len(IDS))
    with pytest.raises(DataError, match=r"too many images cannot be used: 11 of 90"):
        score(tmp_path, executor_of(engine), IDS[29:40], limit)
    assert score(tmp_path, executor_of(engine), []).n_kept >= 20


@pytest.mark.parametrize("engine", REMOTE)
def test_members_are_the_same_bytes_and_their_progress_is_told(
    engine: str, executor_of: Callable[[str], Executor], tmp_path: Path
) -> None:
    data, told = make_data([str(i) for i in range(8)]), {}
    for name in ("serial", engine):
        with restored_threads():
            one_thread()
            train_ensemble(
                data, ["a"], TINY, SHORT, tmp_path / name, members=3, seed=0, executor=executor_of(name),
                progress=lambda i, state, name=name: told.setdefault(name, []).append((i, state.step)),
            )  # fmt: skip
    assert sorted(told[engine]) == told["serial"] == [(0, 10), (1, 10), (2, 10)]
    for path in (tmp_path / "serial").iterdir():
        assert (tmp_path / engine / path.name).read_bytes() == path.read_bytes(), path.name
