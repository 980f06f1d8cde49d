"""Executors: map a plain function over shards. Importing this registers the local ones."""

from poolscout.engine.base import Executor, executor_names, make_executor
from poolscout.engine.local import SerialExecutor, ThreadExecutor

__all__ = ["Executor", "SerialExecutor", "ThreadExecutor", "executor_names", "make_executor"]
