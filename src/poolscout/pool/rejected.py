"""Why an image cannot be used."""

from __future__ import annotations

from poolscout.errors import DataError


class RejectedImage(DataError):
    """An image that cannot be used; a stage catches it and quarantines the image.

    Attributes:
        reason: missing, unreadable, empty, undecodable, oversized, truncated, size differs or unsafe name.
        detail: the decoder's or the storage's words, or the sizes.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"image rejected: {reason}", got=detail, fix="repair or remove the image")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type[RejectedImage], tuple[str, str]]:
        return RejectedImage, (self.reason, self.detail)
