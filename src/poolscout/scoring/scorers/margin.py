"""How close a second class comes to each final box's own."""

from poolscout.detector.decode import Detections
from poolscout.detector.gives import CLASS_PROBABILITIES
from poolscout.scoring.boxes import BoxScores
from poolscout.scoring.registry import ENSEMBLE_BOXES, scorer


@scorer(
    ENSEMBLE_BOXES,
    also=(CLASS_PROBABILITIES,),
    unit="1",
    most=1.0,
    gives="boxes",
    blurred=("max", "average", "sum", "top_k"),
)
def margin(found: Detections) -> BoxScores:
    """1 − |p_c − max_{k≠c} p_k| with c the box's own class: 1 when another class is as probable here.

    Needs the probability of every class at the box, never made up from the best one. With a single class it is
    1 − p. Range 0…1 a box, without a unit. Source: Brust et al. 2019, eq. 1 (1-vs-2), without the square.
    """
    assert found.class_probabilities is not None
    others = found.class_probabilities.scatter(1, found.classes[:, None], 0.0)
    return BoxScores(found.images, found.classes, 1 - (found.probabilities - others.amax(1)).abs())
