"""A shard of points in torch: on a GPU, or on a CPU without Numba. The same picks, bit for bit, as `CompiledShard`."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from poolscout.selection.kernels.state import Block, Centres, Knowledge, Rule
from poolscout.selection.kernels.vectors import BLOCK, Vectors
from poolscout.selection.registry import Known

SAMPLED = 1 << 16  # priorities that a threshold is read off
CELLS = {"cuda": 1 << 26, "cpu": 1 << 18}  # screened distances held at once
PICKS_A_TILE = {"cuda": 4096, "cpu": 256}
PAIRS = {"cuda": 1 << 19, "cpu": 1 << 16}  # distances decided in float64 at once


class TensorShard:
    """Points with what is known of them as tensors on `device`; see `state.Shard` and `state.Knowledge`.

    Every operation on float64 that decides is elementwise, one at a time: nothing is fused or summed in another order.
    """

    def __init__(self, vectors: Vectors, rule: Rule, device: torch.device, known: Known | None = None):
        self.vectors, self.n, self.evaluated, self._n_met = vectors, vectors.n, 0, 0
        self._device, self._race = device, rule.theta is not None
        self._source, self._rows = self._placed(vectors)
        self._scales, self._weight = self._on(vectors.scales), self._on(rule.weight)
        self._theta = self._on(np.zeros(1) if rule.theta is None else rule.theta)
        n = self.n
        begin = Knowledge.blank(n, rule) if known is None else Knowledge.of(known, rule)
        self._d, self._priority, self._event = self._on(begin.d), self._on(begin.priority), self._on(begin.event)
        self._near, self._seen = self._on(begin.near.astype(np.int64)), self._on(begin.seen)
        self._area, self._last = self._on(begin.area), self._on(begin.last)
        self._picked = torch.zeros(n, dtype=torch.bool, device=device)
        self._centres: list[Tensor] = []  # raw, scales, times, screened, norms; joined when they are needed

    def threshold(self, width: int, now: float) -> float:
        if not self.n:
            return np.inf
        sample = self._priority if self.n <= SAMPLED else self._priority[:: self.n // SAMPLED]
        k = max(min(width, self.n) * len(sample) // self.n, 1)
        return float((self._priority.min() if width == 1 else sample.kthvalue(k).values).item())

    def candidates(self, bound: float, now: float) -> Block:
        slots = (self._priority <= bound).nonzero()[:, 0]
        self._bring_up_to_date(slots)
        slots = slots[self._priority[slots] <= bound]
        of_race = slots if self._race else torch.zeros(1, dtype=torch.int64, device=self._device)
        raw = self._raw(slots)
        host = [
            tensor.cpu().numpy()
            for tensor in (
                slots, raw if raw.dtype == torch.float64 else raw.float(), self._scales[slots], self._weight[slots],
                self._theta[of_race], self._d[slots], self._near[slots], self._priority[slots], self._area[of_race],
                self._last[of_race], self._event[of_race],
            )
        ]  # fmt: skip
        host[6] = host[6].astype(np.int32)
        return Block(host[0], host[0].copy(), *host[1:])

    @property
    def n_met(self) -> int:
        return self._n_met

    def settle(self, block: Block) -> None:
        slots = self._on(block.slots)
        self._d[slots], self._priority[slots] = self._on(block.d), self._on(block.priority)
        self._near[slots] = self._on(block.near.astype(np.int64))
        self._seen[slots] = self.n_met + self._on(block.met)
        if self._race:
            self._area[slots], self._last[slots] = self._on(block.area), self._on(block.last)
            self._event[slots] = self._on(block.event)

    def add(self, centres: Centres, taken: Int64[np.ndarray, " p"], now: float, later: float) -> None:
        y, q = self.vectors.screened(centres.raw, centres.scales)
        new = [self._on(part) for part in (centres.raw, centres.scales, centres.times, y, q)]
        self._centres = new if not self._centres else [
            torch.cat(both) for both in zip(self._centres, new, strict=True)
        ]  # fmt: skip
        self._n_met += len(centres)
        slots = self._on(taken)
        self._picked[slots] = True
        self._priority[slots] = np.inf

    def known(self) -> Known:
        d, near, seen = (tensor.cpu().numpy() for tensor in (self._d, self._near, self._seen))
        return Known(d, near.astype(np.int32), seen)

    def unpicked(self) -> Bool[np.ndarray, " n"]:
        return (~self._picked).cpu().numpy()

    def _on(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _placed(self, vectors: Vectors) -> tuple[Tensor, Tensor | None]:
        """The rows, and the row of each point (None: in order); on the CPU the very memory in which they lie."""
        source, rows = vectors.source, vectors.rows
        if self._device.type == "cpu" and min(source.strides) >= 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it may be read-only, and is only read
                return torch.from_numpy(np.asarray(source)), None if rows is None else self._on(rows)
        placed = torch.empty((vectors.n, vectors.d), dtype=_dtype(source), device=self._device)
        for lo in range(0, vectors.n, BLOCK):
            mine = slice(lo, lo + BLOCK) if rows is None else rows[lo : lo + BLOCK]
            placed[lo : lo + BLOCK] = torch.from_numpy(np.array(source[mine])).to(self._device)
        return placed, None

    def _raw(self, slots: Int64[Tensor, " t"]) -> Tensor:
        return self._source[slots if self._rows is None else self._rows[slots]]

    def _bring_up_to_date(self, slots: Int64[Tensor, " t"]) -> None:
        slots = slots[self._seen[slots] < self.n_met]
        if not len(slots):
            return
        slots = slots[self._seen[slots].argsort(stable=True)]
        width = min(PICKS_A_TILE[self._device.type], self.n_met)
        size = max(CELLS[self._device.type] // width, 1)
        for lo in range(0, len(slots), size):
            tile = slots[lo : lo + size]
            first = int(self._seen[tile[0]])
            y, q = self._screened(tile)
            for c in range(first, self.n_met, width):
                self._meet(tile, y, q, c, min(c + width, self.n_met))
            self.evaluated += len(tile) * (self.n_met - first)
        self._seen[slots] = self.n_met
        self._priority[slots] = self._event[slots] if self._race else -self._weight[slots] * self._d[slots]

    def _screened(self, slots: Int64[Tensor, " t"]) -> tuple[Float32[Tensor, "t d"], Float32[Tensor, " t"]]:
        scaled = self._raw(slots).double() * self._scales[slots, None]
        y = ((scaled - self._on(self.vectors.mean)) * self.vectors.unit).float()
        return y, y.double().square().sum(1).float()

    def _meet(
        self, slots: Int64[Tensor, " t"], y: Float32[Tensor, "t d"], q: Float32[Tensor, " t"], lo: int, hi: int
    ) -> None:
        """Let points meet centres lo … hi−1: those that float32 cannot rule out are decided in float64, in order."""
        raw, scales, _, screened, norms = self._centres
        error, unit2 = self.vectors.error, self.vectors.unit**2
        twice = y @ (screened[lo:hi].T * 2)
        below, above = norms[lo:hi] * (1 - error) - twice, norms[lo:hi] * (1 + error) - twice
        least = (
            torch.cummin(above, 1).values + (2 * error * q + 2 * self.vectors.tiny)[:, None]
        )  # no later centre above this can be nearer
        may = torch.ones_like(below, dtype=torch.bool)
        may[:, 1:] = below[:, 1:] <= least[:, :-1]
        limit = ((self._d[slots] * unit2).clamp(max=1e37) + self.vectors.tiny).float() - q * (1 - error)
        may &= (below <= limit[:, None]) & (self._d[slots] > 0)[:, None]
        may &= torch.arange(lo, hi, device=self._device) >= self._seen[slots, None]
        rows, columns = may.nonzero(as_tuple=True)
        if not len(rows):
            return
        if len(rows) > PAIRS[self._device.type] and len(slots) > 1:  # many near-duplicates
            for half in (slice(None, len(slots) // 2), slice(len(slots) // 2, None)):
                self._meet(slots[half], y[half], q[half], lo, hi)
            return
        e = _exact(self._raw(slots[rows]), self._scales[slots[rows]], raw[lo + columns], scales[lo + columns])
        turn = torch.arange(len(rows), device=self._device) - torch.searchsorted(rows, rows)  # rows ascend
        table = torch.full((len(slots), int(turn.max()) + 1), np.inf, dtype=torch.float64, device=self._device)
        centre = torch.zeros(table.shape, dtype=torch.int64, device=self._device)
        table[rows, turn], centre[rows, turn] = e, lo + columns
        if self._race:
            self._run(slots, table, centre)
        else:
            e, which = table.min(1)
            nearer = e < self._d[slots]
            self._near[slots] = torch.where(nearer, centre.gather(1, which[:, None])[:, 0], self._near[slots])
            self._d[slots] = torch.minimum(e, self._d[slots])

    def _run(
        self, slots: Int64[Tensor, " t"], table: Float64[Tensor, "t steps"], centre: Int64[Tensor, "t steps"]
    ) -> None:
        """The race goes on through centres that may be nearer, in order, as in `compiled.scan`."""
        d, near, theta = self._d[slots], self._near[slots], self._theta[slots]
        area, last, event = self._area[slots], self._last[slots], self._event[slots]
        for step in range(table.shape[1]):
            e, time = table[:, step], self._centres[2][centre[:, step]]
            nearer = e < d
            area = torch.where(nearer & (d < np.inf), area + (time - last) * d, area)
            last, near = torch.where(nearer, time, last), torch.where(nearer, centre[:, step], near)
            fires = torch.where(e > 0, torch.maximum(event, last + (theta - area) / e), np.inf)
            event, d = torch.where(nearer, fires, event), torch.where(nearer, e, d)
        self._d[slots], self._near[slots] = d, near
        self._area[slots], self._last[slots], self._event[slots] = area, last, event


def _exact(a: Tensor, scales_a: Tensor, b: Tensor, scales_b: Tensor) -> Float64[Tensor, " p"]:
    """`exact_squared` of p pairs of rows."""
    e = a.double() * scales_a[:, None] - b.double() * scales_b[:, None]
    e = torch.nn.functional.pad(e, (0, -e.shape[1] % 8))
    squares = (e * e).view(len(e), -1, 8)
    lanes = torch.zeros_like(squares[:, 0])
    for k in range(squares.shape[1]):
        lanes += squares[:, k]
    even = (lanes[:, 0] + lanes[:, 4]) + (lanes[:, 2] + lanes[:, 6])
    return even + ((lanes[:, 1] + lanes[:, 5]) + (lanes[:, 3] + lanes[:, 7]))


def _dtype(source: np.ndarray) -> torch.dtype:
    return {2: torch.float16, 4: torch.float32, 8: torch.float64}[source.dtype.itemsize]
