"""How far apart the members draw the box of one object."""

from poolscout.detector.decode import Detections
from poolscout.detector.gives import MEMBERS
from poolscout.scoring.boxes import BoxScores, match_members
from poolscout.scoring.registry import MEMBER_BOXES, scorer


@scorer(MEMBER_BOXES, also=(MEMBERS,), unit="1", most=1.0, gives="boxes", blurred=("max", "average", "sum", "top_k"))
def box_disagreement(found: list[Detections]) -> BoxScores:
    """1 − mean_e IoU(b_e, b̄) over the members' boxes b_e of one object, b̄ their mean box.

    Boxes are matched over members within a class (`boxes.match_members`); an object that one member alone sees has
    no spread and is left out: whether it is there is what `mutual_information` asks. Range 0…1 an object, without a
    unit. Source: the spread of localisation over an ensemble, as the stability of Kao et al. 2018, section 3.2, is
    over noise.
    """
    return match_members(found)
