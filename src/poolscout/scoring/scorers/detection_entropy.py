"""Entropy of each final box."""

from poolscout.detector.decode import Detections
from poolscout.scoring.boxes import BoxScores
from poolscout.scoring.maps import LN_2, bernoulli_entropy
from poolscout.scoring.registry import ENSEMBLE_BOXES, scorer


@scorer(ENSEMBLE_BOXES, unit="nats", most=LN_2, gives="boxes", blurred=("average",))
def detection_entropy(found: Detections) -> BoxScores:
    """H(p) of the probability that a box's object is there (Det-Ent).

    Range 0…ln 2 nats a box. The paper's best variant is the sum, which favours images with many objects.
    Source: Haussmann et al. 2020, section III-A.
    """
    return BoxScores(found.images, found.classes, bernoulli_entropy(found.probabilities))
