"""A cluster of two machines (node processes on this one) that loses a worker, or a machine, in mid-stage."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from poolscout.config import EngineConfig, ScoringConfig
from poolscout.engine import Executor, SerialExecutor, open_executor
from poolscout.engine.progress import SilentProgress, Task
from poolscout.errors import ConfigError
from poolscout.loop import run
from poolscout.scoring import score_pool
from poolscout.selection.kernels import diverse
from poolscout.selection.kernels.diverse import pick_diverse
from poolscout.selection.registry import Candidates
from poolscout.tables.manifest import file_hash
from tests.loop.tiny import selections, tiny_config, write_data
from tests.scoring.pools import HEIGHT, WIDTH, MadeUpImages, parts_bytes, pool_rows, real_member
from tests.selection.kernels.pools import clips, rule

IDS = [f"seq/{number:03d}.jpg" for number in range(300)]
CONFIG = ScoringConfig(batch_size=2, shard_size=50)


@pytest.fixture(scope="module")
def head() -> Iterator[Cluster]:
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    node = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """Two machines, of which one may be lost."""
    second = head.add_node(num_cpus=1)
    head.wait_for_nodes()
    yield head
    ray.shutdown()
    if second in head.list_all_nodes():
        head.remove_node(second)


def settings(cluster: Cluster, workers: int = 2) -> EngineConfig:
    return EngineConfig(name="ray", workers=workers, address=cluster.address)


class Slow(MadeUpImages):
    """So that the machine is lost while it works."""

    def read(self, image_id: str) -> np.ndarray:
        time.sleep(0.005)
        return super().read(image_id)


class Deadly(MadeUpImages):
    """One image kills the process that reads it, once."""

    def __init__(self, ids: list[str], marker: Path) -> None:
        super().__init__(ids)
        self.marker = marker

    def read(self, image_id: str) -> np.ndarray:
        if image_id == IDS[120] and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(image_id)


def score(out: Path, reader: MadeUpImages, executor: Executor, **more: Any) -> dict[str, bytes]:
    members = [real_member(0), real_member(1)]
    score_pool(pool_rows(IDS), reader, members, CONFIG, out, height=HEIGHT, width=WIDTH, executor=executor, **more)
    return parts_bytes(out)


def test_a_lost_machine_and_a_lost_worker_change_no_byte(cluster: Cluster, tmp_path: Path) -> None:
    whole = score(tmp_path / "whole", MadeUpImages(IDS), SerialExecutor())
    second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    lost: list[int] = []

    def lose(done: int, _: int) -> None:
        if done >= 100 and not lost:
            lost.append(done)
            cluster.remove_node(second, allow_graceful=False)

    with open_executor(settings(cluster)) as executor:
        assert score(tmp_path / "machine", Slow(IDS), executor, progress=lose) == whole
        assert lost
        assert is_one_left()
        marker = tmp_path / "died"
        assert score(tmp_path / "worker", Deadly(IDS, marker), executor) == whole
        assert marker.exists()


def test_selection_begins_anew_when_a_machine_is_lost_and_picks_the_same(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diverse, "SPREAD_FROM", 1)
    rows, weight = clips(4000, 16), np.random.default_rng(0).random(4000)
    chosen = rule("coreset", weight)
    alone = pick_diverse(Candidates(4000, weight, rows), chosen, 600).positions.tolist()
    second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    monkeypatch.setattr(diverse, "ActorFleet", _losing(cluster, second))
    with open_executor(settings(cluster)) as executor:
        spread = pick_diverse(Candidates(4000, weight, rows, executor=executor), chosen, 600)
        assert spread.positions.tolist() == alone
        assert is_one_left()


def test_a_machine_that_is_lost_while_it_trains_changes_no_pick(cluster: Cluster, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    changes: dict[str, Any] = {"rounds": 1, "training__min_steps": 60, "training__max_steps": 60}
    run(tiny_config(data, **changes), tmp_path / "alone")
    losing = LosingWhileTraining(cluster)
    engine = {"engine__name": "ray", "engine__workers": 2, "engine__address": cluster.address}
    run(tiny_config(data, **changes, **engine), tmp_path / "spread", progress=losing)
    assert losing.lost_at == ["round 0: training on 8 images"]
    assert selections(tmp_path / "spread") == selections(tmp_path / "alone")
    for name in ("round-000", "round-001"):
        alone, spread = (
            [file_hash(member) for member in sorted((tmp_path / run / name / "models").glob("*.safetensors"))]
            for run in ("alone", "spread")
        )
        assert alone == spread
        assert len(alone) == 2


class LosingWhileTraining(SilentProgress):
    """A machine is lost once both members of the first ensemble have been trained for a while."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.title, self.lost_at = cluster, "", list[str]()

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        self.title = title
        yield self

    def update(self, done: int, note: str = "") -> None:
        if "training" in self.title and done >= 30 and not self.lost_at:
            self.lost_at.append(self.title)
            second = next(node for node in self.cluster.list_all_nodes() if node is not self.cluster.head_node)
            self.cluster.remove_node(second, allow_graceful=False)


def is_one_left() -> bool:
    """Whether the cluster has found out that it lost a machine; it asks every few seconds."""
    end = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 1 and time.monotonic() < end:
        time.sleep(0.2)
    return sum(node["Alive"] for node in ray.nodes()) == 1


def _losing(cluster: Cluster, node: Any) -> type:
    """A fleet whose first one loses a machine at its third sweep."""
    nodes = [node]

    class Losing(diverse.ActorFleet):
        asked = 0

        def candidates(self, bound: float, now: float) -> list:
            self.asked += 1
            if nodes and self.asked == 3:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            return super().candidates(bound, now)

    return Losing


def test_a_cluster_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="no Ray cluster can be joined at '127.0.0.1:1'"):
        open_executor(EngineConfig(name="ray", address="127.0.0.1:1")).__enter__()
