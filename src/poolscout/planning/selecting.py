"""What a selection takes at small sizes, and how that grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from poolscout.config import RunConfig
from poolscout.config_selection import ConstraintsConfig
from poolscout.formats.embeddings import read_embeddings
from poolscout.planning.forecast import Figure, Growth
from poolscout.selection import needs_embeddings, select_images
from poolscout.tables.declared import SCORES
from poolscout.tables.parquet import float_lists, read_table

SMALLEST, LARGEST, STEP = 1_000, 64_000, 4
LONG_ENOUGH_S = 1.5
_SPREAD = 0.3  # of the drawn embeddings around a measured one, in standard deviations of all


def time_selection(scored: Path, config: RunConfig, n_candidates: int) -> Growth:
    """Time the run's sampler on embeddings and scores drawn around those of a scored sample.

    Its constraints are left out, but for the prefilter: what they cost depends on the pool as a whole.

    Args:
        scored: folder with scores/ and embeddings/ of a sample.
        config: of the run.
        n_candidates: how many there will be; the batch is scaled down with them.
    """
    draw = _drawer(scored, config)
    constraints = ConstraintsConfig(prefilter=config.selection.constraints.prefilter)
    selection = config.selection.model_copy(update={"constraints": constraints, "class_weights": None})
    if selection.over_classes == "weighted":
        selection = selection.model_copy(update={"over_classes": "mean"})
    rank_by = config.scoring.scorers[0].column

    def prepare(n: int) -> Callable[[], object]:
        candidates, embeddings = draw(n)
        batch = max(1, round(selection.n * n / n_candidates))
        return lambda: select_images(
            candidates, embeddings, selection, batch, 0, labelled=(), rank_by=rank_by, device=config.device,
        )  # fmt: skip

    return measure_growth(prepare, n_candidates)


def measure_growth(
    prepare: Callable[[int], Callable[[], object]], n_full: int, clock: Callable[[], float] = time.perf_counter
) -> Growth:
    """Time a job at larger and larger sizes until it takes a second or so, and see how it grows.

    Args:
        prepare: a size → the job of that size.
        n_full: the size that is asked about; not gone beyond.
        clock: seconds from any start.
    """
    prepare(min(SMALLEST, n_full))()  # compiles what is compiled at first use
    sizes, seconds = [min(SMALLEST, n_full)], [_timed(prepare(min(SMALLEST, n_full)), clock)]
    while seconds[-1].value < LONG_ENOUGH_S and sizes[-1] < min(LARGEST, n_full):
        sizes.append(min(STEP * sizes[-1], n_full, LARGEST))
        seconds.append(_timed(prepare(sizes[-1]), clock))
    if len(sizes) == 1:
        return Growth(sizes[0], seconds[0], Figure.exactly(1.0))
    ratio, (before, last) = math.log(sizes[-1] / sizes[-2]), seconds[-2:]
    exponents = [
        max(math.log(later / earlier) / ratio, 1.0)
        for later, earlier in ((last.value, before.value), (last.low, before.high), (last.high, before.low))
    ]
    return Growth(sizes[-1], last, Figure(*exponents))


def _timed(job: Callable[[], object], clock: Callable[[], float]) -> Figure:
    """The quicker of two times, between both."""
    taken = []
    for _ in range(2):
        begun = clock()
        job()
        taken.append(clock() - begun)
    return Figure(min(taken), min(taken), max(taken))


def _drawer(scored: Path, config: RunConfig) -> Callable[[int], tuple[pa.Table, pa.Table | None]]:
    scores = read_table(scored / "scores", SCORES)
    vectors = read_embeddings(scored / "embeddings").values if needs_embeddings(config.selection) else None
    column = config.scoring.scorers[0].column
    values = scores[column].to_numpy()
    per_class = np.stack(scores[f"{column}_per_class"].to_pylist()).astype(np.float32)

    def draw(n: int) -> tuple[pa.Table, pa.Table | None]:
        random = np.random.default_rng(n)
        rows, ids = random.integers(0, len(values), n), [f"{i:09d}" for i in range(n)]
        candidates = pa.table({
            "image_id": ids, "sequence": [f"{i // 100:07d}" for i in range(n)], "frame": np.arange(n) % 100,
            column: values[rows], f"{column}_per_class": float_lists(per_class[rows]),
        })  # fmt: skip
        if vectors is None:
            return candidates, None
        noise = random.standard_normal((n, vectors.shape[1]), np.float32) * (_SPREAD * vectors.std(0))
        drawn = (vectors[rows] + noise).astype(np.float32)
        return candidates, pa.table({"image_id": ids, "embedding": float_lists(drawn)})

    return draw
