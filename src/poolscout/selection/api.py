"""Selection from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike

from poolscout.errors import ConfigError, DataError, NonFiniteError, nearest, some
from poolscout.selection.constraints import Lane, pick_batch
from poolscout.selection.registry import Candidates, Metric, Positions, samplers

_NUMBERS_AT_ONCE = 1 << 20


def select(
    scores: ArrayLike | None,
    embeddings: ArrayLike | None,
    n: int | np.integer,
    sampler: str = "top-n",
    metric: str = "euclidean",
    labelled_embeddings: ArrayLike | None = None,
    seed: int = 0,
    sequences: ArrayLike | None = None,
    score_power: float = 1.0,
    start: ArrayLike | None = None,
    device: str = "cpu",
) -> Positions:
    """Positions of the images to label next, in pick order.

    Args:
        scores: [n_images], higher = more informative; None for samplers that do not look at them.
        embeddings: [n_images, d]; None for samplers that do not look at them.
        n: how many to pick; all there are when there are fewer.
        sampler: a registered sampler, e.g. "top-n", "random", "random-per-sequence".
        metric: "euclidean" or "cosine", for samplers that measure distances between embeddings.
        labelled_embeddings: [n_labelled, d] of what is labelled already, for samplers that keep away from it.
        seed: of samplers that draw; the same seed gives the same picks.
        sequences: [n_images] numbers or names of the recordings, for samplers that look at them.
        score_power: samplers that weigh distances by scores use score^score_power; with 0 they need no scores.
        device: where samplers that can use a GPU calculate, e.g. "cuda"; the picks are the same everywhere.
        start: positions that are picked already: they come first, count for n, and are kept away from.

    Returns:
        int64 [min(n, n_images)], distinct. Ties go to the lowest position.

    Raises:
        ConfigError: an unknown sampler or metric, a negative n or score_power.
        CapabilityError: the sampler needs what was not given.
        DataError: shapes that do not fit together; start with positions that are not there, twice, or more than n.
        NonFiniteError: NaN or infinity; names the positions.

    Example:
        >>> select([0.1, 0.7, 0.4], None, n=2).tolist()
        [1, 2]
    """
    chosen = samplers.get(sampler)
    if metric not in get_args(Metric):
        raise ConfigError(
            f"no metric {metric!r}", got=metric, expected=" or ".join(get_args(Metric)),
            fix=nearest(metric, get_args(Metric)) or None,
        )  # fmt: skip
    arrays: dict[str, Any] = {
        "scores": _floats(scores, "scores", 1),
        "embeddings": _floats(embeddings, "embeddings", 2),
        "sequences": None if sequences is None else _codes(np.asarray(sequences)),
    }
    labelled = _floats(labelled_embeddings, "labelled_embeddings", 2)
    n_images = _common_length(arrays)
    _check_same_d(arrays["embeddings"], labelled)
    _check_device(device)
    candidates = Candidates(
        n_images, metric=cast(Metric, metric), labelled_embeddings=labelled, score_power=_power(score_power),
        device=device, **arrays,
    )  # fmt: skip
    n = check_budget(n)
    return pick_batch(chosen, [Lane(candidates)], n, seed, start=_start(start, n, n_images)).positions


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"no device {device!r} here", got=str(error).splitlines()[0], expected="cpu, cuda or cuda:0",
            fix="leave device out",
        ) from error  # fmt: skip


def _power(score_power: float) -> float:
    if not 0 <= score_power < np.inf:
        raise ConfigError("score_power is no power", got=score_power, expected="0 or more", fix="1 is the paper's")
    return float(score_power)


def _start(given: ArrayLike | None, n: int, n_images: int) -> Positions:
    positions = np.empty(0, np.int64) if given is None else np.asarray(given)
    if not positions.size:
        return np.empty(0, np.int64)
    if positions.ndim != 1 or positions.dtype.kind not in "iu" or positions.min() < 0 or positions.max() >= n_images:
        raise DataError(
            "start: no positions of images",
            got=f"{positions.dtype} {list(positions.shape)}: {some(positions.ravel().tolist())}",
            expected=f"whole numbers from 0 to {n_images - 1}",
            fix="pass what an earlier select returned",
        )
    if len(np.unique(positions)) < len(positions) or len(positions) > n:
        raise DataError(
            "start: too many positions", got=f"{len(positions)}, {len(np.unique(positions))} of them different",
            expected=f"at most n = {n}, each once", fix="leave some out, or raise n: those of start count for it",
        )  # fmt: skip
    return positions.astype(np.int64)


def check_budget(n: int | np.integer) -> int:
    """`n` when it is a number of images.

    Raises:
        ConfigError: negative, or no whole number.
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 0:
        raise ConfigError("n is no number of images", got=repr(n), expected="a whole number, 0 or more")
    return int(n)


