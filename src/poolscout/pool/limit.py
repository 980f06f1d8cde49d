"""How many images of a pool may be unusable before a stage stops and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from poolscout.errors import DataError

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
            fix=f"see {where}; mend the images or their storage, or raise pool.max_quarantined; "
            "what is finished is kept, and the same command goes on from here",
        )


def check_listing(share: float, n_usable: int, quarantine: pa.Table, where: str) -> None:
    """Stop when a listing had to leave out more than `share` of its images; `where` names the table of those.

    Raises:
        DataError: too many are left out.
    """
    reasons = Counter(quarantine["reason"].to_pylist())
    QuarantineLimit(share, n_usable + quarantine.num_rows).check(quarantine.num_rows, reasons, where)
