"""Selection: which images to label next, in pick order."""

from poolscout.selection.api import select
from poolscout.selection.tables import candidate_rows, check_sampler, select_images

__all__ = ["candidate_rows", "check_sampler", "select", "select_images"]
