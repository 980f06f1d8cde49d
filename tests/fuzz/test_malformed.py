"""Malformed inputs end in a message, in quarantine or in a sane result; never in a traceback.

A failure is made again by its test's name: kind and seed say all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import annotation_kinds, pool_kinds, run_kinds, table_kinds
from tests.fuzz.kinds import Kind, digest

KINDS = (*pool_kinds.KINDS, *annotation_kinds.KINDS, *table_kinds.KINDS, *run_kinds.KINDS)
