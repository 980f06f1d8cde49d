"""What a run will take, from a few hundred images of its pool: hours, memory, disk and network."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from poolscout.assemble import check_settings, resolve_device, seed_for
from poolscout.config import PoolConfig, RunConfig
from poolscout.engine.progress import Progress, SilentProgress, resident_bytes
from poolscout.errors import ConfigError
from poolscout.formats.annotations import annotation_images, format_of, read_annotations
from poolscout.labels import Oracle, sizes_of
from poolscout.planning.forecast import ZERO, Extent, Figure, Growth, Measured, Plan, StagePlan, forecast
from poolscout.planning.measure import (
    Boxes,
    Evaluated,
    Scored,
    Trained,
    time_evaluation,
    time_reading,
    time_scoring,
    time_training,
)
from poolscout.planning.notes import notes_of
from poolscout.planning.sample import Sample, encoded_bytes, machine_memory_bytes, remote_share, sample_pool
from poolscout.planning.selecting import time_selection
from poolscout.pool import Storage
from poolscout.selection import needs_embeddings
from poolscout.tables.declared import POOL, SCORES
from poolscout.tables.parquet import read_table, write_table

__all__ = ["Extent", "Figure", "Growth", "Measured", "Plan", "StagePlan", "forecast", "make_plan"]

TRAINED_ON = 100  # images of the sample
TEST_IMAGES = 64


def make_plan(
    config: RunConfig,
    *,
    out: Path | None = None,
    images: int = 300,
    workers: Sequence[int] = (1, 2, 8),
    progress: Progress | None = None,
) -> Plan:
    """Measure a sample and a few training steps here, and forecast the run. Nothing is written but to a scratch folder.

    Args:
        config: of the run.
        out: the run's folder; when it has listed the pool, that list is used.
        images: scored, and as many others read.
        workers: numbers of machines like this one to forecast for.
        progress: told what is measured.

    Raises:
        ConfigError: settings that do not fit together, fewer than 2 images or no worker.
        DataError: a pool, labels or test images that cannot be used.
    """
    if images < 2 or not workers or min(workers) < 1:
        raise ConfigError(
            "nothing to plan with", got=f"{images} images, workers {list(workers)}",
            expected="2 images or more, and each number of workers 1 or more",
        )  # fmt: skip
    check_settings(config)
    config = config.model_copy(update={"device": resolve_device(config.device)})
    with tempfile.TemporaryDirectory(prefix="poolscout-plan-") as scratch:
        return _Planning(config, out, images, Path(scratch), progress or SilentProgress()).plan(workers)


@dataclass(frozen=True)
class _Planning:
    config: RunConfig
    out: Path | None
    images: int
    scratch: Path
    progress: Progress

    def plan(self, workers: Sequence[int]) -> Plan:
        config, say = self.config, self.progress.say
        say("naming the images of the pool, checking the headers of a sample")
        listed = None if self.out is None else self.out / "pool"
        seed = seed_for(config.seed, "plan")
        sample = sample_pool(config.pool, listed, 2 * self.images, seed, self.scratch, config.shortlist)
        for_reading, for_scoring = _halves(sample.images)
        boxes, classes, labels_s = self._labels(for_reading.slice(0, TRAINED_ON))
        say(f"reading {for_reading.num_rows} images")
        read_s = time_reading(for_reading, config)
        say("training a few steps")
        trained = time_training(for_reading.slice(0, TRAINED_ON), boxes, classes, config, self.scratch)
        say(f"scoring up to {for_scoring.num_rows} other images")
        scored = time_scoring(for_scoring, trained.member, config, self.scratch)
        tested, n_test, test_bytes = self._evaluation(trained)
        extent = Extent(sample.n_pool, n_test, self._n_initial(), machine_memory_bytes(), sample.n_listed)
        say("selecting at growing sizes")
        selection = time_selection(scored.folder, config, extent.pool)
        measured = self._measured(sample, read_s, trained, scored, tested, selection, labels_s, test_bytes)
        return forecast(measured, extent, config, workers, notes_of(sample, measured, config, has_boxes=bool(boxes)))

    def _measured(
        self, sample: Sample, read_s: Figure, trained: Trained, scored: Scored, tested: Evaluated, selection: Growth,
        labels_s: float, test_bytes: Figure,
    ) -> Measured:  # fmt: skip
        uris, n = sample.images["uri"].to_pylist(), sample.images.num_rows
        write_table(self.scratch / "pool.parquet", POOL, sample.images)
        encoded = encoded_bytes(uris, Storage.of(self.config.pool))
        scores = read_table(scored.folder / "scores", SCORES)
        d = self.config.detector.widths[-1] if needs_embeddings(self.config.selection) else 0
        return Measured(
            names_s=sample.names_s + labels_s, header_s=sample.header_s,
            names_network_bytes=sample.names_network_bytes, header_network_bytes=sample.header_network_bytes,
            row_disk_bytes=(self.scratch / "pool.parquet").stat().st_size / n,
            row_memory_bytes=sample.images.nbytes / n,
            encoded_bytes=Figure.of(encoded) if encoded else ZERO, remote=remote_share(uris),
            read_s=read_s, score_s=scored.seconds, step_s=trained.step_s, calibrate_s=trained.calibrate_s,
            member_bytes=trained.member_bytes, test_s=tested.seconds, test_disk_bytes=tested.disk_bytes,
            test_encoded_bytes=test_bytes, score_disk_bytes=scored.disk_bytes, selection=selection,
            candidate_bytes=scores.nbytes / scores.num_rows + 4.0 * d, base_bytes=float(resident_bytes()),
            pass_bytes=float(scored.peak_bytes), train_bytes=float(trained.peak_bytes),
        )  # fmt: skip

    def _labels(self, images: pa.Table) -> tuple[Boxes, tuple[str, ...], float]:
        """Boxes of the sample as far as an oracle knows them, the classes, and the seconds to read what it knows.

        Unusable boxes are for the run to refuse; those of images outside the sample may only lack the image's size.
        """
        labelling, begun = self.config.labelling, time.perf_counter()
        if labelling.mode == "oracle":
            source = Path(labelling.annotations or self.config.pool.source)
            oracle = Oracle(source, labelling.classes, bad_boxes="drop", sizes=sizes_of(images))
            known = set(oracle.image_ids)
            labels = oracle.reveal([i for i in images["image_id"].to_pylist() if i in known])
            return labels.by_image(oracle.classes), oracle.classes, time.perf_counter() - begun
        if labelling.classes is not None:
            return {}, labelling.classes, 0.0
        if labelling.initial_labels is not None:
            return {}, read_annotations(labelling.initial_labels, bad_boxes="drop").classes, 0.0
        raise ConfigError(
            "labelling.classes: the classes to learn are not known", got="mode: files without classes",
            expected="a list such as [car, person, bicycle]", fix="add labelling.classes to the config",
        )  # fmt: skip

    def _n_initial(self) -> int:
        labelling = self.config.labelling
        return len(annotation_images(labelling.initial_labels)) if labelling.initial_labels else labelling.initial

    def _evaluation(self, trained: Trained) -> tuple[Evaluated, int, Figure]:
        """What a test image takes, how many there are, and the bytes of one that come from elsewhere."""
        evaluation, pool = self.config.evaluation, self.config.pool
        if evaluation.annotations is None:
            return Evaluated(ZERO, 0.0), 0, ZERO
        self.progress.say("finding objects on test images")
        source = PoolConfig(
            source=evaluation.annotations, format=format_of(evaluation.annotations), images=evaluation.images,
            max_pixels=pool.max_pixels, retries=pool.retries, storage_options=pool.storage_options,
        )  # fmt: skip
        sample = sample_pool(source, None, TEST_IMAGES, seed_for(self.config.seed, "plan test"), self.scratch)
        truth = read_annotations(evaluation.annotations, bad_boxes="drop", sizes=sizes_of(sample.images))
        uris = sample.images["uri"].to_pylist()
        encoded = encoded_bytes(uris, Storage.of(source))
        tested = time_evaluation(sample.images, truth, trained.member, self.config, self.scratch)
        return tested, sample.n_pool, (Figure.of(encoded) if encoded else ZERO) * remote_share(uris)


def _halves(images: pa.Table) -> tuple[pa.Table, pa.Table]:
    """One half to read, another to score, which is then not in the system's cache; few images serve twice."""
    if images.num_rows < 64:
        return images, images
    order = np.random.default_rng(0).permutation(images.num_rows)
    first, second = np.array_split(order, 2)
    return images.take(pa.array(np.sort(first))), images.take(pa.array(np.sort(second)))
