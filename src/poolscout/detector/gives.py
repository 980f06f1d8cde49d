"""What a detector gives to scoring, and of what kind its probabilities are."""

from __future__ import annotations

from dataclasses import dataclass

from poolscout.config import DetectorConfig

MAPS = "maps"  # p(an object of this class is centred here) at every position
MEMBERS = "several members"
BOXES = "boxes"
CLASS_PROBABILITIES = "class probabilities"  # of every class at each box, not of the best one only
HIDDEN = "hidden features"  # what the output layer multiplies, at every position
DROPOUT = "dropout"  # units that can be dropped while it looks

HOW = {
    MAPS: "score with a detector (--models) instead of its detections",
    MEMBERS: "train or bring at least 2 members (training.members, or --detections once for each)",
    BOXES: "use a detector that draws boxes",
    CLASS_PROBABILITIES: "bring a Parquet file with a column class_probabilities, or use 'detection_entropy'",
    HIDDEN: "score with a detector (--models) whose last layer is known",
    DROPOUT: "train with detector.dropout above 0, or use 'mutual_information'",
}


@dataclass(frozen=True)
class Gives:
    """A detector, or an ensemble, as a scorer sees it.

    Attributes:
        name: for error messages: "the U-Net ensemble of 3", "the detections in found.json".
        kinds: of the constants above.
        provenance: what its probabilities are: "sigmoid map, calibrated on held-back labels", "top score only", …
    """

    name: str
    kinds: frozenset[str]
    provenance: str


def unet_gives(config: DetectorConfig, n_members: int, provenance: str = "sigmoid map") -> Gives:
    """What `n_members` of our own detector give."""
    kinds = {MAPS, BOXES, CLASS_PROBABILITIES, HIDDEN}
    kinds |= {MEMBERS} if n_members > 1 else set()
    kinds |= {DROPOUT} if config.dropout > 0 else set()
    name = f"an ensemble of {n_members} U-Nets" if n_members > 1 else "a single U-Net"
    return Gives(name, frozenset(kinds), provenance)
