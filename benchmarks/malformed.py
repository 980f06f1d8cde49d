"""Malformed inputs by the thousand: the kinds of tests/fuzz with more seeds, and what became of each.

Prints a table of outcomes; exit code 1 when anything ended otherwise than in a message, quarantine or a sane result.

    python benchmarks/malformed.py [--seeds 200] [--first 1000] [--kind image]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fuzz.test_malformed import KINDS


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=200, help="inputs of each kind; 0: as many as the tests try")
    arguments.add_argument("--first", type=int, default=1000, help="the first seed")
    arguments.add_argument("--kind", default="", help="only kinds whose name contains this")
    chosen = arguments.parse_args()
    warnings.simplefilter("ignore")  # decoders' own words about what is odd
    total: Counter[str] = Counter()
    print(f"{'kind':20} {'inputs':>7} {'refused':>8} {'quarantined':>12} {'succeeded':>10} {'traceback':>10}")
    for kind in (kind for kind in KINDS if chosen.kind in kind.name):
        found: Counter[str] = Counter()
        for seed in range(chosen.first, chosen.first + (chosen.seeds or kind.n)):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found[kind.outcome(seed, Path(folder))] += 1
                except Exception:
                    found["traceback"] += 1
                    print(f"{kind.name}/{seed}\n{traceback.format_exc(limit=-4)}", file=sys.stderr)
        total += found
        _print(kind.name, found)
    _print("all", total)
    return 1 if total["traceback"] else 0


def _print(name: str, found: Counter[str]) -> None:
    counts = [found[key] for key in ("refused", "quarantined", "succeeded", "traceback")]
    print(f"{name:20} {sum(counts):7} {counts[0]:8} {counts[1]:12} {counts[2]:10} {counts[3]:10}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