def check_finite(
    values: np.ndarray,
    name: str,
    image_ids: Sequence[str] | pa.Array | pa.ChunkedArray | None = None,
    rows: Positions | None = None,
) -> None:
    """Refuse NaN and infinity in the rows of `values`, block by block.

    Args:
        values: [m] or [m, d].
        name: of the values, for the message.
        image_ids: of the images; None: the message gives positions.
        rows: the row of each image; None where image i is row i.

    Raises:
        NonFiniteError: names the image ids, or the positions when those are not given.
    """
    n = len(values) if rows is None else len(rows)
    size = max(1, _NUMBERS_AT_ONCE // max(1, values[:1].size))
    bad: list[int] = []
    for lo in range(0, n, size):
        block = values[lo : lo + size] if rows is None else values[rows[lo : lo + size]]
        sick = ~np.isfinite(block)
        if sick.any():
            bad.extend((lo + np.flatnonzero(sick.reshape(len(block), -1).any(1))).tolist())
    if bad:
        raise NonFiniteError(
            f"{name}: NaN or infinity in {len(bad)} rows",
            got=f"positions {some(bad)}" if image_ids is None else some(str(image_ids[i]) for i in bad),
            expected="finite numbers",
            fix="look at these images and at the model that scored them",
        )


def _floats(values: ArrayLike | None, name: str, n_axes: int) -> np.ndarray | None:
    """Scores as float64, which holds every narrower score exactly; embeddings in the float type they have."""
    if values is None:
        return None
    try:
        array = np.asarray(values)
        kept = n_axes == 2 and array.dtype in (np.float16, np.float32, np.float64) and array.dtype.isnative
        array = array if kept else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} are no numbers", got=str(error), expected=f"an array with {n_axes} axes") from error
    if array.ndim != n_axes:
        raise DataError(
            f"{name} have another shape",
            got=array.shape,
            expected="[n_images]" if n_axes == 1 else "[n_images, d]",
            fix="reduce score_maps' classes first, e.g. scores.max(1)" if n_axes == 1 else None,
        )
    if n_axes == 2 and not array.shape[1]:
        raise DataError(f"{name} are empty", got="d = 0", expected="one number or more for each image")
    check_finite(array, name)
    return array


def _codes(names: np.ndarray) -> np.ndarray:
    if names.ndim != 1:
        raise DataError("sequences have another shape", got=names.shape, expected="[n_images]")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _common_length(arrays: Mapping[str, np.ndarray | None]) -> int:
    lengths = {name: len(array) for name, array in arrays.items() if array is not None}
    if not lengths:
        raise DataError(
            "nothing to select from", got="neither scores, embeddings nor sequences", expected="at least one of them"
        )
    if len(set(lengths.values())) > 1:
        raise DataError(
            "the inputs differ in length",
            got=", ".join(f"{name}: {length}" for name, length in lengths.items()),
            expected="one row an image in each",
            fix="take all of them from the same images, in the same order",
        )
    return next(iter(lengths.values()))


def _check_same_d(embeddings: np.ndarray | None, labelled: np.ndarray | None) -> None:
    if embeddings is not None and labelled is not None and embeddings.shape[1] != labelled.shape[1]:
        raise DataError(
            "labelled_embeddings are of another length than embeddings",
            got=f"d = {labelled.shape[1]}",
            expected=f"d = {embeddings.shape[1]}",
            fix="embed both with the same backbone",
        )
