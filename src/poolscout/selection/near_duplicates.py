"""The gate against near-duplicates: no pick closer than a distance to an earlier pick or a labelled image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from poolscout.selection.kernels.vectors import Vectors, exact_pairs
from poolscout.selection.registry import Candidates, Positions

BLOCK = 2048  # candidates compared together …
TILE = 512  # … with so many centres: their products stay in the cache
EXACT_PAIRS = 4096


@dataclass(frozen=True)
class _Points:
    """Rows as stored, their scales, and as they are screened (see `Vectors`)."""

    raw: np.ndarray
    scales: Float64[np.ndarray, " t"]
    y: Float32[np.ndarray, "t d"]
    q: Float32[np.ndarray, " t"]

    def part(self, which: slice | np.ndarray) -> _Points:
        return _Points(self.raw[which], self.scales[which], self.y[which], self.q[which])


class NearDuplicates:
    """Distances are screened in float32 with a bound on their error; where that leaves a doubt, float64 decides.

    Args:
        candidates: with embeddings; images labelled already count as picked.
        min_distance: in the metric; what is as far or farther passes.
    """

    name = "near-duplicate"

    def __init__(self, candidates: Candidates, min_distance: float) -> None:
        assert candidates.embeddings is not None
        self.vectors = Vectors.of(candidates.embeddings, candidates.metric, candidates.rows)
        self.min_distance = min_distance
        self._limit = min_distance / self.vectors.half * self.vectors.unit**2  # of screened distances
        self._labelled = self._of_labelled(candidates)
        self._accepted: list[int] = []
        self._n_known = 0  # accepted ones that no candidate still in play is too close to
        self._queue: dict[int, None] = {}
        self._window: dict[int, int] = {}
        self._pairs = self._shut = np.empty(0, bool)

    def ahead(self, proposals: Positions) -> None:
        self._queue, self._window = dict.fromkeys(proposals.tolist()), {}

    def admits(self, position: int) -> bool:
        if position not in self._window:
            self._look_ahead(position)
        return not self._shut[self._window[position]]

    def accept(self, position: int) -> None:
        self._accepted.append(position)
        if position in self._window:
            self._shut |= self._pairs[self._window[position]]

    def admitted(self, positions: Positions) -> Bool[np.ndarray, " k"]:
        centres = self._points(np.array(self._accepted[self._n_known :], np.int64))
        near = self._near_any(positions, centres)
        if self._labelled is not None:
            near[~near] = self._near_any(positions[~near], self._labelled)
        self._n_known, self._labelled = len(self._accepted), None
        return ~near

    def room(self, positions: Positions) -> int:
        return len(positions)

    def _look_ahead(self, position: int) -> None:
        """Compare the next proposals with what this pass has accepted, and with each other."""
        self._queue.pop(position, None)
        following = [position]
        for other in self._queue:
            if len(following) == TILE:
                break
            following.append(other)
        for other in following[1:]:
            del self._queue[other]
        self._window = {other: place for place, other in enumerate(following)}
        positions = np.array(following, np.int64)
        points = self._points(positions)
        self._pairs = self._closer(points, points)
        self._shut = self._near_any(positions, self._points(np.array(self._accepted[self._n_known :], np.int64)))

    def _near_any(self, positions: Positions, centres: _Points) -> Bool[np.ndarray, " k"]:
        """Which of these are too close to any of the centres."""
        near = np.zeros(len(positions), bool)
        for lo in range(0, len(positions) if len(centres.q) else 0, BLOCK):
            points = self._points(positions[lo : lo + BLOCK])
            left = np.arange(len(points.q))
            for start in range(0, len(centres.q), TILE):
                tile = centres.part(slice(start, start + TILE))
                least = self._screened(points, tile).min(1, initial=np.inf)
                doubtful = np.flatnonzero(least <= self._limit + self._margin(points, tile))
                if len(doubtful):
                    close = doubtful[self._closer(points.part(doubtful), tile).any(1)]
                    near[lo + left[close]] = True
                    kept = np.setdiff1d(np.arange(len(left)), close)
                    points, left = points.part(kept), left[kept]
        return near

    def _closer(self, a: _Points, b: _Points) -> Bool[np.ndarray, "t c"]:
        """Whether a_i is closer to b_j than is allowed."""
        screened, margin = self._screened(a, b), self._margin(a, b)[:, None]
        closer = screened < self._limit - margin
        i, j = np.nonzero(~closer & (screened <= self._limit + margin))
        for lo in range(0, len(i), EXACT_PAIRS):
            one, other = i[lo : lo + EXACT_PAIRS], j[lo : lo + EXACT_PAIRS]
            squared = exact_pairs(a.raw[one], a.scales[one], b.raw[other], b.scales[other])
            closer[one, other] = squared * self.vectors.half < self.min_distance
        return closer

    def _screened(self, a: _Points, b: _Points) -> Float32[np.ndarray, "t c"]:
        squared = a.y @ b.y.T
        squared *= -2
        squared += b.q
        squared += a.q[:, None]
        return squared

    def _margin(self, a: _Points, b: _Points) -> Float64[np.ndarray, " t"]:
        return self.vectors.error * (a.q.astype(np.float64) + float(b.q.max(initial=0.0)))

    def _points(self, positions: Positions) -> _Points:
        raw, scales = self.vectors.raw(positions), self.vectors.scales[positions]
        return _Points(raw, scales, *self.vectors.screened(raw, scales))

    def _of_labelled(self, candidates: Candidates) -> _Points | None:
        labelled = candidates.labelled_embeddings
        if labelled is None or not len(labelled):
            return None
        own = Vectors.of(labelled, candidates.metric)
        raw = own.raw(np.arange(own.n))
        return _Points(raw, own.scales, *self.vectors.screened(raw, own.scales))
