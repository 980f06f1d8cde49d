"""What a plan rests on, in words: how it was measured, and what was not."""

from __future__ import annotations

from poolscout.config import RunConfig
from poolscout.engine import available_cores
from poolscout.planning.forecast import Growth, Measured
from poolscout.planning.sample import Sample


def notes_of(sample: Sample, measured: Measured, config: RunConfig, *, has_boxes: bool) -> tuple[str, ...]:
    """One sentence or two for each thing a reader should know before believing a figure.

    Args:
        has_boxes: the training was measured on images with their boxes.
    """
    notes = [_sampling(sample, config), _workers(), _scoring(measured)]
    if measured.selection is not None and measured.selection.at < sample.n_pool:
        notes.append(_selection(measured.selection, config))
    if not has_boxes:
        notes.append("the training was measured on images without boxes, as their labels are not there yet")
    if config.shortlist.where is not None:
        notes.append(_shortlist(sample))
    if sample.is_listed:
        notes.append("the pool is listed already: listing is not counted")
    if measured.remote > 0:
        notes.append(
            "network is what is read of files and objects; names that a storage lists, and answers lost on the way, "
            "are not counted"
        )
    mib = config.detector.height * config.detector.width * 3 / 2**20
    notes.append(f"labelled images are held in memory while a round trains on them, {mib:.2f} MiB each")
    notes.append("tables of picks and labels, and the report, are not counted: they are small")
    return tuple(notes)


def _sampling(sample: Sample, config: RunConfig) -> str:
    n, bad = sample.images.num_rows, sample.n_asked - sample.images.num_rows
    where = f"{available_cores()} cores" + ("" if config.device == "cpu" else f" and {config.device}")
    unusable = f" ({bad} of {sample.n_asked} drawn cannot be used)" if bad else ""
    return (
        f"measured with {where} on {n} of {sample.n_pool:,} images drawn at random{unusable}; a range is two standard "
        "errors around what this sample took, and knows nothing of other load on the machine"
    )


def _shortlist(sample: Sample) -> str:
    unchecked = (
        "" if sample.is_listed else ", by what the source says of them: where it gives no width and height, these "
        "count as empty cells"
    )  # fmt: skip
    return (
        f"shortlist.where keeps {sample.n_pool:,} of {sample.n_listed:,} images{unchecked}; all stages but listing are "
        "planned for these"
    )


def _workers() -> str:
    return (
        "a worker is a machine like this one; members are trained side by side, scoring is shared by all, the rest is "
        "done by one; the network between them is not counted"
    )


def _scoring(measured: Measured) -> str:
    share = min(measured.read_s.value / measured.score_s.value, 1.0)
    help_ = (
        "faster storage or more cores help, a faster GPU would not" if share > 0.5 else "the detectors take the rest"
    )
    return (
        f"scoring: reading and decoding take about {share:.0%} of it: {help_}; measured with members trained for a few "
        "steps, as its time does not depend on weights; the boxes that are stored do: disk is from none to "
        "scoring.max_boxes an image"
    )


def _selection(growth: Growth, config: RunConfig) -> str:
    power, sampler = growth.exponent, config.selection.sampler
    return (
        f"selection is an extrapolation: {sampler} was timed on up to {growth.at:,} embeddings drawn around the "
        f"measured ones, without constraints; it grew with their number to the power of {power.value:.2f} "
        f"({power.low:.2f} to {power.high:.2f}), the batch growing alike"
    )
