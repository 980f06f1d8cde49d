"""How far each final box is from certain."""

from poolscout.detector.decode import Detections
from poolscout.scoring.boxes import BoxScores
from poolscout.scoring.registry import ENSEMBLE_BOXES, scorer


@scorer(ENSEMBLE_BOXES, unit="1", most=1.0, gives="boxes", blurred=("max", "average", "sum", "top_k"))
def least_confidence(found: Detections) -> BoxScores:
    """1 − p of a box's own class: a baseline that asks for the weakest boxes, noise included.

    Range 0…1 a box, without a unit; boxes below scoring.min_probability are not seen.
    Source: Settles 2009, section 3.1 ("least confident"), box by box as in Brust et al. 2019.
    """
    return BoxScores(found.images, found.classes, 1 - found.probabilities)
