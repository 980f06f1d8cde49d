"""The paper's figures, to stand beside ours: two data sets, two detectors, so only ranks and gains can be compared.

Source: Haussmann et al. 2020, "Scalable Active Learning for Object Detection", arXiv:2004.04699, Tables I to III, V and
the text of sections IV and V. Of Table IV only the text is used: in the copies at hand its rows are shifted and
contradict it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DATA = "847,000 road images of NVIDIA (not public), 5 classes, 100,000 labelled and 200,000 more picked"
RANDOM = "random"


@dataclass(frozen=True)
class Line:
    """A row of a table of the paper.

    Attributes:
        name: our name of the same strategy.
        title: what the paper calls it.
        wmap: in percent.
    """

    name: str
    title: str
    wmap: float


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        title: its number and what it compares.
        lines: its rows; one of them is `random`.
        note: what a reader must know.
    """

    title: str
    lines: tuple[Line, ...]
    note: str = ""


SCORING = Table(
    "Table I: scoring functions",
    (
        Line(RANDOM, "random", 73.36),
        Line("mc-dropout-max", "MC-dropout", 71.98),
        Line("entropy-max", "Entropy, max", 75.21),
        Line("entropy-average", "Entropy, average", 73.53),
        Line("grad-max", "Grad, max", 74.98),
        Line("grad-average", "Grad, average", 74.72),
        Line("det-ent-max", "Det-Ent, max", 74.40),
        Line("det-ent-sum", "Det-Ent, sum", 75.71),
        Line("mi-max", "MI, max", 75.30),
        Line("mi-average", "MI, average", 74.86),
    ),
    "The paper notes that Det-Ent favours images with many objects, so that its labels cost more.",
)
SAMPLING = Table(
    "Table II: which end of the ranking by mutual information",
    (
        Line(RANDOM, "random", 73.36),
        Line("top-n", "top-N", 75.30),
        Line("top-third", "top-third", 74.79),
        Line("half-half", "top-N/2, bottom-N/2", 74.02),
        Line("bottom-n", "bottom-N", 68.01),
    ),
    "Random is Table I's: Table II has none, and its top-N is Table I's MI, max.",
)


def diversity(embeddings: Sequence[str]) -> Table:
    """Table III; what it measures with VGG's embeddings stands beside our embeddings of these names."""
    own = (
        Line(RANDOM, "random", 69.70),
        Line("top-n", "top-N", 70.38),
        Line("kmeanspp-euclidean", "KMPP, Euclidean, own", 70.17),
        Line("coreset-euclidean", "CS, Euclidean, own", 70.89),
        Line("coreset-cosine", "CS, cosine, own", 71.33),
        Line("omp-euclidean", "OMP, Euclidean, own", 70.71),
        Line("omp-cosine", "OMP, cosine, own", 71.32),
    )
    other = (
        ("kmeanspp-euclidean", "KMPP, Euclidean, VGG", 71.22),
        ("coreset-euclidean", "CS, Euclidean, VGG", 71.09),
        ("coreset-cosine", "CS, cosine, VGG", 70.90),
        ("omp-euclidean", "OMP, Euclidean, VGG", 70.82),
        ("omp-cosine", "OMP, cosine, VGG", 70.25),
    )
    lines = tuple(Line(f"{name}-{kind}", title, wmap) for kind in embeddings for name, title, wmap in other)
    note = "“own” are embeddings of the detector itself, VGG those of a network trained on ImageNet."
    return Table("Table III: diverse picks", own + lines, note)


def table_of(kind: str, embeddings: Sequence[str]) -> Table | None:
    """The table that an experiment repeats; None for the loop, of which only LOOP is certain."""
    return {"scoring": SCORING, "sampling": SAMPLING, "diversity": diversity(embeddings)}.get(kind)


@dataclass(frozen=True)
class Statement:
    """What the paper's text says of one strategy beside another.

    Attributes:
        words: what is measured.
        paper: as the paper puts it.
        ours, beside: names of the strategies.
        of: "wMAP", the relative gain of the one over the other; "images", the share of labelled images.
    """

    words: str
    paper: str
    ours: str
    beside: str
    of: str


LOOP = (
    Statement("wMAP of [X_u, X_l] over random, last round", "+5.5 %", "xu-xl", RANDOM, "wMAP"),
    Statement("wMAP of [X_u, X_l] over X_u, last round", "+5 %", "xu-xl", "xu", "wMAP"),
    Statement("labelled images of [X_u, X_l], as a share of random's", "42 %", "xu-xl", RANDOM, "images"),
)
LOOP_NOTE = (
    "Said in the text of section IV, of the third iteration. The single cells of Table IV are left out: its rows are "
    "shifted in the copies at hand and contradict this text."
)

# Table V: relative gain over the reference model, in percent: class → (manual, active learning).
AB_BOTH = {"bicycle": (1.36, 5.94), "person": (0.74, 3.28), "car": (0.62, 1.07)}
AB_MANUAL = {"bicycle": (2.28, 3.18), "person": (1.28, 1.35), "car": (0.58, 0.28)}
AB_DATA = "2,000,000 night frames of NVIDIA (not public), 19,000 picked by each arm, three repeats"
AB_NOTE = (
    "The paper's text says 3 × for person (3.3 against 1.1) and 4.4 × for bicycle; its table has 0.74 for the manual "
    "arm's person, which would be 4.4 ×, too. Labelling cost of the arms: within 5 %; objects: 12 % more with active "
    "learning."
)
