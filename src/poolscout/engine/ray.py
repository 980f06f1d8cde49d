"""A Ray cluster, local or joined: actors that are set up once. The only place that imports ray.

Actors are replaced here and not by Ray: an actor that Ray restarts waits for the resources it had, and on a cluster
that has lost a machine these may never come back, while other actors could do its work.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from typing import Any, ClassVar

from poolscout.config import EngineConfig
from poolscout.engine.base import Item, Listener, Result, call_telling, register_executor
from poolscout.engine.local import ready
from poolscout.engine.memory import keep_freed_memory
from poolscout.errors import CapabilityError, ConfigError, WorkerLostError

PATIENCE_S = 600.0  # how long a cluster may have no actor at all; machines take minutes to come
KNOCK_S = 10.0
START_S = 180.0  # how long actors that must all be there may take to start
LISTEN_EVERY_S = 0.5
ITEMS_AN_ACTOR = 2  # one is done, the next is there already


@dataclass
class _Actor:
    handle: Any
    started: Any  # resolves when it is set up
    is_ready: bool = False
    doing: list[_Ahead] = field(default_factory=list)


@dataclass
class _Ahead:
    item: Any
    ref: Any = None
    result: Any = None
    error: Exception | None = None  # what the function raised; the reader's when it is this item's turn
    is_done: bool = False
    lost: int = 0


class RayExecutor:
    """Actors on a cluster; functions and items are pickled.

    Args:
        settings: of the engine; without workers there are as many as the cluster has cores, or room on its GPUs.

    Raises:
        CapabilityError: ray is not installed.
        ConfigError: the cluster cannot be joined.
    """

    shares_memory: ClassVar[bool] = False
    has_actors: ClassVar[bool] = True

    def __init__(self, settings: EngineConfig) -> None:
        self._settings = settings
        self._is_mine = _join(settings)
        self.uses_gpus = settings.gpus_per_worker > 0
        self.workers = settings.workers or _room(settings, _cluster_resources())
        if not self.workers:
            raise ConfigError(
                "the Ray cluster has no room for a single worker", got=f"resources {_cluster_resources()}",
                expected=f"a core{' and a GPU' if self.uses_gpus else ''} for each",
                fix="start Ray on machines that have them, or set engine.gpus_per_worker to 0",
            )  # fmt: skip
        self._pool = _Pool(settings)

    def map(
        self, function: Callable[..., Result], items: Iterable[Item], *, setup: Callable[[], object] | None = None,
        listener: Listener | None = None,
    ) -> Iterator[Result]:  # fmt: skip
        import ray

        source = iter(items)
        first = list(islice(source, ITEMS_AN_ACTOR * self.workers))
        if not first:
            return
        mailbox = None if listener is None else _mailbox()
        n = min(self.workers, len(first))
        fleet = _Fleet(self._pool, ray.put((function, setup)), mailbox, n, self._settings.retries)
        ahead = deque(_Ahead(item) for item in first)
        heard = time.monotonic()
        try:
            while ahead:
                fleet.hand_out(ahead)
                fleet.collect()
                if mailbox is not None and time.monotonic() - heard > LISTEN_EVERY_S:
                    _listen(mailbox, listener)
                    heard = time.monotonic()
                while ahead and ahead[0].is_done:
                    done = ahead.popleft()
                    if done.error is not None:
                        raise done.error
                    for item in islice(source, 1):
                        ahead.append(_Ahead(item))
                    yield done.result
            if mailbox is not None:
                _listen(mailbox, listener)
        finally:
            fleet.close()
            if mailbox is not None:
                ray.kill(mailbox)

    def actors(self, function: Callable[..., Any], setups: Iterable[Callable[[], object]]) -> RayActors:
        return RayActors(self._pool, function, setups)

    def room(self) -> int:
        import ray

        return min(self.workers, self._pool.n_idle + _room(self._settings, ray.available_resources()))

    def close(self) -> None:
        """Stop a Ray that this started; a cluster that was joined goes on."""
        self._pool.close()
        if self._is_mine:
            import ray

            ray.shutdown()


class _Pool:
    """Actors that have nothing to do: a new one takes seconds, until it has imported torch."""

    def __init__(self, settings: EngineConfig) -> None:
        self.needs_gpu = settings.gpus_per_worker > 0
        self._gpus, self._idle = settings.gpus_per_worker, list[Any]()

    @property
    def n_idle(self) -> int:
        return len(self._idle)

    def take(self) -> Any:
        import ray

        if self._idle:
            return self._idle.pop()
        # Never restarted by Ray, spread over the machines.
        options = ray.remote(num_cpus=1, num_gpus=self._gpus, max_restarts=0, scheduling_strategy="SPREAD")
        return options(_Worker).remote()

    def give_back(self, handle: Any) -> None:
        handle.rest.remote()
        self._idle.append(handle)

    def close(self) -> None:
        import ray

        for handle in self._idle:
            ray.kill(handle)
        self._idle = []


class _Fleet:
    """The actors of one map."""

    def __init__(self, pool: _Pool, work: Any, mailbox: Any, n: int, retries: int) -> None:
        self._pool, self._work, self._mailbox, self._n, self._retries = pool, work, mailbox, n, retries
        self._actors: list[_Actor] = []
        self._last_loss = ""
        self._had_one = time.monotonic()
        self._lost_idle = 0  # actors that died while they were set up

    def hand_out(self, ahead: Iterable[_Ahead]) -> None:
        """Give what nobody does yet, in order and up to an error, to the actors that have least to do."""
        while len(self._actors) < self._n:
            handle = self._pool.take()
            self._actors.append(_Actor(handle, handle.set_up.remote(self._work, self._mailbox)))
        able = [actor for actor in self._actors if actor.is_ready]
        for one in takewhile(lambda one: one.error is None, ahead):
            actor = min(able, key=lambda a: len(a.doing), default=None)
            if actor is None or len(actor.doing) == ITEMS_AN_ACTOR:
                break
            if one.ref is None and not one.is_done:
                one.ref = actor.handle.work.remote(one.item)
                actor.doing.append(one)

    def collect(self) -> None:
        """Wait a little for whatever comes, and take note of it: results, actors that are ready, actors that died.

        Raises:
            what setting an actor up raised.
            WorkerLostError: an item's actors were lost too often, or the cluster has had none for minutes.
        """
        import ray

        waiting = [actor.started for actor in self._actors if not actor.is_ready]
        waiting += [one.ref for actor in self._actors for one in actor.doing]
        ray.wait(waiting, timeout=LISTEN_EVERY_S)
        came = set(ray.wait(waiting, num_returns=len(waiting), timeout=0)[0])
        for actor in list(self._actors):
            try:
                if not actor.is_ready and actor.started in came:
                    _get(actor.started)
                    actor.is_ready = True
                for one in [one for one in actor.doing if one.ref in came]:
                    try:
                        one.result = _get(one.ref)
                    except _Lost:
                        raise
                    except Exception as error:
                        one.error = error
                    one.is_done, one.ref = True, None
                    actor.doing.remove(one)
            except _Lost as loss:
                self._last_loss = str(loss)
                self._lose(actor)
        if any(actor.is_ready for actor in self._actors):
            self._had_one = time.monotonic()
        elif time.monotonic() - self._had_one > PATIENCE_S:
            raise WorkerLostError(
                f"the cluster has given no worker for {PATIENCE_S:.0f} s", got=f"resources {ray.available_resources()}",
                expected=f"a free core{' and a GPU' if self._pool.needs_gpu else ''}",
                fix="see `ray status`; what is finished is kept, the same command goes on from here",
            )  # fmt: skip

    def _lose(self, actor: _Actor) -> None:
        """Its items go to others; the first one was under way, the next only waited."""
        self._actors.remove(actor)
        for one in actor.doing:
            one.ref = None
        if actor.doing:
            actor.doing[0].lost += 1
        else:
            self._lost_idle += 1
        lost = actor.doing[0].lost if actor.doing else self._lost_idle / self._n
        if lost > self._retries:
            raise _given_up(self._retries + 1, self._last_loss)

    def close(self) -> None:
        import ray

        for actor in self._actors:
            if actor.is_ready and not actor.doing:
                self._pool.give_back(actor.handle)
            else:
                ray.kill(actor.handle)


class RayActors:
    """Actors that each hold a part of something: none can be replaced by another."""

    def __init__(self, pool: _Pool, function: Callable[..., Any], setups: Iterable[Callable[[], object]]) -> None:
        import ray

        self._pool, self._is_whole = pool, True
        works = [ray.put((function, setup)) for setup in setups]
        self._handles = [pool.take() for _ in works]
        started = [one.set_up.remote(work, None) for one, work in zip(self._handles, works, strict=True)]
        try:
            if len(ray.wait(started, num_returns=len(started), timeout=START_S)[0]) < len(started):
                raise _Lost(f"no room for {len(started)} actors within {START_S:.0f} s")
            self._all(started)
        except BaseException as error:
            self._is_whole = False
            self.close()
            if isinstance(error, _Lost):
                raise _part_lost(error) from error
            raise

    def call(self, items: Sequence[Any]) -> list[Any]:
        return self._all([handle.work.remote(item) for handle, item in zip(self._handles, items, strict=True)])

    def _all(self, refs: Sequence[Any]) -> list[Any]:
        try:
            return [_get(ref) for ref in refs]
        except _Lost as error:
            self._is_whole = False
            raise _part_lost(error) from error

    def close(self) -> None:
        import ray

        for handle in self._handles:
            if self._is_whole:
                self._pool.give_back(handle)
            else:
                ray.kill(handle)
        self._handles = []


class _Worker:
    """What an actor does."""

    def set_up(self, work: tuple[Callable[..., Any], Callable[[], object] | None], mailbox: Any) -> None:
        import ray

        keep_freed_memory()
        # Waited for: a message is there before the result that comes after it.
        listener = None if mailbox is None else (lambda message: ray.get(mailbox.put.remote(message)))
        self._ready = partial(call_telling, listener, ready(*work))

    def work(self, item: Any) -> Any:
        return self._ready(item)

    def rest(self) -> None:
        """Let go of what was set up."""
        del self._ready


class _Mailbox:
    def __init__(self) -> None:
        self._messages: list[Any] = []

    def put(self, message: Any) -> None:
        self._messages.append(message)

    def take(self) -> list[Any]:
        messages, self._messages = self._messages, []
        return messages


def _mailbox() -> Any:
    """On the machine of this process, so that it is not lost with another one."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()


