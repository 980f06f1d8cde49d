"""Kinds of malformed input: how one is made from a seed, and the public function that must not stumble over it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import poolscout
from poolscout.errors import PoolscoutError
from tests.pool.images import save

Outcome = Literal["refused", "quarantined", "succeeded"]
SECRET = "secret.png"  # a good image beside the folder of a malformed input; nothing may open it

# Where a program may read whatever its inputs say: its own code, the system's, and devices.
_OWN = tuple(str(path) for path in (
    sys.prefix, sys.base_prefix, Path(poolscout.__file__).parents[2], "/usr", "/lib", "/proc", "/sys", "/dev",
    "/etc/ssl",
))  # fmt: skip
SHARED: list[str] = []  # and what inputs of a kind have in common
_opened: list[str] | None = None


@dataclass(frozen=True)
class Kind:
    """One kind of malformed input.

    Attributes:
        n: how many of them the test suite tries.
        make: writes the input of a seed into a folder.
        read: does with that folder what a command would do, and checks what comes out; raises PoolscoutError, or says
            whether rows went into quarantine.
    """

    name: str
    n: int
    make: Callable[[Random, Path], None]
    read: Callable[[Path], Outcome]

    def made(self, seed: int, folder: Path) -> Path:
        """The malformed input of a seed, in a folder of its own."""
        inside = folder / "in"
        inside.mkdir(parents=True)
        save(folder / SECRET)
        self.make(Random(f"{self.name}/{seed}"), inside)
        return inside

    def outcome(self, seed: int, folder: Path) -> Outcome:
        """What becomes of the input of a seed: anything but a PoolscoutError comes out as it is."""
        inside = self.made(seed, folder)
        with watched() as opened:
            try:
                found = self.read(inside)
            except PoolscoutError as error:
                check_message(error)
                found = "refused"
        outside = {path for path in opened if not _is_allowed(path, inside)}
        assert not outside, f"opened outside its folder: {outside}"
        return found


def check_message(error: PoolscoutError) -> None:
    """An error says what is wrong, and two of what was found, what would be right and what to do; on a page."""
    assert error.problem, error
    assert sum(part is not None for part in (error.got, error.expected, error.fix)) >= 2, error
    assert len(str(error)) < 20_000, str(error)[:500]


def digest(folder: Path) -> str:
    """Of the names and bytes of all files."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(repr(path.relative_to(folder)).encode())
            whole.update(path.read_bytes())
    return whole.hexdigest()


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        path = arguments[0]
        _opened.append(path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path)


sys.addaudithook(_audit)  # one for all: it cannot be taken away again


@contextmanager
def watched() -> Iterator[list[str]]:
    """Every path that is opened in the block, by any thread."""
    global _opened
    _opened = opened = []
    try:
        yield opened
    finally:
        _opened = None


def _is_allowed(path: str, inside: Path) -> bool:
    real = Path(path).resolve()
    at_home = real.is_relative_to(inside.resolve()) or any(real.is_relative_to(own) for own in (*_OWN, *SHARED))
    return at_home or not real.is_file()
