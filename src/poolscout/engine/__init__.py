"""Executors: map a plain function over items, in threads, in processes or on a Ray cluster."""

from poolscout.engine.base import Actors, Executor, executor_names, open_executor, tell
from poolscout.engine.local import SerialExecutor, ThreadExecutor, available_cores

__all__ = [
    "Actors",
    "Executor",
    "SerialExecutor",
    "ThreadExecutor",
    "available_cores",
    "executor_names",
    "open_executor",
    "tell",
]