def _listen(mailbox: Any, listener: Listener | None) -> None:
    assert listener is not None
    for message in _get(mailbox.take.remote()):
        listener(message)


class _Lost(Exception):
    """Ray has lost an actor, its machine or what it held."""


def _get(ref: Any) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(ref)
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, Exception) else error from None
    except RayError as error:  # died, killed for memory, unavailable, its machine gone, …
        raise _Lost(str(error).strip().splitlines()[0] or type(error).__name__) from error


def _part_lost(error: _Lost) -> WorkerLostError:
    return WorkerLostError(
        "an actor that held a part of the work is gone", got=str(error),
        expected="actors that live until the stage is done", fix="start the same command again",
    )  # fmt: skip


def _given_up(times: int, last: str) -> WorkerLostError:
    return WorkerLostError(
        "workers are lost again and again", got=f"{times} of them while the same work was under way; the last: {last}",
        expected="workers that live",
        fix="look into Ray's logs: often memory has run out (fewer engine.workers, a smaller scoring.batch_size); "
        "what is finished is kept, the same command goes on from here",
    )  # fmt: skip


def _join(settings: EngineConfig) -> bool:
    """Connect to the cluster, or start a local one; True where Ray was started by this."""
    try:
        import ray
    except ImportError as error:
        raise CapabilityError(
            "engine: ray is not installed", got=str(error), expected="the package ray",
            fix="pip install 'poolscout[ray]', or set engine.name to threads or processes",
        ) from error  # fmt: skip
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.address is None:
        # "local": never one that happens to run here already
        ray.init(address="local", num_cpus=settings.workers, include_dashboard=False, **quiet)
        return True
    try:
        _knock(settings.address)
        ray.init(address=settings.address, **quiet)
    except Exception as error:  # ray raises ConnectionError, ValueError, RuntimeError and errors of gRPC
        raise ConfigError(
            f"engine.address: no Ray cluster can be joined at {settings.address!r}",
            got=(str(error) or type(error).__name__).splitlines()[0],
            expected="the address that `ray start --head` printed, e.g. 10.0.0.1:6379, or auto on a machine of it",
            fix="see `ray status` there; the token (RAY_AUTH_TOKEN or its file) must be the cluster's",
        ) from error
    return True


def _knock(address: str) -> None:
    """Whether anything listens there: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _cluster_resources() -> dict[str, float]:
    import ray

    return ray.cluster_resources()


def _room(settings: EngineConfig, resources: Mapping[str, float]) -> int:
    """How many workers these resources are enough for."""
    cores, share = int(resources.get("CPU", 0)), settings.gpus_per_worker
    if not share:
        return cores
    gpus = resources.get("GPU", 0.0)
    return min(cores, int(gpus / share) if share >= 1 else int(gpus) * int(1 / share))


@register_executor("ray")
def _ray(settings: EngineConfig) -> RayExecutor:
    return RayExecutor(settings)
