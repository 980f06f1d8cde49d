"""The nearest images of every image within a radius: exact, with groups of near-duplicates compared only where near."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64
from torch import Tensor

_QUERIES = 256  # rows compared with all candidates at once: 256 × 200,000 float32 are 205 MB
_CHUNK = 64  # of candidates, see _smallest
_NEW_LEADERS = 512
_ROWS_PER_LEADER = 32  # more leaders would cost more than the comparisons they save


def nearest(features: Float64[np.ndarray, "n d"], k: int, radius: float) -> Int32[np.ndarray, "n k"]:
    """Positions of each row's k nearest other rows in no order, −1 where fewer are within the radius.

    Which rows are nearest is decided in float32, whose rounding may let in rows just outside the radius.
    Rows are put into groups around leaders, one leader l to each row. With ρ_g the largest distance of a row of g to
    its leader, rows of g and h are at least ‖l_g − l_h‖ − ρ_g − ρ_h apart (triangle inequality), so that groups for
    which this exceeds the radius need not be compared. Rows that no leader is near are compared with all.

    O(n² d) where nothing is near anything, as always in high dimensions; for clips, O(n d) times clips and clip length.
    """
    rows = torch.from_numpy(features.astype(np.float32))
    halves = rows.square().sum(1) / 2
    slack = 4 * (rows.shape[1] + 2) * 2.0**-24 * float(halves.max())  # of a squared distance in float32
    leaders, group, distance = _lead(rows, halves, radius / 2)
    loose = torch.nonzero(distance > radius / 2)[:, 0]
    group[loose] = len(leaders)
    order = torch.argsort(group, stable=True)
    members = torch.split(order, torch.bincount(group, minlength=len(leaders) + 1).tolist())
    reach = torch.tensor([float(distance[m].max()) + slack**0.5 if len(m) else 0.0 for m in members[:-1]])
    result = np.full((len(rows), k), -1, np.int32)
    far = [loose]
    for g, own in enumerate(members[:-1]):
        squared = 2 * (halves[leaders] + halves[leaders[g]] - rows[leaders] @ rows[leaders[g]])
        near = torch.nonzero((squared - slack).clamp(min=0).sqrt() <= radius + reach + reach[g])[:, 0]
        candidates = torch.cat([own, *(members[h] for h in near.tolist() if h != g), loose])
        if len(candidates) > len(rows) // 2:  # nothing to save: leave these to large blocks
            far.append(own)
        else:
            _fill(result, rows, halves, candidates, torch.arange(len(own)), radius, slack)
    _fill(result, rows, halves, torch.arange(len(rows)), torch.cat(far), radius, slack)
    return result


def _lead(rows: Tensor, halves: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of leaders [g], and each row's nearest leader [n] and its distance [n].

    Rows that no leader is near are made leaders, some at a time and evenly over the positions, until every row has one
    within the radius or there are too many.
    """
    n = len(rows)
    leaders = torch.empty(0, dtype=torch.int64)
    group, squared = torch.zeros(n, dtype=torch.int64), torch.full((n,), torch.inf)
    alone = torch.arange(n)
    while len(alone) and len(leaders) < n // _ROWS_PER_LEADER:
        step = -(-len(alone) // _NEW_LEADERS)
        new = alone[::step]
        for block in torch.split(torch.arange(n), 4096):
            found = 2 * (halves[new] - rows[block] @ rows[new].T)
            best = found.min(1)
            value = (best.values + 2 * halves[block]).clamp(min=0)
            closer = value < squared[block]
            squared[block] = torch.where(closer, value, squared[block])
            group[block] = torch.where(closer, best.indices + len(leaders), group[block])
        leaders = torch.cat([leaders, new])
        alone = torch.nonzero(squared > radius**2)[:, 0]
    return leaders, group, squared.sqrt()


def _fill(
    result: Int32[np.ndarray, "n k"],
    rows: Tensor,
    halves: Tensor,
    candidates: Tensor,
    queries: Tensor,
    radius: float,
    slack: float,
) -> None:
    """Write the rows of `result` of the candidates at `queries`."""
    if not len(queries):
        return
    everything = len(candidates) == len(rows)
    others, other_halves = (rows, halves) if everything else (rows[candidates], halves[candidates])
    k = min(result.shape[1], len(candidates) - 1)
    for block in torch.split(queries, _QUERIES):
        # ‖b‖²/2 − a·b orders the candidates as the distance does.
        keys = torch.addmm(other_halves, others[block], others.T, alpha=-1)
        keys[torch.arange(len(block)), block] = torch.inf
        values, found = _smallest(keys, k)
        outside = 2 * (values + other_halves[block, None]) > radius**2 + slack
        result[candidates[block].numpy(), :k] = torch.where(outside, -1, candidates[found]).numpy()


def _smallest(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row and where they are, in no order.

    They lie in the k chunks with the smallest minima: the chunk of one of them has a minimum that is no larger, and no
    more than k chunks have one as small. So only k chunks of 64 need be looked through, not the whole row.
    """
    n_chunks = keys.shape[1] // _CHUNK
    if n_chunks <= 8 * k:  # one selection among all is faster
        smallest = keys.topk(k, largest=False, sorted=False)
        return smallest.values, smallest.indices
    whole, rest = keys[:, : n_chunks * _CHUNK].unflatten(1, (n_chunks, _CHUNK)), keys[:, n_chunks * _CHUNK :]
    chunks = whole.amin(2).topk(k, largest=False, sorted=False).indices
    values = whole.gather(1, chunks[:, :, None].expand(-1, -1, _CHUNK)).flatten(1)
    places = (chunks[:, :, None] * _CHUNK + torch.arange(_CHUNK)).flatten(1)
    values = torch.cat([values, rest], 1)
    places = torch.cat([places, torch.arange(n_chunks * _CHUNK, keys.shape[1]).expand(len(keys), -1)], 1)
    smallest = values.topk(k, largest=False, sorted=False)
    return smallest.values, places.gather(1, smallest.indices)


def pairs(neighbours: Int32[np.ndarray, "n k"]) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    """Each pair of which one is among the other's neighbours, once: (lower position, higher position)."""
    n = len(neighbours)
    keys = []
    for start in range(0, n, 65536):
        part = neighbours[start : start + 65536]
        row, column = np.nonzero(part >= 0)
        other, row = part[row, column].astype(np.int64), row + start
        keys.append(np.minimum(row, other) * n + np.maximum(row, other))
    joined = np.concatenate(keys)
    joined.sort()
    joined = joined[np.diff(joined, prepend=-1) > 0]
    return joined // n, joined % n
