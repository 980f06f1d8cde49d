"""Loaded before any module of poolscout."""

# The type checker's import hook looks for compiled files under names of its own, and what a module of poolscout imports
# inherits that: a thousand modules of these packages would be compiled anew in every process of the tests.
import altair  # noqa: F401
import hypothesis  # noqa: F401
import numba  # noqa: F401
import torch  # noqa: F401
