"""Selection: which images to label next, in pick order."""

from poolscout.selection.api import select
from poolscout.selection.limits import needs_boxes, needs_embeddings, needs_scores
from poolscout.selection.reasons import notes_of
from poolscout.selection.tables import candidate_rows, check_constraints, check_sampler, select_images

__all__ = [
    "candidate_rows",
    "check_constraints",
    "check_sampler",
    "needs_boxes",
    "needs_embeddings",
    "needs_scores",
    "notes_of",
    "select",
    "select_images",
]
