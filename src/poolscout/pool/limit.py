"""How many images of a pool may be unusable before a stage stops and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import DataError
from poolscout.pool.sources import is_lost_container

FEW = 10  # so many need not stop a small pool, as long as they are not half of it


@dataclass(frozen=True)
class QuarantineLimit:
    """At most this share of the images may be rejected; of few images some more, but none where the share is 0.

    Attributes:
        share: `pool.max_quarantined`, 0 … 1.
        n_images: in all.
    """

    share: float
    n_images: int

    @property
    def most(self) -> float:
        """So many images may be rejected."""
        return max(self.share * self.n_images, min(FEW, self.n_images / 2)) if self.share else 0.0

    def check(self, n_rejected: int, reasons: Mapping[str, int], where: str) -> None:
        """Go on, or stop.

        Args:
            n_rejected: images so far.
            reasons: reason → images.
            where: the table that lists them.

        Raises:
            DataError: too many are rejected.
        """
        if n_rejected <= self.most:
            return
        by_count = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
        raise DataError(
            f"too many images cannot be used: {n_rejected:,} of {self.n_images:,}",
            got=", ".join(f"{times:,} {reason}" for reason, times in by_count),
            expected=f"at most {int(self.most):,} (pool.max_quarantined is {self.share:g})",
            fix=f"see {where}; mend the images or their storage and have them looked at again (poolscout quarantine "
            "FOLDER --retry), or raise pool.max_quarantined; the same command then goes on from here",
        )


def check_listing(share: float, pool: pa.Table, quarantine: pa.Table, where: str) -> None:
    """Stop when a listing had to leave out more than `share` of its images.

    Args:
        share: `pool.max_quarantined`.
        pool, quarantine: what was listed, and left out. A tar shard or video that is left out counts as many images as
            the others have on average, less those it gave.
        where: names the quarantine table in the message.

    Raises:
        DataError: too many are left out.
    """
    reasons = Counter(quarantine["reason"].to_pylist())
    lost = _lost_with_containers(pool, quarantine)
    reasons.update({reason: n for reason, n in lost.items() if n})
    n_rejected = reasons.total()
    QuarantineLimit(share, pool.num_rows + n_rejected).check(n_rejected, reasons, where)


def _lost_with_containers(pool: pa.Table, quarantine: pa.Table) -> dict[str, int]:
    """Reason → images that are believed to lie in shards or videos that were left out, beyond one for each."""
    rows = zip(*(quarantine[name].to_pylist() for name in ("image_id", "uri", "reason")), strict=True)
    bad = [(uri, reason) for image_id, uri, reason in rows if is_lost_container(image_id, uri)]
    if not bad:
        return {}
    inside = pool["uri"].filter(pc.match_substring(pool["uri"], "#"))
    counts = pc.value_counts(pc.replace_substring_regex(inside, "#.*$", "")).to_pylist()
    given = {count["values"]: count["counts"] for count in counts}
    whole = [n for uri, n in given.items() if uri not in dict(bad)]
    usual = round(sum(whole) / len(whole)) if whole else 1
    lost = Counter[str]()
    for uri, reason in bad:
        lost[reason] += max(0, usual - given.get(uri, 0) - 1)
    return dict(lost)
