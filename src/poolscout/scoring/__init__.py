"""Scoring: how much would an ensemble learn from an image? Higher = more informative."""

from poolscout.scoring.api import View, gives_of, map_scorers, score_maps, view
from poolscout.scoring.plan import check_scoring
from poolscout.scoring.pool_pass import ScoringSummary, score_pool

__all__ = [
    "ScoringSummary", "View", "check_scoring", "gives_of", "map_scorers", "score_maps", "score_pool", "view",
]  # fmt: skip
