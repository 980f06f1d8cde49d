"""A shard of points on the CPU: states in NumPy, matrix products in torch, inner loops compiled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from poolscout.selection.kernels.compiled import collect, nearest_pick, scan, tighten
from poolscout.selection.kernels.groups import Groups, find_groups
from poolscout.selection.kernels.state import Block, Centres, Growing, Knowledge, Rule
from poolscout.selection.kernels.vectors import Vectors
from poolscout.selection.registry import Known

PICKS_A_TILE = 256  # with as many points: a tile stays in the cache between the product and the scan
POINTS_A_TILE = 1024
GROUPS_A_TILE = 2048
UNGROUPED = 64  # points looked through together where there are no groups
NOTHING = np.zeros(1, np.float32)


class CompiledShard:
    """Points with their `Knowledge`; see `state.Shard`.

    Points live in *slots*, group by group; `rows` maps a slot to the row of the vectors, which is also its position.
    """

    def __init__(
        self,
        vectors: Vectors,
        rule: Rule,
        pool: ThreadPoolExecutor,
        n_threads: int,
        *,
        grouped: bool,
        known: Known | None = None,
    ):
        self.vectors, self.n, self.evaluated = vectors, vectors.n, 0
        self._pool, self._n_threads = pool, n_threads
        self._groups = find_groups(vectors, pool) if grouped else None
        self._rows = None if self._groups is None else self._groups.rows
        self._slots = None if self._rows is None else np.argsort(self._rows)
        self._scales = self._of_slots(vectors.scales)
        self._weight = self._of_slots(rule.weight)
        self._race = rule.theta is not None
        self._theta = np.zeros(1) if rule.theta is None else self._of_slots(rule.theta)
        self._known = Knowledge.blank(self.n, rule)
        if known is not None:
            of_slots = Known(*(self._of_slots(part) for part in (known.d, known.near, known.seen)))
            self._known = Knowledge.of(of_slots, Rule(self._weight, self._theta if self._race else None))
        self._picked = np.zeros(self.n, np.bool_)
        self._raw_centres, self._screened, self._norms = Growing(), Growing(), Growing()
        self._centre_scales, self._times = Growing(), Growing()
        self._eligible = np.empty(0, np.int64)  # points that may reach the threshold given last
        self._lay_out(self._groups)

    def _lay_out(self, groups: Groups | None) -> None:
        if groups is None:
            self._starts = np.append(np.arange(0, self.n, UNGROUPED), self.n)
            self._group_bound = np.full(len(self._starts) - 1, -np.inf)
            return
        n_groups = len(groups.centres)
        self._starts, self._group_bound = groups.starts, np.full(n_groups, -np.inf)
        self._centre_norms = np.square(groups.centres, dtype=np.float64).sum(1).astype(np.float32)
        self._distance2 = np.full(n_groups, np.inf)  # of screening space
        self._group_near = np.full(n_groups, -1, np.int64)
        self._heaviest = np.maximum.reduceat(self._weight, groups.starts[:-1])
        self._clock = np.zeros(n_groups)
        if self._race:
            self._known.ring[:] = self._theta
            self._first_ring = np.minimum.reduceat(self._theta, groups.starts[:-1])

    def threshold(self, width: int, now: float) -> float:
        if not self.n:
            return np.inf
        if self._groups is not None:
            farthest = self._farthest()
            with np.errstate(divide="ignore", invalid="ignore"):
                bound = now + (self._first_ring - self._clock) / farthest if self._race else -self._heaviest * farthest
            np.fmax(self._group_bound, bound, out=self._group_bound)
        k = min(width, len(self._group_bound)) - 1
        bound = float(np.partition(self._group_bound, k)[k])
        self._eligible = self._collected(bound, now)
        if self._groups is not None and not self._race:
            self._eligible = self._tightened(self._eligible, bound)
        if len(self._eligible) > 2 * width:  # groups that are all alike: no more than can be worked through
            bound = float(np.partition(self._known.priority[self._eligible], 2 * width)[2 * width])
        return bound

    def candidates(self, bound: float, now: float) -> Block:
        slots = self._eligible[self._known.priority[self._eligible] <= bound]
        self._bring_up_to_date(slots, now)
        known, slots = self._known, slots[self._known.priority[slots] <= bound]
        positions = slots if self._rows is None else self._rows[slots]
        order = np.argsort(positions)
        slots, positions = slots[order], positions[order]
        of_race = slots if self._race else np.zeros(1, np.int64)
        return Block(
            slots, positions, self.vectors.raw(positions), self._scales[slots], self._weight[slots],
            self._theta[of_race], known.d[slots], known.near[slots], known.priority[slots], known.area[of_race],
            known.last[of_race], known.event[of_race],
        )  # fmt: skip

    @property
    def n_met(self) -> int:
        return self._times.n

    def settle(self, block: Block) -> None:
        known, slots = self._known, block.slots
        known.d[slots], known.near[slots], known.priority[slots] = block.d, block.near, block.priority
        known.seen[slots] = self.n_met + block.met
        if self._race:
            known.area[slots], known.last[slots], known.event[slots] = block.area, block.last, block.event

    def add(self, centres: Centres, taken: Int64[np.ndarray, " p"], now: float, later: float) -> None:
        first = self._times.n
        if self._groups is not None and self._race and later > now:
            self._clock += (later - now) * self._farthest()
        y, q = self.vectors.screened(centres.raw, centres.scales)
        for store, new in (
            (self._raw_centres, centres.raw), (self._centre_scales, centres.scales), (self._times, centres.times),
            (self._screened, y), (self._norms, q),
        ):  # fmt: skip
            store.append(new)
        slots = taken if self._slots is None else self._slots[taken]
        self._picked[slots], self._known.priority[slots] = True, np.inf
        if self._groups is not None:
            self._meet_groups(first)

    def known(self) -> Known:
        by = slice(None) if self._slots is None else self._slots
        return Known(self._known.d[by].copy(), self._known.near[by].copy(), self._known.seen[by].copy())

    def unpicked(self) -> Bool[np.ndarray, " n"]:
        left = np.empty(self.n, np.bool_)
        left[slice(None) if self._rows is None else self._rows] = ~self._picked
        return left

    def _of_slots(self, of_positions: np.ndarray) -> np.ndarray:
        return of_positions.copy() if self._rows is None else of_positions[self._rows]

    def _farthest(self) -> Float64[np.ndarray, " groups"]:
        """Upper bound of the squared distance from any point of a group to its nearest centre."""
        assert self._groups is not None
        return ((np.sqrt(self._distance2) + self._groups.reach) / self.vectors.unit) ** 2 * (1 + 1e-9)

    def _collected(self, bound: float, now: float) -> Int64[np.ndarray, " t"]:
        groups = self._groups
        distance = np.sqrt(self._distance2) if groups is not None else NOTHING
        cuts = np.linspace(0, len(self._group_bound), self._n_threads + 1).astype(np.int64)

        def part(number: int) -> list[int]:
            return collect(
                self._starts, self._group_bound, cuts[number], cuts[number + 1], bound, self._known.priority,
                groups is not None, self._race, self._weight, distance,
                NOTHING if groups is None else groups.radius, self.vectors.unit,
                NOTHING if groups is None else self._clock, self._known.ring, now,
            )  # fmt: skip

        return np.concatenate([np.array(found, np.int64) for found in self._pool.map(part, range(self._n_threads))])

    def _tightened(self, slots: Int64[np.ndarray, " t"], bound: float) -> Int64[np.ndarray, " k"]:
        """Those that reach the bound after one exact distance each, to the centre that is nearest to their group."""
        known = self._known
        chosen = self._group_near[np.searchsorted(self._starts, slots, side="right") - 1]
        is_new = (known.near[slots] != chosen) & (known.seen[slots] <= chosen)
        new, chosen = slots[is_new], chosen[is_new]

        def part(mine: np.ndarray) -> None:
            own, d, near = new[mine], known.d[new[mine]], known.near[new[mine]]
            tighten(
                self._raw(own), self._scales[own], self._raw_centres.rows, self._centre_scales.rows, chosen[mine], d,
                near,
            )  # fmt: skip
            known.d[own], known.near[own] = d, near

        tiles = -(-len(new) // POINTS_A_TILE)
        list(self._pool.map(part, np.array_split(np.arange(len(new)), max(tiles, 1))))
        self.evaluated += len(new)
        known.priority[new] = np.maximum(known.priority[new], -self._weight[new] * known.d[new])
        return slots[known.priority[slots] <= bound]

    def _raw(self, slots: Int64[np.ndarray, " t"]) -> np.ndarray:
        return self.vectors.raw(slots if self._rows is None else self._rows[slots])

    def _bring_up_to_date(self, slots: Int64[np.ndarray, " t"], now: float) -> None:
        """Let points meet every centre they have not met: one float32 product a tile, float64 where it may matter."""
        known, k = self._known, self._times.n
        slots = slots[known.seen[slots] < k]
        slots = slots[np.argsort(known.seen[slots], kind="stable")]  # so that a tile's points lack about the same
        size = int(np.clip(-(-len(slots) // (2 * self._n_threads)), 128, POINTS_A_TILE))
        tiles = range(0, len(slots), size)
        self.evaluated += sum(self._pool.map(lambda lo: self._meet(slots[lo : lo + size]), tiles))
        known.seen[slots] = k
        if self._race:
            known.priority[slots] = known.event[slots]
            if self._groups is not None:
                group = np.searchsorted(self._starts, slots, side="right") - 1
                used = known.area[slots] + (now - known.last[slots]) * known.d[slots] * (1 + 1e-9)
                known.ring[slots] = self._clock[group] + (self._theta[slots] - used)
        else:
            known.priority[slots] = -self._weight[slots] * known.d[slots]

    def _meet(self, slots: Int64[np.ndarray, " t"]) -> int:
        """Bring one tile of points up to date; returns the number of distances evaluated."""
        known, k, error = self._known, self._times.n, self.vectors.error
        raw, scales = self._raw(slots), self._scales[slots]
        y, q = self.vectors.screened(raw, scales)
        below = q * np.float32(1 - error)
        d, near, seen = known.d[slots], known.near[slots], known.seen[slots]
        of_race = slots if self._race else np.zeros(1, np.int64)
        area, last, event = known.area[of_race], known.last[of_race], known.event[of_race]
        theta, rows = self._theta[of_race], torch.from_numpy(y)
        for lo in range(int(seen[0]), k, PICKS_A_TILE):
            hi = min(lo + PICKS_A_TILE, k)
            dots = torch.mm(rows, torch.from_numpy(self._screened.rows[lo:hi]).T).numpy()
            scan(
                dots, self._norms.rows[lo:hi] * np.float32(1 - error), below, self.vectors.unit**2, self.vectors.tiny,
                raw, scales, self._raw_centres.rows, self._centre_scales.rows, self._times.rows, lo, seen, d, near,
                area, last, event, theta, self._race,
            )  # fmt: skip
        known.d[slots], known.near[slots] = d, near
        if self._race:
            known.area[slots], known.last[slots], known.event[slots] = area, last, event
        return len(slots) * (k - int(seen[0]))

    def _meet_groups(self, first: int) -> None:
        """Let the groups' centres meet the centres from the `first` on."""
        groups, k = self._groups, self._times.n
        assert groups is not None

        def tile(of: Sequence[int]) -> None:
            g, lo = of
            h, hi = min(g + GROUPS_A_TILE, len(groups.centres)), min(lo + PICKS_A_TILE, k)
            rows, picks = torch.from_numpy(groups.centres[g:h]), torch.from_numpy(self._screened.rows[lo:hi])
            nearest_pick(
                torch.mm(rows, picks.T).numpy(), self._norms.rows[lo:hi], self._centre_norms[g:h], self.vectors.error,
                self.vectors.tiny, self._distance2[g:h], self._group_near[g:h], lo,
            )  # fmt: skip

        for lo in range(first, k, PICKS_A_TILE):
            list(self._pool.map(tile, [(g, lo) for g in range(0, len(groups.centres), GROUPS_A_TILE)]))
        self.evaluated += len(groups.centres) * (k - first)
