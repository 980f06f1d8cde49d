"""All that is wrong with a file, gathered by kind, for one error instead of one at a time."""

from __future__ import annotations

from poolscout.errors import AnnotationError, some


class Faults:
    """Kinds of fault, each with who has it; raises once, naming the first few of every kind."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[str]] = {}

    def add(self, kind: str, who: object) -> None:
        self._by_kind.setdefault(kind, []).append(str(who))

    @property
    def count(self) -> int:
        return sum(len(who) for who in self._by_kind.values())

    def raise_if_any(self, problem: str, *, expected: str, fix: str) -> None:
        """Raise what was gathered.

        Raises:
            AnnotationError: `problem`, with the count and the first few of every kind under `got`.
        """
        if self._by_kind:
            kinds = [f"{kind} ({len(who)}): {some(who)}" for kind, who in self._by_kind.items()]
            raise AnnotationError(problem, got="; ".join(kinds), expected=expected, fix=fix)
