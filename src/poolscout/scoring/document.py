"""Writes docs/scorers.md from the registered scorers and aggregates: `python -m poolscout.scoring.document FILE`."""

from __future__ import annotations

import inspect
import math
import sys
from pathlib import Path

from poolscout.scoring.plan import GIVES
from poolscout.scoring.registry import Aggregator, Scorer, aggregates, scorers
from poolscout.tables.atomic import write_text

HEAD = """# Scorers and aggregates

Generated from `src/poolscout/scoring/scorers/` and `aggregates/` by `make docs`; do not edit.

A config names any number of scorers × aggregates; one pass computes them all from the same decoded images and the
same forward passes:

```yaml
scoring:
  scorers:
    - {scorer: mutual_information, aggregate: max}
    - {scorer: entropy, aggregate: top_k, k: 20}
    - {scorer: detection_entropy, aggregate: sum}
```

Each gives a column `SCORER_AGGREGATE` of the score table (for `top_k` with k = 20 it ends in `_top_20`), the highest of
its classes, and beside it `SCORER_AGGREGATE_per_class`. The first one ranks the images; how the scores of the classes
become one is up to `selection:` (`over_classes`, `class_weights`, `normalise_classes`), so that changing it needs no
new pass. Higher is more informative, and 0 is the least. What a scorer needs and a detector does not give stops a run
before it begins.
"""


def scorers_markdown() -> str:
    """Every scorer and aggregate with what it needs and what it is."""
    rows = [_scorer_row(scorers.get(name)) for name in scorers.names()]
    text = HEAD + "\n| scorer | unit | at most | a figure | needs |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for name in scorers.names():
        text += f"\n## {name}\n\n{inspect.getdoc(scorers.get(name).function)}\n"
    text += "\n## Aggregates\n\n| aggregate | reduces | |\n|---|---|---|\n"
    return text + "".join(_aggregate_row(aggregates.get(name)) for name in aggregates.names())


def _scorer_row(one: Scorer) -> str:
    unit, figure = "–" if one.unit == "1" else one.unit, GIVES[one.gives].removeprefix("a figure ")
    return f"| [`{one.name}`](#{one.name}) | {unit} | {_most(one)} | {figure} | {', '.join(one.needs)} |"


def _most(one: Scorer) -> str:
    known = {math.log(2): "ln 2", math.inf: "no bound"}
    return known.get(one.most, f"{one.most:g}")


def _aggregate_row(one: Aggregator) -> str:
    words = " ".join((inspect.getdoc(one.function) or "").split())
    reduces = " or ".join(GIVES[kind] for kind in one.of)
    return f"| `{one.name}`{' with `k`' if one.takes_k else ''} | {reduces} | {words} |\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), scorers_markdown())
