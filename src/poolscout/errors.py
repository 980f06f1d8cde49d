"""Everything poolscout raises on purpose.

    PoolscoutError                exit code 1   base: message says got, expected, fix
    ├── ConfigError               exit code 2   a config file or command-line value is wrong
    ├── DataError                 exit code 4   an input file (images, annotations, labels) is wrong
    │   └── AnnotationError                     … its boxes, classes or image references are
    ├── TableError                exit code 5   an artefact on disk is not what its declaration says
    │   └── CorruptPartError                    … its bytes are not those that were written
    ├── RunError                  exit code 6   a run folder cannot be used this way
    │   ├── OtherRunError                       … it holds another run
    │   └── RunLockedError                      … another process is writing to it
    ├── NonFiniteError            exit code 7   NaN or infinity where a number must be; names the images
    ├── CapabilityError           exit code 8   a scorer needs what the detector cannot give
    ├── StorageError              exit code 9   the disk is full, or refuses
    └── WorkerLostError           exit code 10  a worker process or machine died, again and again

Exit code 3 is no error: a run that waits for labels (`poolscout run` with `labelling.mode: files`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar

LONGEST = 4000  # characters of what is wrong, and of each line below it


class PoolscoutError(Exception):
    """Base of every deliberate error.

    Args:
        problem: what is wrong and where (names the file, column or key).
        got: what was found.
        expected: what would have been right.
        fix: what the reader can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, got: object = None, expected: object = None, fix: str | None = None) -> None:
        self.problem, self.got, self.expected, self.fix = problem, got, expected, fix
        lines = [_cut(problem)]
        if got is not None:
            lines.append(f"  got:      {_cut(got)}")
        if expected is not None:
            lines.append(f"  expected: {_cut(expected)}")
        if fix is not None:
            lines.append(f"  fix:      {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come from worker processes too; subclasses are made from other arguments."""
        return _restored, (type(self), self.args, self.__dict__)


def _cut(value: object) -> str:
    """The value in words that fit a page, whatever a malformed file made of it."""
    text = str(value)
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2  # what is wrong stands at the end, after a name without limit
    return f"{text[:half]} … ({len(text):,} characters) … {text[-half:]}"


def _restored(kind: type[PoolscoutError], args: tuple[Any, ...], state: dict[str, Any]) -> PoolscoutError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(PoolscoutError):
    exit_code = 2


class DataError(PoolscoutError):
    exit_code = 4


class AnnotationError(DataError):
    pass


class TableError(PoolscoutError):
    exit_code = 5


class CorruptPartError(TableError):
    pass


class RunError(PoolscoutError):
    exit_code = 6


class OtherRunError(RunError):
    pass


class RunLockedError(RunError):
    pass


class NonFiniteError(PoolscoutError):
    exit_code = 7


class CapabilityError(PoolscoutError):
    exit_code = 8


class StorageError(PoolscoutError):
    exit_code = 9


class WorkerLostError(PoolscoutError):
    exit_code = 10


def nearest(word: str, known: Iterable[str]) -> str:
    """`", did you mean 'x'?"`, or an empty string when nothing known is close to `word`."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else ""


def some(items: Iterable[object], most: int = 5) -> str:
    """The first few of `items` for an error message, with the count of those left out."""
    shown = [str(item) for item in items]
    tail = f" … and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + tail
