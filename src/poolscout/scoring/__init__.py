"""Scoring: how much would an ensemble learn from an image? Higher = more informative."""

from poolscout.scoring.api import check_scoring, informativeness_maps, score_maps
from poolscout.scoring.pool_pass import ScoringSummary, score_pool

__all__ = ["ScoringSummary", "check_scoring", "informativeness_maps", "score_maps", "score_pool"]
