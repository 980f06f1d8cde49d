"""Strategies by name: one file each in a package; a file put there is found without being listed anywhere."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, TypeVar

from poolscout.errors import ConfigError, nearest

Entry = TypeVar("Entry")
OTHER_WORDS = {"mean": "average", "avg": "average", "bald": "mutual_information", "mi": "mutual_information"}


class Registry(Generic[Entry]):
    """Entries by name, registered by the modules of `package` when they are first asked for.

    Args:
        kind: what an entry is called in an error message, e.g. "scorer".
        package: dotted name of the package whose modules register entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry

    def names(self) -> list[str]:
        """All registered names, sorted."""
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        return sorted(self._entries)

    def get(self, name: str) -> Entry:
        """The entry called `name`.

        Raises:
            ConfigError: nothing of that name; says what there is and which is nearest.
        """
        known = self.names()
        if name not in self._entries:
            meant = OTHER_WORDS.get(name.lower(), name)
            raise ConfigError(
                f"no {self.kind} {name!r}", got=name, expected=", ".join(known),
                fix=nearest(meant if meant in known else name, known) or None,
            )  # fmt: skip
        return self._entries[name]
